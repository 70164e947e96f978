from contextlib import ExitStack
from functools import partial
from itertools import chain

import pytest

from data_pipelines.config import RedactSection
from data_pipelines.document import Origin
from data_pipelines.mine.blocks import Hunk
from data_pipelines.mine.review_fix import Fix, NoFix, Wanted, by_change, changes_of, find_fix
from data_pipelines.mine.review_row import FixOrigin, excerpt_of, review_fix_row
from data_pipelines.redact.redactor import Redactor
from data_pipelines.sources.forge.branches import branch_commits
from data_pipelines.sources.forge.export import read_reviews
from data_pipelines.sources.forge.records import ReviewThread
from data_pipelines.sources.git import open_repository
from data_pipelines.task_config import ReviewFixSection
from finetune.contracts.dataset import Role, Task
from finetune.contracts.edit_blocks import apply_blocks, read_blocks
from tests.unit.data_pipelines.mined import example_of

PATH = "shop/cart.py"
BASE = '"""Carts of the shop."""\n\n\n' + "".join(
    f"def price_{number}(x):\n    return x * {number}\n\n\n" for number in range(30)
)
ADDED = (
    "def total(items):\n    result = items[0]\n    for item in items[1:]:\n        result += item\n    return result\n"
)
FIXED = "def total(items):\n    result = 0\n    for item in items:\n        result += item\n    return result\n"
LINE = BASE.count("\n") + 2
ASK = "This fails when the cart is empty, please start from zero."
SECTION = ReviewFixSection()
ORIGIN = FixOrigin("shop", "team", Origin("c" * 40, 7, "author-hash"), "MIT")
FORMATS = ("github-api", "github-archive", "gitlab-tree", "gitlab-project")


class Clean:
    """A redactor as the pipeline has one: text in, text out."""

    def __init__(self):
        self.redactor = Redactor(RedactSection(), b"k" * 16)

    def redact(self, text, form):
        return self.redactor.redact(text, form).text


@pytest.fixture
def branch(make_repository, forge_exports):
    """Function total is added on a branch, commented on, and fixed there; an unrelated commit lies in between."""
    builder = make_repository("shop")
    builder.commit({PATH: BASE}, "Add prices")
    builder.git("checkout", "-q", "-b", "feature")
    added = builder.commit({PATH: BASE + ADDED}, "Add totals of carts")
    asked_at = builder.now - 86_400 + 100
    builder.commit({"readme.md": "# Shop\n"}, "Say what this is")
    shifted = BASE.replace('shop."""\n', 'shop."""\n\nimport math\n')
    other = builder.commit({PATH: shifted + ADDED}, "Import what will be needed")
    fixed = builder.commit({PATH: shifted + FIXED}, "Start from zero")
    hunk = forge_exports.hunk_to(builder.git("diff", "main", added, "--", PATH), LINE)
    said = [
        forge_exports.Said("mira", ASK, asked_at),
        forge_exports.Said("ada-b", "Done in the last push.", builder.now),
    ]
    thread = forge_exports.Thread(PATH, LINE, added, hunk, said, resolved=True)
    return builder, forge_exports.Request(7, "Totals", [added, other, fixed], None, None, [thread])


def merge(builder, request, *options):
    """Merge the branch into main as a forge does."""
    builder.git("checkout", "-q", "main")
    builder.git("merge", "-q", *options, "feature")
    if "--squash" in options:
        builder.git("commit", "-q", "-m", "Add totals (#7)")
    request.merge_commit, request.merged_at = builder.git("rev-parse", "HEAD"), builder.now
    builder.now += 86_400


@pytest.fixture
def fixes_of():
    """What is found for each thread of an export, and how blobs are read."""
    with ExitStack() as stack:

        def find(builder, export, section=SECTION, branches=lambda *_, commit: ()):
            repository = stack.enter_context(open_repository(builder.path, name="shop"))
            threads = [one for one in read_reviews(export, min_comment_chars=15) if isinstance(one, ReviewThread)]
            wanted = Wanted()
            for thread in threads:
                wanted.add(thread)
            commits = chain(
                repository.commits(), branches(builder.path / ".git", wanted.heads, commit=repository.commit)
            )
            changes = changes_of(commits, wanted)
            read = partial(repository.content, max_bytes=100_000)
            return [find_fix(one, changes, read=read, section=section) for one in threads], read

        yield find


def row_of(fixes, read, section=SECTION):
    return review_fix_row(fixes, ORIGIN, read=read, redactor=Clean(), section=section)


