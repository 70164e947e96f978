import pytest

from data_pipelines.config import SplitSection
from data_pipelines.split.assign import Item, Placement, SplitPlan, plan_split
from finetune.contracts.dataset import Slice, Split

SECTION = SplitSection()
ALL_NOVEL = SplitSection(novel_share=1, max_purged_share=1)
TRAIN = Placement(Split.TRAIN)
NOVEL = Placement(Split.HELDOUT, Slice.NOVEL)
EVOLVING = Placement(Split.HELDOUT, Slice.EVOLVING)


def files(*times, clusters=None):
    return [Item(f"f{place}", time, (clusters[place] if clusters else place,)) for place, time in enumerate(times)]


def plan(items, edits=(), section=SECTION):
    return plan_split(items, edits, section=section, seed=0)


def assert_closed(done, items):
    """No novel item shares a cluster with a train item."""
    placed = [(item, done.place(item)) for item in items]
    novel = {cluster for item, place in placed if place == NOVEL for cluster in item.clusters}
    assert [item for item, place in placed if place == TRAIN and not novel.isdisjoint(item.clusters)] == []


def test_the_newest_files_are_held_out_and_novel_without_older_twins():
    items = files(*range(20))
    done = plan(items)
    assert (done.method, done.cutoff_at) == ("time", 17)
    assert [done.place(item) for item in items] == [TRAIN] * 17 + [NOVEL] * 3


def test_a_cluster_across_the_cut_is_evolving_once_enough_is_novel():
    items = files(*range(20), clusters=[0, *range(1, 19), 0])
    done = plan(items)
    assert done.place(items[19]) == EVOLVING
    assert done.place(items[0]) == TRAIN
    assert done.place(items[18]) == NOVEL


def test_a_cluster_across_the_cut_is_purged_while_too_little_is_novel():
    items = files(*range(20), clusters=[0, *range(1, 19), 0])
    done = plan(items, section=ALL_NOVEL)
    assert done.place(items[19]) == NOVEL
    assert done.place(items[0]) is None
    assert done.reason(items[0]) == "twin of a held-out file"
    assert done.place(items[1]) == TRAIN


def test_the_cheapest_clusters_are_purged_first():
    # clusters 0, 1, 2 lie across the cut with 3, 1 and 2 older members
    items = files(*range(20), clusters=[0, 0, 0, 1, 2, 2, *range(6, 17), 0, 1, 2])
    done = plan(items, section=SplitSection(novel_share=0.6))
    assert [done.place(item) for item in items[17:]] == [EVOLVING, NOVEL, NOVEL]
    assert [done.place(item) for item in items[:6]] == [TRAIN, TRAIN, TRAIN, None, None, None]
    assert_closed(done, items)


def test_the_seed_decides_between_clusters_of_equal_cost():
    items = files(*range(20), clusters=[*range(17), 0, 1, 2])
    section = SplitSection(novel_share=0.3)
    plans = [plan_split(items, (), section=section, seed=seed) for seed in range(12)]
    assert {tuple(done.place(item) for item in items).index(NOVEL) for done in plans} == {17, 18, 19}


def test_no_more_of_train_is_purged_than_is_allowed():
    items = files(*range(20), clusters=[0, 0, 0, 1, 2, 2, *range(6, 17), 0, 1, 2])
    done = plan(items, section=SplitSection(novel_share=1, max_purged_share=0.1))
    assert [done.place(item) for item in items[17:]] == [EVOLVING, NOVEL, EVOLVING]


def test_an_edit_is_novel_only_when_all_its_clusters_are():
    items = files(*range(20))
    new, mixed = Item("r:2", 18, (18, 19)), Item("r:3", 18, (4, 19))
    done = plan(items, [new, mixed], section=SplitSection(max_purged_share=0))
    assert done.place(new) == NOVEL
    assert done.place(mixed) == EVOLVING
    assert done.place(items[4]) == TRAIN


