"""Who is held out, and what that proves: a cut in time, clusters made novel by purging, decisions that last."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Literal

from data_pipelines.config import SplitSection
from data_pipelines.draw import Draw
from data_pipelines.split.cutoff import find_cutoff
from data_pipelines.split.sticky import Decision, Sticky
from finetune.contracts.dataset import Slice, Split


@dataclass(frozen=True, slots=True)
class Item:
    """A file or an edit. key: SHA-256 of the redacted text of a file, "repo:commit" of an edit. time: the committer's.

    clusters: verified near-duplicate clusters it touches, one at least: that of a file; those of the files of an edit
    before, after and at the head.
    """

    key: str
    time: int
    clusters: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an item goes; slice is None in train."""

    split: Split
    slice: Slice | None = None


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """method and cutoff_at as in SplitRecord; note says why it fell back to clusters.

    No train item touches a cluster of novel. starts holds, for clusters that an earlier build found novel, the time of
    the oldest item that it held out: what is newer is held out too. taught holds the time of the newest train item of
    clusters. copies are keys of held-out files whose very text is in train.
    """

    method: Literal["time", "cluster"]
    cutoff_at: int | None
    novel: frozenset[int]
    note: str = ""
    sticky: Sticky = field(default_factory=Sticky)
    starts: Mapping[int, int] = field(default_factory=dict)
    taught: Mapping[int, int] = field(default_factory=dict)
    copies: frozenset[str] = frozenset()

    def place(self, item: Item) -> Placement | None:
        """Where an item goes; None when it must be left out, for the reason that reason() tells."""
        if self.reason(item):
            return None
        if self.is_held(item):
            proves = Slice.NOVEL if self.novel.issuperset(item.clusters) else Slice.EVOLVING
            return Placement(Split.HELDOUT, proves)
        return Placement(Split.TRAIN)

    def is_held(self, item: Item) -> bool:
        """Whether an item belongs to the held-out side, be it left out there or not."""
        if item.key in self.sticky.decided:
            return self.sticky.decided[item.key] is not Decision.LEFT_OUT
        if is_new(item, self.cutoff_at, self.starts):
            return True
        return self.method == "cluster" and self.novel.issuperset(item.clusters)

    def reason(self, item: Item) -> str:
        """Why place() gives None; "" when it does not."""
        earlier = self.sticky.decided.get(item.key)
        if earlier is Decision.LEFT_OUT:
            return "twin of what an earlier build held out"
        if self.is_held(item):
            if earlier is None and item.key in self.copies:
                return "equal to a file in train"
            # the cut has moved on since it was held out: what became of it would be learned
            is_past = any(self.taught.get(cluster, item.time - 1) >= item.time for cluster in item.clusters)
            return "train goes on from it" if is_past else ""
        if self.novel.isdisjoint(item.clusters):
            return ""
        return "twin of a held-out file" if len(item.clusters) == 1 else "edit of a held-out file"


def plan_split(
    files: Sequence[Item],
    edits: Sequence[Item],
    *,
    section: SplitSection,
    seed: int,
    sticky: Sticky | None = None,
    seen: Iterable[tuple[str, int]] = (),
) -> SplitPlan:
    """Cut by time where the history allows it, else draw whole clusters by hash. files must not be empty.

    sticky is what the build before decided. seen are (key, cluster) of texts that are no items but stand in the
    near-duplicate index, such as both sides of edits: a held-out file that was rewritten since is known by them.
    """
    sticky = sticky or Sticky()
    closed, starts = _earlier(chain(files, edits), sticky, seen)
    held = SplitPlan("time", None, frozenset(closed), "", sticky, starts)
    free = [item.time for item in files if not (held.is_held(item) and held.novel.issuperset(item.clusters))]
    cutoff, note = find_cutoff(free, section, num_held=len(files) - len(free), earliest=sticky.cutoff_at)
    if cutoff is not None:
        plan = SplitPlan("time", cutoff, frozenset(closed), "", sticky, starts)
        novel = _novel([*files, *edits], plan, section=section, seed=seed)
        plan = SplitPlan("time", cutoff, novel, "", sticky, starts)
        if any(not plan.is_held(item) and not plan.reason(item) for item in files):
            return _settled(plan, files, edits)
        note = "every file from before the cut in time has a twin after it"
    drawn = _drawn(files, section, seed=seed, held=held)
    return _settled(SplitPlan("cluster", None, frozenset(closed | drawn), note, sticky, starts), files, edits)


def write_sticky(folder: Path, plan: SplitPlan, items: Iterable[Item]) -> Path:
    """Write what this build decided about its items, and what earlier ones did about items that are gone."""
    decided = dict(plan.sticky.decided)
    for item in items:
        placement = plan.place(item)
        if item.key in plan.copies:
            continue
        if placement is None:
            decided.setdefault(item.key, Decision.EVOLVING if plan.is_held(item) else Decision.LEFT_OUT)
        elif placement.slice is not None:
            decided[item.key] = Decision(placement.slice.value)
    latest = [moment for moment in (plan.cutoff_at, plan.sticky.cutoff_at) if moment is not None]
    return Sticky(decided, max(latest, default=None)).write(folder)


def is_new(item: Item, cutoff: int | None, starts: Mapping[int, int]) -> bool:
    """Whether an item lies at or after the cut-off, or is no older than what was held out of a closed cluster."""
    if cutoff is not None and item.time >= cutoff:
        return True
    return bool(starts) and any(item.time >= starts.get(cluster, item.time + 1) for cluster in item.clusters)


