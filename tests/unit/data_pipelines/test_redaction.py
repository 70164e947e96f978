"""Redaction in whole builds: what is planted in a repository, its paths and messages must not reach a dataset."""

import pytest

from data_pipelines import pipeline
from data_pipelines.redact.scanner import Scanner
from finetune.contracts.dataset import Task
from tests.unit.data_pipelines.building import build, bytes_of, dropped_of, rows_of


def written(out):
    """Everything that a reader of the dataset sees, as one text with nothing escaped."""
    cells = [str(value) for row in dropped_of(out) for value in row.values()]
    for row in rows_of(out):
        cells += [segment.text for segment in row.segments] + [segment.path or "" for segment in row.segments]
        cells += [str(value) for place in row.provenance for value in place.model_dump().values()]
    return "\n".join([*cells, (out / "manifest.json").read_text(), (out / "report.html").read_text()])


def modules_of(shop):
    return {path.name: path.read_text() for path in sorted((shop / "shop").glob("*.py"))}


@pytest.fixture
def filled(make_repository, shop):
    """A repository with enough files for a split; more may be committed."""
    builder = make_repository()
    for name, text in modules_of(shop).items():
        builder.commit({f"shop/{name}": text}, "Add one more module to the shop")
    return builder


def test_no_planted_secret_reaches_a_shard(planted, filled, tmp_path, shop):
    """In files, in both sides of edits and in messages of a real repository, for all that is claimed in Python."""
    modules = list(modules_of(shop).items())
    secrets: list[str] = []
    items = [*planted.tokens(5, draws=3), *planted.passwords(5, draws=3)]
    texts = [item for item in items if item.file_type == "py" and item.claimed]
    for number, (name, text) in enumerate(modules):
        chosen = texts[number :: len(modules)]
        secrets += [piece for item in chosen for piece in item.pieces]
        lines = "\n\n".join(item.text for item in chosen)
        filled.commit({f"shop/{name}": f"{text}\n\n{lines}"}, "Configure the module of the shop")
        new = planted.password(planted.Maker(number))
        secrets.append(new)
        changed = text.replace("= 0\n", f'= 0\n    open_shop(password="{new}")\n', 1)
        assert changed != text
        filled.commit({f"shop/{name}": f"{changed}\n\n{lines}"}, f"Open the shop with password='{new}' from now on")
    manifest = build([filled.path], tmp_path / "out", tasks={"commit_edit": {"max_before_bytes": 200_000}})
    shown = written(tmp_path / "out")
    assert len(secrets) > 300
    assert [secret for secret in secrets if secret in shown] == []
    kept = {place.path for row in rows_of(tmp_path / "out") for place in row.provenance}
    assert {f"shop/{name}" for name, _ in modules} <= kept, "nothing was reached by leaving files out"
    assert any(row.task is Task.COMMIT_EDIT and row.redactions for row in rows_of(tmp_path / "out"))
    assert sum(row.count for row in manifest.redacted) > 200


def test_a_path_with_a_secret_or_an_address_is_left_out_and_not_told(filled, tmp_path, shop):
    text = modules_of(shop)["apple.py"].replace("apple", "quince")
    key = "AKIA" + "QWERTYUIOPASDFGH"
    paths = [f"keys/{key}.py", "mail/ada@corp.io/inbox.py", "by/Ada Byron.py", f"keys/{key}.bin"]
    filled.commit({path: text.replace("quince", f"quince{number}") for number, path in enumerate(paths)}, "Odd names")
    changed = text.replace("quince", "quince0").replace("= 0\n", "= 5\n", 1)
    filled.commit({paths[0]: changed}, "Start the weighing of quinces at five")
    manifest = build([filled.path], tmp_path / "out")
    counted = {(row.stage, row.reason): row.count for row in manifest.dropped}
    assert counted["redact", "the path holds a secret, or the name or address of a person"] == 3
    assert counted["commit_edit", "the path holds a secret, or the name or address of a person"] == 1
    shown = written(tmp_path / "out")
    assert not any(part in shown for part in (key, "ada@corp.io", "Ada Byron"))
    assert any("REDACTED_AWS_KEY_ID_" in row["path"] for row in dropped_of(tmp_path / "out"))


