from data_pipelines.report import figures
from data_pipelines.report.drops import divided, read_drops
from data_pipelines.sinks.target import read_manifest


def steps_of(folder):
    manifest = read_manifest(folder)
    files, _ = divided(manifest.dropped, read_drops(folder))
    return [(step.label, step.taken, step.left) for step in figures.funnel(manifest, files)]


def test_the_way_of_the_files_adds_up(make_dataset, source_of, split_of):
    # 20 by language, 1 by redaction, 5 twins, 2 by the split: 28 of 128
    folder = make_dataset(sources=(source_of("api", files=128),), split=split_of())
    assert [step[1:] for step in steps_of(folder)] == [(0, 128), (20, 108), (1, 107), (5, 102), (2, 100), (0, 100)]


def test_what_does_not_add_up_is_shown(make_dataset, source_of, split_of):
    folder = make_dataset(sources=(source_of("api", files=130),), split=split_of())
    assert steps_of(folder)[-2] == ("Other reasons, or counted under two", 2, 100)


def test_a_long_table_of_names_ends_in_the_others():
    shown = figures.named({f"licence {number:02d}": 100 - number for number in range(40)})
    assert len(shown) == figures.MAX_NAMED + 1
    assert shown[-1] == ("28 others", sum(range(61, 89)))