def _earlier(items: Iterable[Item], sticky: Sticky, seen: Iterable[tuple[str, int]]) -> tuple[set[int], dict[int, int]]:
    """Clusters that are novel for ever, and since when they have been held out."""
    closed: set[int] = set()
    starts: dict[int, int] = {}
    if not sticky.decided:
        return closed, starts
    for item in items:
        decision = sticky.decided.get(item.key)
        # an edit of several clusters may have been left out for one of them alone
        if decision is Decision.NOVEL or (decision is Decision.LEFT_OUT and len(item.clusters) == 1):
            closed.update(item.clusters)
        if decision is Decision.NOVEL:
            for cluster in item.clusters:
                starts[cluster] = min(item.time, starts.get(cluster, item.time))
    for key, cluster in seen:
        if sticky.decided.get(key) is Decision.NOVEL:
            closed.add(cluster)
            starts[cluster] = min(sticky.cutoff_at or 0, starts.get(cluster, sticky.cutoff_at or 0))
    return closed, starts


def _novel(items: Sequence[Item], plan: SplitPlan, *, section: SplitSection, seed: int) -> frozenset[int]:
    """Clusters without an older item, and those whose older items are purged, until enough of what is held is novel.

    Purged is by what a held-out item needs to be novel, so that nothing leaves train without making an item novel.
    """
    held = [plan.is_held(item) for item in items]
    older = _train_by_cluster(items, held, plan)
    touched = {cluster for item, is_held in zip(items, held, strict=True) if is_held for cluster in item.clusters}
    novel = set(plan.novel) | {cluster for cluster in touched if cluster not in older}
    needs: dict[tuple[int, ...], int] = defaultdict(int)
    for item, is_held in zip(items, held, strict=True):
        # nothing is purged for what an earlier build held out and the cut has passed
        if is_held and (is_new(item, plan.cutoff_at, {}) or novel.issuperset(item.clusters)):
            needs[tuple(sorted(cluster for cluster in set(item.clusters) if cluster not in novel))] += 1
    num_novel = needs.pop((), 0)
    num_held = num_novel + sum(needs.values())
    # what earlier builds purged counts, so that purges do not add up from build to build
    purged = {place for place, item in enumerate(items) if not held[place] and plan.reason(item)}
    most = section.max_purged_share * (len(items) - sum(held))
    for need in _cheapest_first(needs, older, seed):
        if num_novel >= section.novel_share * num_held:
            break
        if max(len(older[cluster]) for cluster in need) > most:
            continue
        going = {place for cluster in need for place in older[cluster]} - purged
        if len(purged) + len(going) <= most:
            purged |= going
            novel.update(need)
            num_novel += needs[need]
    return frozenset(novel)


def _train_by_cluster(items: Sequence[Item], held: Sequence[bool], plan: SplitPlan) -> dict[int, list[int]]:
    """Places of the items that would be learned, by the clusters they touch."""
    older: dict[int, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        if not held[place] and not plan.reason(item):
            for cluster in set(item.clusters):
                older[cluster].append(place)
    return dict(older)


def _cheapest_first(
    needs: Mapping[tuple[int, ...], int], older: Mapping[int, list[int]], seed: int
) -> Iterator[tuple[int, ...]]:
    costs = [
        (sum(len(older[cluster]) for cluster in need), Draw("novel", seed, *need).below(1 << 60), need)
        for need in needs
    ]
    return (need for _, _, need in sorted(costs))


def _settled(plan: SplitPlan, files: Sequence[Item], edits: Sequence[Item]) -> SplitPlan:
    """The plan with what is known once train is: texts that are in train, and how far train goes in each cluster."""
    past: set[int] = set()
    for item in chain(files, edits) if plan.starts or plan.sticky.decided else ():
        if plan.is_held(item) and not is_new(item, plan.cutoff_at, {}):
            past.update(item.clusters)
    taught: dict[int, int] = {}
    for item in chain(files, edits) if past else ():
        if plan.place(item) == Placement(Split.TRAIN):
            for cluster in past.intersection(item.clusters):
                taught[cluster] = max(item.time, taught.get(cluster, item.time))
    sides = [(item.key, plan.place(item)) for item in files]
    learned = {key for key, placement in sides if placement is not None and placement.split is Split.TRAIN}
    again = {key for key, placement in sides if placement is not None and placement.split is Split.HELDOUT}
    return replace(plan, taught=taught, copies=frozenset(learned & again))


def _drawn(files: Sequence[Item], section: SplitSection, *, seed: int, held: SplitPlan) -> set[int]:
    """Whole clusters in the order of a hash, as many as the files that earlier builds held leave to be drawn."""
    members: dict[int, int] = defaultdict(int)
    taken = 0
    for item in files:
        if held.is_held(item) or held.reason(item):
            taken += held.is_held(item)
        else:
            members[item.clusters[0]] += 1
    order = sorted(members, key=lambda cluster: Draw("split", seed, cluster).below(1 << 60))
    wanted = max(1, round(section.heldout_share * len(files)))
    chosen: set[int] = set()
    for cluster in order[:-1]:
        if taken >= wanted:
            break
        if taken + members[cluster] <= max(wanted, section.max_heldout_share * len(files)):
            chosen.add(cluster)
            taken += members[cluster]
    return chosen
