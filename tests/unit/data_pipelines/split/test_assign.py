from data_pipelines.config import SplitSection
from data_pipelines.split.assign import Item, SplitPlan, find_cutoff, plan_split
from finetune.contracts.dataset import Split

SECTION = SplitSection()


def files(*times, clusters=None):
    return [Item(time, (clusters[place] if clusters else place,)) for place, time in enumerate(times)]


def plan(items, edits=(), section=SECTION):
    return plan_split(items, edits, section=section, seed=0)


def test_the_newest_files_are_held_out():
    done = plan(files(*range(20)))
    assert (done.method, done.cutoff_at, done.heldout_clusters) == ("time", 17, frozenset({17, 18, 19}))


def test_a_cluster_across_the_cut_is_held_out_and_its_old_members_purged():
    items = files(*range(20), clusters=[0] * 1 + list(range(1, 19)) + [0])
    done = plan(items)
    assert done.side_of(items[19]) is Split.HELDOUT
    assert done.side_of(items[0]) is None
    assert done.side_of(items[1]) is Split.TRAIN


def test_an_old_edit_of_a_held_out_cluster_is_purged_and_a_new_edit_holds_its_clusters():
    items = files(*range(20))
    old, new = Item(3, (2, 19)), Item(18, (4,))
    done = plan(items, [old, new])
    assert done.side_of(old) is None
    assert done.side_of(new) is Split.HELDOUT
    assert done.side_of(items[4]) is None, "the file that the held-out edit shows must not be learned"


def test_a_short_history_falls_back_to_clusters():
    done = plan(files(*[7] * 20))
    assert done.method == "cluster"
    assert done.cutoff_at is None
    assert "1 commits" in done.note
    assert len(done.heldout_clusters) == 3


def test_one_sweeping_commit_falls_back_to_clusters():
    done = plan(files(1, 2, 3, 4, *[5] * 16))
    assert done.method == "cluster"
    assert "newest commit" in done.note


def test_clusters_stay_whole_and_train_is_never_empty():
    items = files(*[7] * 6, clusters=[0, 0, 0, 0, 0, 1])
    done = plan(items)
    sides = {item.clusters[0]: done.side_of(item) for item in items}
    assert len(set(sides.values())) <= 2
    assert Split.TRAIN in sides.values()


def test_an_edit_across_the_sides_is_left_out():
    done = SplitPlan("cluster", None, frozenset({1}))
    assert done.side_of(Item(0, (1, 2))) is None
    assert done.side_of(Item(0, (1,))) is Split.HELDOUT
    assert done.side_of(Item(0, (2, 3))) is Split.TRAIN


def test_the_cut_is_the_commit_whose_share_is_nearest():
    times = [1] * 50 + [2] * 20 + [3] * 12 + [4] * 10 + [5] * 8
    assert find_cutoff(times, SECTION)[0] == 4
    assert find_cutoff(times, SplitSection(heldout_share=0.3))[0] == 3
