"""The commit time from which files are held out."""

from bisect import bisect_left
from collections.abc import Sequence

from data_pipelines.config import SplitSection

WEEK_SECONDS = 7 * 24 * 3600


def find_cutoff(
    times: Sequence[int], section: SplitSection, *, num_held: int = 0, earliest: int | None = None
) -> tuple[int | None, str]:
    """The commit time from which files are held out so that their share is nearest to the one aimed at.

    num_held files more are held out whatever the cut-off is. earliest is the cut-off of the build before, None if there
    was none: the new one is never older, and lies after all files where enough are held already. None with the reason
    when there are too few commits, or when no cut keeps the share in bounds.
    """
    moments = sorted(set(times))
    if earliest is None and len(moments) < section.min_commits:
        return None, f"the files come from {len(moments)} commits; a cut in time needs {section.min_commits}"
    ordered = sorted(times)
    total = max(1, len(times) + num_held)
    best: tuple[float, int] | None = None
    for moment in _candidates(moments, section, num_held=num_held, earliest=earliest):
        share = (num_held + len(ordered) - bisect_left(ordered, moment)) / total
        distance = abs(share - section.heldout_share)
        if 0 < share <= section.max_heldout_share and (best is None or distance < best[0]):
            best = (distance, moment)
    if best is not None and (num_held or best[0] < section.heldout_share):
        return best[1], ""
    if num_held and earliest is not None:
        return max([earliest, *(moment + 1 for moment in moments[-1:])]), ""
    if section.min_weeks:
        return None, f"the last {section.min_weeks} weeks touch more than {section.max_heldout_share:.0%} of the files"
    return None, f"the newest commit alone touches more than {section.max_heldout_share:.0%} of the files"


def _candidates(moments: list[int], section: SplitSection, *, num_held: int, earliest: int | None) -> list[int]:
    if not moments:
        return []
    latest = moments[-1] - section.min_weeks * WEEK_SECONDS if section.min_weeks else moments[-1] + 1
    if earliest is None:
        return [moment for moment in moments[1:] if moment <= latest]
    # the moment after the newest file: earlier builds hold enough, what is new goes to train
    later = [moment for moment in (*moments, moments[-1] + 1) if moment >= earliest]
    return [moment for moment in (earliest, *later) if moment <= max(latest, earliest)]