def text(row, role):
    return next(segment.text for segment in row.segments if segment.role is role)


@pytest.mark.parametrize("name", FORMATS)
def test_the_commit_of_the_branch_that_changed_the_line_is_the_fix(name, branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    merge(builder, request, "--no-ff")
    (fix,), read = fixes_of(builder, forge_exports.WRITERS[name](tmp_path / "export", [request]))
    assert fix.commit.id == request.commits[-1]
    # two lines were added above since the comment was written
    assert fix.line == LINE + 2
    row = row_of([fix], read)
    assert (row.task, row.language, row.stratum, row.visibility) == (Task.REVIEW_FIX, "python", "comment", "team")
    assert text(row, Role.INSTRUCTION) == f"{PATH}, line {LINE + 2}:\n> result = items[0]\n\n{ASK}"
    before, answer = text(row, Role.CONTEXT), text(row, Role.ANSWER)
    blocks = read_blocks(answer)
    assert {path for path, _ in blocks} == {PATH}
    assert apply_blocks(before, [block for _, block in blocks]).endswith(FIXED)
    assert [segment.loss for segment in row.segments] == [False, False, True]
    assert row.provenance[0].blob == builder.git("rev-parse", f"HEAD:{PATH}")
    assert example_of(row, tmp_path).segments == row.segments


@pytest.mark.parametrize("name", FORMATS)
def test_a_squashed_request_gives_no_fix(name, branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    merge(builder, request, "--squash")
    (found,), _ = fixes_of(builder, forge_exports.WRITERS[name](tmp_path / "export", [request]))
    # an archive does not name what the squash made
    gone = "no commit of the request is in the repository"
    assert found == NoFix(gone if name == "github-archive" else "the request was squashed into one commit")


@pytest.mark.parametrize("name", FORMATS)
def test_a_mirror_that_kept_the_branch_has_the_fix_of_a_squashed_request(
    name, branch, forge_exports, tmp_path, fixes_of
):
    builder, request = branch
    builder.git("update-ref", "refs/pull/7/head", "feature")
    merge(builder, request, "--squash")
    builder.git("branch", "-q", "-D", "feature")
    export = forge_exports.WRITERS[name](tmp_path / "export", [request])
    (fix,), read = fixes_of(builder, export, branches=branch_commits)
    assert (fix.commit.id, fix.line) == (request.commits[-1], LINE + 2)
    assert text(row_of([fix], read), Role.INSTRUCTION).endswith(ASK)


def test_heads_that_are_missing_or_no_names_are_passed_over(branch):
    builder, request = branch
    git_dir, main = builder.path / ".git", builder.git("rev-parse", "main")
    heads = ["e" * 40, "--all", "main", "", request.commits[-1], builder.git("rev-parse", "HEAD^{tree}")]
    found = [commit.id for commit in branch_commits(git_dir, heads, commit=main)]
    assert found[0] == request.commits[-1] and found[-1] == request.commits[0] and len(found) == 4
    assert list(branch_commits(git_dir, ["e" * 40, "main"], commit=main)) == []
    assert list(branch_commits(git_dir, [], commit=main)) == []


def test_after_a_squash_only_a_change_of_the_very_line_counts(branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    # the fix did not make it into the request
    builder.git("reset", "-q", "--hard", "HEAD~1")
    merge(builder, request, "--squash")
    base = builder.git("show", f"HEAD:{PATH}") + "\n"
    near = builder.commit({PATH: base.replace("    return result\n", "    return result + 0\n")}, "Change what is near")
    export = forge_exports.write_github_api(tmp_path / "one", [request])
    (found,), _ = fixes_of(builder, export)
    assert found == NoFix("no later commit changes the place")
    fixed = builder.commit({PATH: base.replace(ADDED, FIXED)}, "Start from zero")
    (fix,), _ = fixes_of(builder, export)
    assert fix.commit.id == fixed != near


@pytest.mark.parametrize("name", FORMATS)
def test_a_commit_before_the_comment_is_no_answer(name, branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    for said in request.threads[0].said:
        said.at = builder.now
    builder.now += 100
    merge(builder, request, "--no-ff")
    (found,), _ = fixes_of(builder, forge_exports.WRITERS[name](tmp_path / "export", [request]))
    assert found == NoFix("no later commit changes the file")


def test_a_change_too_far_away_is_no_answer(branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    builder.git("checkout", "-q", "feature")
    builder.git("reset", "-q", "--hard", "HEAD~1")
    request.commits.pop()
    export = forge_exports.write_gitlab_tree(tmp_path / "export", [request])
    (found,), _ = fixes_of(builder, export)
    assert found == NoFix("no later commit changes the place")
    (found,), _ = fixes_of(builder, export, ReviewFixSection(max_lines_apart=200))
    assert found.commit.id == request.commits[-1]


def test_commits_of_another_branch_do_not_count_when_those_of_the_request_are_known(
    branch, forge_exports, tmp_path, fixes_of
):
    builder, request = branch
    builder.git("checkout", "-q", "-b", "other", request.commits[0])
    builder.now -= 3 * 86_400
    builder.git("cherry-pick", "-q", request.commits[-1]) if False else builder.commit(
        {PATH: BASE + FIXED}, "Elsewhere"
    )
    builder.git("checkout", "-q", "main")
    builder.git("merge", "-q", "--no-ff", "feature")
    builder.git("merge", "-q", "-X", "ours", "other")
    (fix,), _ = fixes_of(builder, forge_exports.write_gitlab_tree(tmp_path / "export", [request]))
    assert fix.commit.id == request.commits[-1]


def test_without_the_reviewed_commit_a_line_number_alone_proves_nothing(branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    builder.git("checkout", "-q", "feature")
    builder.commit({"readme.md": "# The shop\n"}, "Say it better")
    merge(builder, request, "--ff-only")
    request.commits = ["e" * 40, "f" * 40]
    request.threads[0].commit = "e" * 40
    (found,), _ = fixes_of(builder, forge_exports.write_gitlab_tree(tmp_path / "lab", [request]))
    assert found == NoFix("the commit that was reviewed is not in the repository")
    # GitHub's hunk shows the line, so what was rebased is found all the same
    (fix,), _ = fixes_of(builder, forge_exports.write_github_api(tmp_path / "hub", [request]))
    assert isinstance(fix, Fix)


def test_a_request_of_another_repository_gives_no_fix(branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    merge(builder, request, "--no-ff")
    request.commits, request.merge_commit, request.threads[0].commit = ["e" * 40, "f" * 40], "a" * 40, "e" * 40
    for name in FORMATS:
        (found,), _ = fixes_of(builder, forge_exports.WRITERS[name](tmp_path / name, [request]))
        assert found == NoFix("no commit of the request is in the repository")


def test_threads_that_one_commit_answers_in_a_file_are_one_row(branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    merge(builder, request, "--no-ff")
    first = request.threads[0]
    hunk = forge_exports.hunk_to(builder.git("diff", "main~1", first.commit, "--", PATH), LINE + 1)
    said = [forge_exports.Said("otto", "Then @mira, @zoe and @al need no slice here.", first.said[0].at + 5)]
    request.threads.append(forge_exports.Thread(PATH, LINE + 1, first.commit, hunk, said))
    found, read = fixes_of(builder, forge_exports.write_github_api(tmp_path / "export", [request]))
    (group,) = by_change(found)
    row = row_of(group, read)
    instruction = text(row, Role.INSTRUCTION)
    assert instruction.index(ASK) < instruction.index("need no slice")
    assert "Then @reviewer-1, @reviewer-3 and @reviewer-4 need" in instruction
    assert row.spans == (7, LINE + 2, 7, LINE + 3)


def test_persons_are_numbers_and_secrets_placeholders(branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    merge(builder, request, "--no-ff")
    thread = request.threads[0]
    at = thread.said[0].at
    thread.said = [
        forge_exports.Said("mira", "@otto-7 this fails when empty, see `@pytest.fixture` and a@example.org.", at),
        forge_exports.Said("otto-7", "Agreed, @Mira. <!-- bot data -->token is ghp_" + "a1B2" * 9, at + 1),
    ]
    (fix,), read = fixes_of(builder, forge_exports.write_github_api(tmp_path / "export", [request]))
    instruction = text(row_of([fix], read), Role.INSTRUCTION)
    assert "reviewer-1: @reviewer-2 this fails when empty, see `@pytest.fixture`" in instruction
    assert "reviewer-2: Agreed, @reviewer-1. token is REDACTED_" in instruction
    assert "mira" not in instruction.lower() and "otto" not in instruction and "bot data" not in instruction


def test_a_suggestion_that_was_taken_is_a_stratum_of_its_own(branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    merge(builder, request, "--no-ff")
    said = request.threads[0].said
    said[0].text = "```suggestion\n    result = 0\n```"
    (fix,), read = fixes_of(builder, forge_exports.write_github_api(tmp_path / "one", [request]))
    assert row_of([fix], read).stratum == "suggestion"
    said[0].text = "```suggestion\n    result = None\n```"
    (fix,), read = fixes_of(builder, forge_exports.write_github_api(tmp_path / "two", [request]))
    assert row_of([fix], read).stratum == "comment"


def test_limits_are_those_of_the_section(branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    merge(builder, request, "--no-ff")
    (fix,), read = fixes_of(builder, forge_exports.write_github_api(tmp_path / "export", [request]))
    reasons = {
        "more than 1 changed lines": ReviewFixSection(max_changed_lines=1),
    }
    for reason, section in reasons.items():
        assert row_of([fix], read, section) == NoFix(reason)
    assert row_of([fix], lambda blob: None) == NoFix("a version of the file is missing, too large, or no text")
    assert row_of([fix], lambda blob: b"def f(:\n") == NoFix("syntax errors before or after the fix")
    assert row_of([fix], lambda blob: b"x = 1\n") == NoFix("changes white space only")


def test_a_file_that_is_removed_or_unreadable_gives_no_fix(branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    builder.git("checkout", "-q", "feature")
    builder.git("reset", "-q", "--hard", request.commits[0])
    builder.git("rm", "-q", PATH)
    builder.git("commit", "-q", "-m", "Remove carts")
    request.commits = [request.commits[0]]
    (found,), _ = fixes_of(builder, forge_exports.write_gitlab_tree(tmp_path / "export", [request]))
    assert found == NoFix("the file was removed or came anew after the comment")


def test_the_line_is_followed_through_changes_above_it(branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    merge(builder, request, "--no-ff")
    export = forge_exports.write_github_api(tmp_path / "export", [request])
    # two lines came above it, more than are allowed between where it is sought and where it stands
    (fix,), _ = fixes_of(builder, export, ReviewFixSection(max_lines_apart=1))
    assert fix.line == LINE + 2


def test_an_equal_line_far_away_is_another_line(branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    builder.git("reset", "-q", "--hard", request.commits[0])
    rest = "".join(f"def cost_{number}(x):\n    return x * {number}\n\n\n" for number in range(40))
    gone = BASE + ADDED.replace("items[0]", "items.first") + rest + ADDED.replace("total", "other")
    builder.commit({PATH: gone}, "Move what was commented")
    last = builder.commit({PATH: gone.replace("items[0]", "0")}, "Start from zero")
    request.commits[1:] = [last]
    merge(builder, request, "--no-ff")
    export = forge_exports.write_github_api(tmp_path / "export", [request])
    (found,), _ = fixes_of(builder, export)
    assert isinstance(found, Fix) and found.commit.id != last
    request.threads[0].said[0].at = builder.now - 2 * 86_400 - 10
    (found,), _ = fixes_of(builder, forge_exports.write_github_api(tmp_path / "later", [request]))
    assert found == NoFix("the commented line is not in the file before the fix")


def test_of_a_large_file_the_lines_around_the_fix_are_shown(branch, forge_exports, tmp_path, fixes_of):
    builder, request = branch
    merge(builder, request, "--no-ff")
    (fix,), read = fixes_of(builder, forge_exports.write_github_api(tmp_path / "export", [request]))
    row = row_of([fix], read, ReviewFixSection(max_before_bytes=500))
    before, place = text(row, Role.CONTEXT), row.provenance[0]
    assert 400 < len(before) <= 500 and before.endswith(ADDED)
    blocks = [block for _, block in read_blocks(text(row, Role.ANSWER))]
    after = builder.git("show", f"{fix.commit.id}:{PATH}").split("\n")
    assert apply_blocks(before, blocks).split("\n")[:-1] == after[place.first_line - 1 : place.last_line]


def test_an_excerpt_grows_to_both_sides_until_it_is_full():
    lines = [f"{number:03d}\n" for number in range(100)]
    hunks = [Hunk(50, 51, 50, 52)]
    assert excerpt_of(lines, hunks, marks=[51], max_bytes=44) == (45, 56)
    assert excerpt_of(lines, hunks, marks=[41], max_bytes=44) == (40, 51)
    assert excerpt_of(lines, hunks, marks=[51], max_bytes=400) == (0, 100)
    assert excerpt_of(lines, [Hunk(0, 0, 0, 1)], marks=[1], max_bytes=16) == (0, 4)
    assert excerpt_of(["x" * 90 + "\n", *lines], hunks, marks=[51], max_bytes=420) == (1, 101)
