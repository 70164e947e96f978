"""Who is held out: files by the time of the commit that gave them their content, whole clusters at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from data_pipelines.config import SplitSection
from data_pipelines.draw import Draw
from finetune.contracts.dataset import Split


@dataclass(frozen=True, slots=True)
class Item:
    """A file or an edit: when it was committed and the clusters it touches (one for a file, several for an edit)."""

    time: int
    clusters: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """method and cutoff_at as in SplitRecord; heldout_clusters are held out whole; note says why it fell back."""

    method: Literal["time", "cluster"]
    cutoff_at: int | None
    heldout_clusters: frozenset[int]
    note: str = ""

    def side_of(self, item: Item) -> Split | None:
        """Where an item goes; None when it must be left out, because it would put a twin on the other side.

        By time an item from before the cut that has a held-out twin is purged. By cluster an edit that touches both
        sides is.
        """
        held = [cluster in self.heldout_clusters for cluster in item.clusters]
        if self.method == "time":
            assert self.cutoff_at is not None
            if item.time >= self.cutoff_at:
                return Split.HELDOUT
            return None if any(held) else Split.TRAIN
        if all(held):
            return Split.HELDOUT
        return None if any(held) else Split.TRAIN


def plan_split(files: Sequence[Item], edits: Sequence[Item], *, section: SplitSection, seed: int) -> SplitPlan:
    """Cut by time where the history allows it, else draw whole clusters by hash. files must not be empty."""
    cutoff, note = find_cutoff([item.time for item in files], section)
    if cutoff is None:
        return SplitPlan("cluster", None, _drawn(files, section, seed), note)
    heldout = {cluster for item in (*files, *edits) if item.time >= cutoff for cluster in item.clusters}
    if not any(item.time < cutoff and heldout.isdisjoint(item.clusters) for item in files):
        note = "every file from before the cut in time has a twin after it"
        return SplitPlan("cluster", None, _drawn(files, section, seed), note)
    return SplitPlan("time", cutoff, frozenset(heldout))


def find_cutoff(times: Sequence[int], section: SplitSection) -> tuple[int | None, str]:
    """The commit time from which files are held out so that their share is nearest to the one aimed at.

    None with the reason when there are too few commits, or when no cut keeps the share in bounds.
    """
    moments = sorted(set(times))
    if len(moments) < section.min_commits:
        return None, f"the files come from {len(moments)} commits; a cut in time needs {section.min_commits}"
    best: tuple[float, int] | None = None
    for moment in moments[1:]:
        share = sum(time >= moment for time in times) / len(times)
        if share <= section.max_heldout_share:
            distance = abs(share - section.heldout_share)
            if best is None or distance < best[0]:
                best = (distance, moment)
    if best is None or best[0] >= section.heldout_share:
        return None, f"the newest commit alone touches more than {section.max_heldout_share:.0%} of the files"
    return best[1], ""


def _drawn(files: Sequence[Item], section: SplitSection, seed: int) -> frozenset[int]:
    members: dict[int, int] = {}
    for item in files:
        members[item.clusters[0]] = members.get(item.clusters[0], 0) + 1
    order = sorted(members, key=lambda cluster: Draw("split", seed, cluster).below(1 << 60))
    wanted = max(1, round(section.heldout_share * len(files)))
    chosen: set[int] = set()
    taken = 0
    for cluster in order[:-1]:
        if taken >= wanted:
            break
        if taken + members[cluster] <= max(wanted, section.max_heldout_share * len(files)):
            chosen.add(cluster)
            taken += members[cluster]
    return frozenset(chosen)
