import pytest

from data_pipelines.document import Change, Commit
from data_pipelines.mine.message import edit_reason, normalise
from data_pipelines.task_config import CommitEditSection


@pytest.mark.parametrize(
    ("message", "instruction"),
    [
        ("Round prices to cents (#123)", "Round prices to cents"),
        ("[SHOP-12] Round prices to cents", "Round prices to cents"),
        ("SHOP-12: Round prices to cents", "Round prices to cents"),
        (":bug: Round prices to cents", "Round prices to cents"),
        ("🐛 Round prices to cents #9", "Round prices to cents"),
        ("fix(cart): round prices to cents", "fix(cart): round prices to cents"),
        (
            "Round prices to cents\n\nSums were off.\n\nSigned-off-by: A <a@b.c>\nFixes #12\n",
            "Round prices to cents\n\nSums were off.",
        ),
        ("Round prices to cents\n\n" + "x" * 2000, "Round prices to cents"),
        ("Merge branch main", None),
        ("Revert something that was wrong", None),
        ("Bump version to 1.2.3 now", None),
        ("1.2.3 is out now", None),
        ("Fix typos in the cart", None),
        ("wip on the cart", None),
        ("short", None),
        ("x" * 300, None),
        ("", None),
    ],
)
def test_messages_as_instructions(message, instruction):
    assert normalise(message) == instruction


def commit(*changes, name="Ada", message="Round prices to cents"):
    return Commit("a" * 40, 1, "ada@corp.io", name, message, tuple(changes))


def change(path, status="M"):
    return Change(path, status, "1" * 40, "2" * 40)


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (commit(), "no file"),
        (commit(change(b"README.md")), "no file"),
        (commit(*[change(b"%d.py" % number) for number in range(6)]), "more than 5"),
        (commit(change(b"a.py", "A")), "adds, removes"),
        (commit(change(b"vendor/a.py")), "vendored"),
        (commit(change(b"a.py"), name="dependabot[bot]"), "bot"),
        (commit(change(b"a.py"), message="wip"), "too little"),
        (commit(change(b"a.py"), change(b"\xff.txt")), None),
    ],
)
def test_commits_that_may_become_rows(item, reason):
    found = edit_reason(item, section=CommitEditSection(), languages=("python",))
    assert (reason is None and found is None) or reason in found
