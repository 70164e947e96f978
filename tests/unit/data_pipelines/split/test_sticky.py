"""Later builds of the same dataset: what was held out once is never learned."""

import pytest

from data_pipelines.config import SplitSection
from data_pipelines.draw import Draw
from data_pipelines.split.assign import Item, Placement, plan_split, write_sticky
from data_pipelines.split.sticky import SPLIT_NAME, Decision, Sticky
from finetune.contracts.dataset import Slice, Split
from finetune.contracts.errors import DatasetError

SECTION = SplitSection(max_purged_share=0.1)
TRAIN = Placement(Split.TRAIN)
NOVEL = Placement(Split.HELDOUT, Slice.NOVEL)
EVOLVING = Placement(Split.HELDOUT, Slice.EVOLVING)


def history(*times):
    """A file of its own cluster per commit time."""
    return [Item(f"text-{time}", time, (time,)) for time in times]


class Dataset:
    """A dataset folder that is built again and again."""

    def __init__(self, folder):
        self.folder = folder

    def build(self, files, edits=(), *, section=SECTION, seen=()):
        sticky = Sticky.read(self.folder)
        plan = plan_split(files, edits, section=section, seed=0, sticky=sticky, seen=seen)
        write_sticky(self.folder, plan, [*files, *edits])
        return plan


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path)


def held(plan, items):
    return {item.key for item in items if (place := plan.place(item)) and place.split is Split.HELDOUT}


def test_no_dataset_decides_nothing(tmp_path):
    assert Sticky.read(tmp_path / "none") == Sticky()
    assert Sticky.read(tmp_path) == Sticky()


def test_decisions_are_read_back_and_equal_ones_give_equal_bytes(tmp_path):
    sticky = Sticky({"b": Decision.NOVEL, "a": Decision.LEFT_OUT, "c": Decision.EVOLVING}, 17)
    first = sticky.write(tmp_path).read_bytes()
    assert Sticky.read(tmp_path) == sticky
    assert Sticky(dict(sorted(sticky.decided.items())), 17).write(tmp_path).read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == [SPLIT_NAME]
    assert Sticky.read(Sticky().write(tmp_path).parent) == Sticky()


@pytest.mark.parametrize("damage", [lambda content: content[:40], lambda content: b"", lambda content: b"PAR1" * 9])
def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path, damage):
    path = Sticky({"a": Decision.NOVEL}, 3).write(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError, match=r"split.parquet is damaged") as caught:
        Sticky.read(tmp_path)
    assert "--out" in caught.value.hint


def test_the_same_commits_give_the_same_split_and_the_same_bytes(dataset):
    files = history(*range(40))
    first = dataset.build(files)
    written = (dataset.folder / SPLIT_NAME).read_bytes()
    again = dataset.build(files)
    assert [first.place(item) for item in files] == [again.place(item) for item in files]
    assert (dataset.folder / SPLIT_NAME).read_bytes() == written


def test_after_new_commits_what_was_held_out_stays_and_train_grows(dataset):
    old = history(*range(40))
    first = dataset.build(old)
    assert first.cutoff_at == 34
    grown = history(*range(60))
    second = dataset.build(grown)
    assert held(first, old) <= held(second, grown)
    assert second.cutoff_at > first.cutoff_at
    assert second.place(grown[40]) == TRAIN, "enough was held out by the build before"
    assert len(held(second, grown)) == pytest.approx(0.15 * 60, abs=1)


def test_daily_builds_keep_the_share(dataset):
    before = set()
    for days in range(30, 120):
        files = history(*range(days))
        plan = dataset.build(files)
        now = held(plan, files)
        assert before <= now
        assert len(now) / days < 0.2
        before = now


def test_after_a_force_push_what_comes_back_is_held_out_again(dataset):
    files = history(*range(40))
    first = dataset.build(files)
    cut = history(*range(36))
    second = dataset.build(cut)
    assert second.cutoff_at >= first.cutoff_at, "the cut never moves back"
    assert held(second, cut) == {"text-34", "text-35"}
    # the same texts under commits that look older
    back = [*cut, Item("text-38", 2, (2,)), Item("text-39", 3, (39,))]
    third = dataset.build(back)
    assert {"text-38", "text-39"} <= held(third, back)


