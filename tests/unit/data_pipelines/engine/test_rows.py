"""What rows of files show of other files, by the side of the split."""

import pytest

from data_pipelines.document import Origin
from data_pipelines.engine.rows import FileMiner, SourceFile
from data_pipelines.engine.store import Result, Store, key_of, text_digest
from data_pipelines.extract.registry import extractor_for
from data_pipelines.mine.pick import pick
from data_pipelines.task_config import TasksSection
from finetune.contracts.dataset import Role, Split, Task

TASKS = TasksSection.model_validate({"repo_infill": {"bytes_per_row": 100, "min_target_bytes": 12}})
BODY = "import prices\n\n" + "".join(
    f"def {name}(cart):\n    return cart.{name} + {name}_more\n\n\n" for name in "abcde"
)


def prices(word):
    return "".join(f"{word}_{number} = {number} * {word}_{number + 1}\n" for number in range(9))


@pytest.fixture
def miner(tmp_path):
    """miner({path: (split, text)}) gives a FileMiner over files of Python."""
    store = Store(tmp_path / "store-1.db")

    def make(files):
        return FileMiner([add(path, *file) for path, file in files.items()], store=store, tasks=TASKS, co_changes={})

    def add(path, split, text):
        content, extractor = text.encode(), extractor_for("python")
        picks = pick(
            content, path=path, blob="b", units=extractor.units(content), extractor=extractor, tasks=TASKS, seed=0
        )
        key = key_of(path)
        store.add(Result(key, b"", b"", picks=picks.to_bytes()), [content])
        origin, digest = Origin("c", 7, "a"), text_digest(content)
        return SourceFile(
            *("shop", "team", path, "b", "python", None, origin, key, digest),
            *(len(content), path, split, None, True),
        )

    yield make
    store.close()


def shown(miner, path):
    rows = [row for row in miner.rows(miner.file_at(path)) if row.task is Task.REPO_INFILL]
    return {segment.path for row in rows for segment in row.segments if segment.role is Role.CONTEXT}


def test_an_import_leads_to_what_its_side_may_show(miner):
    files = {
        "shop/learned.py": (Split.TRAIN, BODY),
        "shop/measured.py": (Split.HELDOUT, BODY.replace("cart", "box")),
        "prices.py": (Split.HELDOUT, prices("far")),
        "src/prices.py": (Split.TRAIN, prices("near")),
    }
    made = miner(files)
    assert shown(made, "shop/learned.py") == {"src/prices.py"}
    assert "prices.py" in shown(made, "shop/measured.py")
    # the order in which the sides are asked for makes no difference
    assert shown(miner(dict(reversed(files.items()))), "shop/learned.py") == {"src/prices.py"}
    again = miner(files)
    assert "prices.py" in shown(again, "shop/measured.py")
    assert shown(again, "shop/learned.py") == {"src/prices.py"}