def test_authors_of_the_history_are_nobody_in_the_rows(filled, tmp_path, shop):
    grace = ("Grace Hopper", "grace@navy.internal")
    text = modules_of(shop)["apple.py"].replace("apple", "quince")
    text = f"# Written by Grace Hopper <grace@navy.internal>\n{text}"
    filled.commit({"shop/quince.py": text}, "Add the quinces to the shop", author=grace)
    text = text.replace("= 0\n", "= 1\n", 1)
    filled.commit({"shop/quince.py": text}, "Count quinces as Grace Hopper wants it", author=grace)
    manifest = build([filled.path], tmp_path / "out")
    shown = written(tmp_path / "out")
    assert "Hopper" not in shown
    assert "navy" not in shown
    assert {"author-name", "author-email"} <= {row.reason for row in manifest.redacted}
    instructions = [row.segments[0].text for row in rows_of(tmp_path / "out") if row.task is Task.COMMIT_EDIT]
    assert any("Count quinces as REDACTED_NAME_" in text for text in instructions)


def test_an_author_of_one_repository_is_nobody_in_another(filled, make_repository, tmp_path, shop):
    other = make_repository("other")
    other.commit({"a.py": "value = 1\n" * 20}, "Start", author=("Grace Hopper", "grace@navy.internal"))
    text = modules_of(shop)["apple.py"].replace("apple", "quince")
    filled.commit({"shop/quince.py": f"# Ask Grace Hopper\n{text}"}, "Add the quinces to the shop")
    build([filled.path, other.path], tmp_path / "out")
    assert "Hopper" not in written(tmp_path / "out")


def test_a_scan_that_fails_costs_one_file_and_passes_nothing_through(filled, tmp_path, shop, monkeypatch):
    text = modules_of(shop)["apple.py"].replace("apple", "quince")
    filled.commit({"shop/quince.py": text, "shop/trap_path.py": text}, "Add the quinces to the shop")
    filled.commit({"shop/quince.py": text.replace("= 0\n", "= 1\n", 1)}, "Start the quinces at one instead")
    whole = Scanner.find

    def failing(self, content, form, persons=None):
        if b"def weigh_quince" in content or b"trap_path" in content:
            raise RuntimeError(content.decode())
        return whole(self, content, form, persons)

    monkeypatch.setattr(Scanner, "find", failing)
    manifest = build([filled.path], tmp_path / "out")
    reasons = {(row.stage, row.reason): row.count for row in manifest.dropped}
    assert reasons["redact", "the scan for secrets failed: RuntimeError"] == 2
    assert reasons["commit_edit", "the scan for secrets failed: RuntimeError"] == 1
    assert "weigh_quince" not in written(tmp_path / "out")
    assert len(rows_of(tmp_path / "out")) > 20


@pytest.mark.parametrize("how", ["found", "failed"])
def test_the_last_scan_leaves_out_the_row_in_which_something_is_found(how, filled, tmp_path, shop, monkeypatch):
    """The scan of the whole file is made blind, as if only the row showed the secret."""
    secret = "AKIA" + "QWERTYUIOPASDFGH"
    text = modules_of(shop)["apple.py"].replace("apple", "quince")
    filled.commit({"shop/quince.py": f'KEY = "{secret}"\n{text}'}, "Add the quinces to the shop")
    whole = Scanner.find
    writing = False

    def blind(self, content, form, persons=None):
        if secret.encode() in content and not writing:
            return []
        if secret.encode() in content and how == "failed":
            raise RuntimeError
        return whole(self, content, form, persons)

    def divided(*arguments, **options):
        nonlocal writing
        writing = True
        return plain_divide(*arguments, **options)

    plain_divide = pipeline.divide
    monkeypatch.setattr(pipeline, "divide", divided)
    monkeypatch.setattr(Scanner, "find", blind)
    manifest = build([filled.path], tmp_path / "out")
    reason = {
        "found": "the last scan found a secret: aws-access-key-id",
        "failed": "the scan for secrets failed: RuntimeError",
    }
    left_out = [row for row in manifest.dropped if row.reason == reason[how]]
    assert {row.stage for row in left_out} >= {Task.PRETRAIN}
    assert secret not in written(tmp_path / "out")
    assert any("quince" in segment.text for row in rows_of(tmp_path / "out") for segment in row.segments)


def test_two_builds_with_people_and_secrets_give_the_same_bytes(filled, tmp_path, shop):
    text = modules_of(shop)["apple.py"].replace("apple", "quince")
    for number, name in enumerate(("Grace Hopper", "Alan Turing", "Kurt Gödel")):
        body = f"# {name} and Ada Byron\nPASSWORD = 'geheim{number}'\n" + text.replace("quince", f"quince{number}")
        filled.commit(
            {f"shop/quince{number}.py": body}, "Add quinces to the shop", author=(name, f"{number}@corp.internal")
        )
    for folder in ("one", "two"):
        build([filled.path], tmp_path / folder)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