def test_when_all_that_was_held_out_is_gone_clusters_are_drawn(dataset):
    dataset.build(history(*range(40)))
    rest = history(*range(30))
    plan = dataset.build(rest)
    assert plan.method == "cluster"
    assert 0 < len(held(plan, rest)) < 30
    assert Sticky.read(dataset.folder).cutoff_at == 34


def test_an_added_repository_brings_no_twin_of_a_novel_file_into_train(dataset):
    files = history(*range(40))
    first = dataset.build(files)
    assert first.place(files[39]) == NOVEL
    # the other repository holds an older twin of a novel file, a newer one, and files of its own
    added = [
        Item("twin-old", 5, (39,)),
        Item("twin-new", 39, (39,)),
        *(Item(f"own-{n}", n, (100 + n,)) for n in range(30)),
    ]
    plan = dataset.build([*files, *added])
    assert plan.place(files[39]) == NOVEL
    assert plan.place(added[0]) is None
    assert plan.place(added[1]) == NOVEL
    assert plan.place(added[5]) == TRAIN


def test_what_was_left_out_for_a_novel_twin_stays_out_when_the_twin_is_gone(dataset):
    files = [*history(*range(39)), Item("twin", 39, (0,))]
    section = SplitSection(novel_share=1)
    first = dataset.build(files, section=section)
    assert (first.place(files[0]), first.place(files[39])) == (None, NOVEL)
    second = dataset.build(files[:39], section=section)
    assert second.place(files[0]) is None
    assert second.reason(files[0]) == "twin of what an earlier build held out"


def test_an_edit_left_out_for_one_cluster_does_not_close_its_others(dataset):
    files = history(*range(40))
    edit = Item("r:1", 3, (2, 39))
    section = SplitSection(novel_share=1)
    assert dataset.build(files, [edit], section=section).place(edit) is None
    second = dataset.build(files, [edit], section=section)
    assert second.place(edit) is None
    assert second.place(files[2]) == TRAIN


def test_what_train_goes_on_from_is_neither_held_out_nor_learned(dataset):
    """An evolving edit of cluster 0 is held out; a later state of that file would tell what it did."""
    files = [*history(*range(39)), Item("file", 39, (0,))]
    edit = Item("r:1", 39, (0,))
    section = SplitSection(max_purged_share=0)
    assert dataset.build(files, [edit], section=section).place(edit) == EVOLVING
    later = [*history(*range(39)), Item("file-later", 45, (0,)), *history(*range(46, 80))]
    second = dataset.build(later, [edit], section=section)
    assert second.cutoff_at > 45
    assert second.place(later[39]) == TRAIN
    assert second.place(edit) is None
    assert second.reason(edit) == "train goes on from it"
    third = dataset.build([*later[:39], *later[40:]], [edit], section=section)
    assert third.place(edit) == EVOLVING, "nothing newer is in train any more"


def test_a_rewritten_novel_file_is_known_by_the_edits_that_show_it(dataset):
    files = history(*range(40))
    dataset.build(files)
    rewritten = [*history(*range(39)), *(Item(f"text-{n}", n, (n,)) for n in range(40, 60)), Item("anew", 60, (39,))]
    older = Item("twin", 3, (39,))
    plan = dataset.build([*rewritten, older], seen=[("text-39", 39)])
    assert plan.place(rewritten[-1]) == NOVEL
    assert plan.place(older) is None


def test_a_copy_that_was_left_out_does_not_take_its_original_with_it(dataset):
    files = [*history(*range(39)), Item("text-3", 39, (3,))]
    section = SplitSection(max_purged_share=0)
    first = dataset.build(files, section=section)
    assert (first.place(files[3]), first.place(files[39])) == (TRAIN, None)
    assert dataset.build(files, section=section).place(files[3]) == TRAIN


