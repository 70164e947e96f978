from data_pipelines.config import SplitSection
from data_pipelines.split.cutoff import WEEK_SECONDS, find_cutoff

SECTION = SplitSection()
DAY_SECONDS = WEEK_SECONDS // 7


def test_the_cut_is_the_commit_whose_share_is_nearest():
    times = [1] * 50 + [2] * 20 + [3] * 12 + [4] * 10 + [5] * 8
    assert find_cutoff(times, SECTION)[0] == 4
    assert find_cutoff(times, SplitSection(heldout_share=0.3))[0] == 3


def test_as_many_weeks_are_held_out_as_are_asked_for():
    times = [day * DAY_SECONDS for day in range(100)]
    assert find_cutoff(times, SECTION)[0] == 85 * DAY_SECONDS
    assert find_cutoff(times, SplitSection(min_weeks=3))[0] == (99 - 21) * DAY_SECONDS
    assert find_cutoff(times, SplitSection(min_weeks=1))[0] == 85 * DAY_SECONDS


def test_weeks_that_touch_too_much_are_named():
    times = [day * DAY_SECONDS for day in range(20)]
    cutoff, note = find_cutoff(times, SplitSection(min_weeks=2))
    assert cutoff is None
    assert note == "the last 2 weeks touch more than 35% of the files"


def test_the_cut_never_moves_back():
    times = [*range(100)]
    assert find_cutoff(times, SECTION, earliest=95)[0] == 95
    assert find_cutoff(times, SECTION, earliest=40)[0] == 85


def test_what_is_held_already_moves_the_cut_forward():
    assert find_cutoff([*range(90)], SECTION, num_held=10, earliest=50)[0] == 85
    assert find_cutoff([*range(90)], SECTION, num_held=30, earliest=50)[0] == 90, "nothing more is held out"


def test_when_too_much_is_held_already_nothing_more_is():
    assert find_cutoff([*range(50)], SECTION, num_held=50, earliest=10)[0] == 50


def test_a_sweeping_commit_after_an_earlier_build_is_learned():
    assert find_cutoff([5] * 90, SECTION, num_held=10, earliest=3)[0] == 6


def test_the_weeks_do_not_move_the_cut_back():
    times = [day * DAY_SECONDS for day in range(100)]
    assert find_cutoff(times, SplitSection(min_weeks=4), num_held=5, earliest=80 * DAY_SECONDS)[0] == 80 * DAY_SECONDS
