"""What other ways of splitting would leak on this very data: the same share held out, by five methods."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from data_pipelines.split.assign import Item, SplitPlan
from finetune.contracts.dataset import LeakageRow, Slice, Split

Mask = NDArray[np.bool_]
OURS = "time + clusters"


def leakage_table(
    items: Sequence[Item], *, commits: Iterable[str], paths: Iterable[str], plan: SplitPlan, seed: int
) -> tuple[LeakageRow, ...]:
    """One row per method, and two of the plan: its novel and its evolving items.

    commits and paths name the commit and the (first) path of each item, with the repository in front of the path. Every
    method holds out as many items as the plan does.
    """
    placed = [plan.place(item) for item in items]
    train = _mask(place is not None and place.split is Split.TRAIN for place in placed)
    novel = _mask(place is not None and place.slice is Slice.NOVEL for place in placed)
    evolving = _mask(place is not None and place.slice is Slice.EVOLVING for place in placed)
    times = np.fromiter((item.time for item in items), np.int64, len(items))
    touch = _Touch(items)
    share = int(novel.sum() + evolving.sum())
    others = {
        "random rows": _whole_groups((item.key for item in items), share, seed=seed),
        "by commit": _whole_groups(commits, share, seed=seed),
        "by path": _whole_groups(paths, share, seed=seed),
        "newest by time": _newest(times, share),
    }
    rows = [touch.row(method, heldout, train=~heldout) for method, heldout in others.items()]
    rows += [
        touch.row(f"{OURS}: {name}", mask, train=train)
        for name, mask in ((Slice.NOVEL, novel), (Slice.EVOLVING, evolving))
    ]
    return tuple(rows)


class _Touch:
    """Which items touch which clusters, as two columns."""

    def __init__(self, items: Sequence[Item]) -> None:
        counts = np.fromiter((len(item.clusters) for item in items), np.int64, len(items))
        self._items = np.repeat(np.arange(len(items)), counts)
        clusters = np.fromiter((cluster for item in items for cluster in item.clusters), np.int64, int(counts.sum()))
        self._clusters = np.unique(clusters, return_inverse=True)[1] if len(clusters) else clusters

    def row(self, method: str, heldout: Mask, *, train: Mask) -> LeakageRow:
        """Held-out items of which a train item touches a cluster."""
        taught = np.zeros(int(self._clusters.max(initial=-1)) + 1, np.bool_)
        taught[self._clusters[train[self._items]]] = True
        near = np.unique(self._items[heldout[self._items] & taught[self._clusters]])
        return LeakageRow(method=method, train=int(train.sum()), heldout=int(heldout.sum()), near=len(near))


def _mask(values: Iterable[bool]) -> Mask:
    return np.array(list(values), np.bool_)


def _whole_groups(names: Iterable[str], wanted: int, *, seed: int) -> Mask:
    """Whole groups in the order of a hash of their names, until wanted items are held out."""
    key = str(seed).encode()
    digests = (blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8, key=key).digest() for name in names)
    hashes = np.fromiter((int.from_bytes(digest) for digest in digests), np.uint64)
    _, group, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    # a group is taken while fewer than wanted items were taken before it
    before = np.cumsum(sizes) - sizes
    return np.asarray((before < wanted)[group], np.bool_)


def _newest(times: NDArray[np.int64], wanted: int) -> Mask:
    """The newest items: all from the commit time on from which there are wanted."""
    if not wanted:
        return np.zeros(len(times), np.bool_)
    return np.asarray(times >= np.sort(times)[-wanted], np.bool_)