def test_purges_of_later_builds_do_not_add_up():
    sticky = Sticky({f"text-{n}": Decision.LEFT_OUT for n in range(8)}, 40)
    files = [*history(*range(40)), Item("new", 45, (20,))]
    for most, expected in ((0.2, EVOLVING), (0.25, NOVEL)):
        section = SplitSection(novel_share=1, max_purged_share=most)
        assert plan_split(files, [], section=section, seed=0, sticky=sticky).place(files[-1]) == expected


def test_a_cluster_draw_lasts_when_the_history_grows(dataset):
    short = [Item(f"text-{n}", 7, (n,)) for n in range(20)]
    first = dataset.build(short)
    assert first.method == "cluster"
    grown = [*short, *(Item(f"text-{n}", n, (n,)) for n in range(20, 40))]
    second = dataset.build(grown)
    assert second.method == "time"
    assert held(first, short) <= held(second, grown)


@pytest.mark.parametrize("seed", range(25))
def test_over_any_builds_nothing_held_out_is_learned(dataset, seed):
    """Items come and go at random over eight builds of one dataset."""
    draw = Draw("builds", seed)
    files = [Item(f"f{n}", draw.below(400), (draw.below(60),)) for n in range(200)]
    edits = [Item(f"r:{n}", draw.below(400), tuple({draw.below(60) for _ in range(2)})) for n in range(100)]
    section = SplitSection(novel_share=draw.fraction(), max_purged_share=draw.fraction() / 2)
    ever, cutoff = set(), 0
    for build in range(8):
        now = [item for item in files if item.time <= 240 + 20 * build and draw.fraction() < 0.9]
        seen = [item for item in edits if item.time <= 240 + 20 * build and draw.fraction() < 0.9]
        plan = dataset.build(now, seen, section=section)
        placed = [(item, plan.place(item)) for item in (*now, *seen)]
        train = [item for item, place in placed if place == TRAIN]
        novel = {cluster for item, place in placed if place == NOVEL for cluster in item.clusters}
        ever |= held(plan, [*now, *seen])
        assert not ever & {item.key for item in train}
        assert all(novel.isdisjoint(item.clusters) for item in train)
        oldest = {}
        for item in (item for item, place in placed if place in (NOVEL, EVOLVING)):
            for cluster in item.clusters:
                oldest[cluster] = min(item.time, oldest.get(cluster, item.time))
        assert all(item.time < oldest.get(cluster, item.time + 1) for item in train for cluster in item.clusters)
        assert (plan.cutoff_at or cutoff) >= cutoff
        cutoff = plan.cutoff_at or cutoff


def test_a_newer_state_of_a_novel_file_is_held_out_though_the_cut_has_passed_it(dataset):
    dataset.build(history(*range(40)))
    grown = [*history(*range(80)), Item("newer", 50, (39,)), Item("older", 30, (39,)), Item("r:1", 50, (39, 60))]
    plan = dataset.build(grown)
    assert plan.cutoff_at > 60
    assert [plan.place(item) for item in grown[80:83]] == [NOVEL, None, None]
    assert plan.reason(grown[82]) == "train goes on from it"
    decided = Sticky.read(dataset.folder).decided
    assert (decided["older"], decided["r:1"]) == (Decision.LEFT_OUT, Decision.EVOLVING)


def test_nothing_is_purged_for_what_the_cut_has_passed():
    """Its older twin stays in train, and it is held out as evolving."""
    sticky = Sticky({"old": Decision.EVOLVING}, 20)
    files = [*history(*range(60)), Item("old", 21, (5,))]
    plan = plan_split(files, [], section=SplitSection(novel_share=1), seed=0, sticky=sticky)
    assert plan.cutoff_at > 21
    assert (plan.place(files[5]), plan.place(files[60])) == (TRAIN, EVOLVING)


def test_evolving_files_that_the_cut_passes_make_room_for_newer_ones():
    """Were they counted as held out for good, nothing new would ever be."""
    sticky = Sticky({f"text-{n}": Decision.EVOLVING for n in range(34, 40)}, 34)
    twins = [Item(f"twin-{n}", n - 34, (n,)) for n in range(34, 40)]
    files = [*history(*range(6, 60)), *twins]
    plan = plan_split(files, [], section=SplitSection(max_purged_share=0), seed=0, sticky=sticky)
    assert plan.cutoff_at == 51