def test_an_old_edit_of_a_novel_cluster_is_left_out():
    items = files(*range(20))
    old = Item("r:1", 3, (2, 19))
    done = plan(items, [old], section=ALL_NOVEL)
    assert done.place(old) is None
    assert done.reason(old) == "edit of a held-out file"
    assert done.place(items[2]) == TRAIN
    assert_closed(done, [*items, old])


def test_nothing_is_purged_that_makes_nothing_novel():
    items = files(*range(20))
    # 40 older edits stand in the way of the one edit that touches clusters 0 and 1
    edits = [Item(f"r:{place}", 1, (1,)) for place in range(40)] + [Item("r:new", 19, (0, 1))]
    done = plan(items, edits, section=SplitSection(novel_share=1, max_purged_share=0.5))
    assert done.place(edits[-1]) == EVOLVING
    assert done.place(items[0]) == TRAIN, "cluster 0 alone would be cheap, and of no use"


def test_a_text_committed_again_is_left_out():
    items = [*files(*range(19), clusters=[*range(19)]), Item("f3", 19, (3,))]
    done = plan(items, section=SplitSection(max_purged_share=0))
    assert done.place(items[2]) == TRAIN
    assert done.place(items[19]) is None
    assert done.reason(items[19]) == "equal to a file in train"


def test_a_short_history_falls_back_to_clusters_and_all_is_novel():
    items = files(*[7] * 20)
    done = plan(items)
    assert (done.method, done.cutoff_at) == ("cluster", None)
    assert "1 commits" in done.note
    assert [done.place(item) for item in items].count(NOVEL) == 3
    assert [done.place(item) for item in items].count(TRAIN) == 17


def test_one_sweeping_commit_falls_back_to_clusters():
    done = plan(files(1, 2, 3, 4, *[5] * 16))
    assert done.method == "cluster"
    assert "newest commit" in done.note


def test_when_train_would_be_empty_clusters_are_drawn():
    items = files(*range(20), clusters=[0] * 10 + [1] * 7 + [0, 1, 2])
    done = plan(items, section=ALL_NOVEL)
    assert done.method == "cluster"
    assert "twin after it" in done.note
    assert_closed(done, items)
    assert TRAIN in map(done.place, items)


def test_clusters_stay_whole_and_train_is_never_empty():
    items = files(*[7] * 6, clusters=[0, 0, 0, 0, 0, 1])
    done = plan(items)
    sides = [done.place(item) for item in items]
    assert len(set(sides[:5])) == 1
    assert TRAIN in sides


def test_by_cluster_an_edit_across_the_sides_is_left_out():
    done = SplitPlan("cluster", None, frozenset({1}))
    assert done.place(Item("r:1", 0, (1, 2))) is None
    assert done.place(Item("r:2", 0, (1,))) == NOVEL
    assert done.place(Item("r:3", 0, (2, 3))) == TRAIN


@pytest.mark.parametrize("seed", range(40))
def test_novel_is_closed_for_any_items(seed):
    """Files and edits drawn at random, in any order: the plan is the same, and no cluster is both novel and train."""
    from data_pipelines.draw import Draw

    draw = Draw("items", seed)
    items = [Item(f"f{place}", draw.below(60), (draw.below(30),)) for place in range(60)]
    edits = [Item(f"r:{place}", draw.below(60), tuple({draw.below(30) for _ in range(3)})) for place in range(40)]
    section = SplitSection(novel_share=draw.fraction(), max_purged_share=draw.fraction())
    done = plan(items, edits, section)
    everything = [*items, *edits]
    assert_closed(done, everything)
    again = plan(items[::-1], edits[::-1], section)
    assert [again.place(item) for item in everything] == [done.place(item) for item in everything]
    if done.method == "time":
        train = [item for item in everything if not done.is_held(item)]
        assert sum(done.place(item) is None for item in train) <= section.max_purged_share * len(train)
