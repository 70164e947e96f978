import os
import subprocess

import pytest

from data_pipelines.sources.git import open_repository
from finetune.contracts.errors import RepositoryError


def names(repository):
    return [entry.path for entry in repository.entries()]


def test_reads_the_commit_and_not_the_work_tree(make_repository):
    builder = make_repository()
    builder.commit({"a.py": "a = 1\n", "b/c.py": "c = 2\n"})
    (builder.path / "a.py").write_text("changed but not committed")
    (builder.path / "new.py").write_text("not committed")
    (builder.path / "b/c.py").unlink()
    with open_repository(builder.path, name="x") as repository:
        entries = repository.entries()
        assert [(entry.path, entry.bytes) for entry in entries] == [(b"a.py", 6), (b"b/c.py", 6)]
        assert [repository.content(entry.blob, max_bytes=10) for entry in entries] == [b"a = 1\n", b"c = 2\n"]


def test_reads_a_bare_repository_and_a_linked_work_tree(make_repository, tmp_path):
    builder = make_repository()
    commit = builder.commit({"a.py": "a = 1\n"})
    builder.git("clone", "-q", "--bare", str(builder.path), str(tmp_path / "bare.git"))
    builder.git("worktree", "add", "-q", str(tmp_path / "linked"))
    for path in (tmp_path / "bare.git", tmp_path / "linked"):
        with open_repository(path, name="x") as repository:
            assert (repository.commit, names(repository)) == (commit, [b"a.py"])


def test_content_is_capped_and_missing_blobs_are_none(make_repository):
    builder = make_repository()
    builder.commit({"a.py": "x" * 100_000, "b.py": "b = 1\n"})
    with open_repository(builder.path, name="x") as repository:
        large, small = repository.entries()
        assert repository.content(large.blob, max_bytes=99_999) is None
        assert repository.content("0" * 39 + "1", max_bytes=10) is None
        assert repository.content(small.blob, max_bytes=10) == b"b = 1\n"


def test_a_blob_that_is_gone_has_no_size(make_repository):
    builder = make_repository()
    builder.commit({"a.py": "a = 1\n", "b.py": "b = 1\n"})
    blob = builder.git("rev-parse", "HEAD:a.py")
    (builder.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with open_repository(builder.path, name="x") as repository:
        assert [entry.bytes for entry in repository.entries()] == [-1, 6]


def test_names_sizes_and_modes_of_strange_entries(make_repository):
    builder = make_repository()
    builder.commit({"a\nb.py": "1\n", 'q"t\t.py': "2\n", "-rf.py": "3\n", "ü.py": "4\n"})
    with open(os.fsencode(builder.path) + b"/\xff\xfe.py", "wb") as stream:
        stream.write(b"5\n")
    (builder.path / "link.py").symlink_to("/etc/passwd")
    builder.git("add", "-A")
    builder.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},sub")
    builder.git("commit", "-q", "-m", "strange")
    with open_repository(builder.path, name="x") as repository:
        modes = {entry.path: entry.mode for entry in repository.entries()}
        assert set(modes) == {
            b"a\nb.py",
            b'q"t\t.py',
            b"-rf.py",
            "ü.py".encode(),
            b"\xff\xfe.py",
            b"link.py",
            b"sub",
        }
        assert (modes[b"link.py"], modes[b"sub"]) == ("120000", "160000")
        assert {change.path for commit in repository.commits() for change in commit.changes} == set(modes)


@pytest.mark.parametrize("kind", ["missing", "file", "folder", "inside", "empty"])
def test_what_is_no_repository_is_refused(kind, make_repository, tmp_path):
    builder = make_repository("outer")
    expected = {
        "missing": "does not exist",
        "file": "is a file",
        "folder": "is no git repository",
        "inside": "is no git repository",
        "empty": "has no commits",
    }[kind]
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (builder.path / "inside").mkdir()
    path = {"inside": builder.path / "inside", "empty": builder.path}.get(kind, tmp_path / kind)
    with pytest.raises(RepositoryError, match=expected) as caught:
        open_repository(path, name="x")
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_an_unknown_ref_is_named(make_repository):
    builder = make_repository()
    builder.commit({"a.py": "a\n"})
    with pytest.raises(RepositoryError, match="no commit called release/9"):
        open_repository(builder.path, name="x", ref="release/9")


def loose(builder, name):
    return builder.path / ".git/objects" / name[:2] / name[2:]


def test_a_missing_folder_costs_its_files_alone(make_repository):
    builder = make_repository()
    builder.commit({"a/b.py": "a\n", "c/d.py": "d\n", "e.py": "e\n"})
    loose(builder, builder.git("rev-parse", "HEAD:a")).unlink()
    with open_repository(builder.path, name="x") as repository:
        assert [(entry.path, entry.bytes) for entry in repository.entries()] == [(b"c/d.py", 2), (b"e.py", 2)]
        assert repository.damage() == "1 folders of its tree cannot be read"


def test_without_its_top_folder_a_repository_is_damaged(make_repository):
    builder = make_repository()
    builder.commit({"a.py": "a\n"})
    loose(builder, builder.git("rev-parse", "HEAD^{tree}")).unlink()
    with open_repository(builder.path, name="x") as repository, pytest.raises(RepositoryError, match="damaged"):
        repository.entries()


def test_a_damaged_history_gives_its_newest_commits_and_says_so(make_repository):
    builder = make_repository()
    first = builder.commit({"a.py": "a\n"})
    builder.commit({"b.py": "b\n"})
    last = builder.commit({"c.py": "c\n"})
    loose(builder, first).unlink()
    with open_repository(builder.path, name="x") as repository:
        assert [commit.id for commit in repository.commits()] == [last]
        assert repository.history_damage == "its history cannot be read beyond the newest 1 commits"


def test_commits_newest_first_without_merges(make_repository):
    builder = make_repository()
    first = builder.commit({"a.py": "a\n"}, "First\n\nwith a body")
    builder.git("checkout", "-q", "-b", "side")
    side = builder.commit({"b.py": "b\n"}, "Side")
    builder.git("checkout", "-q", "main")
    last = builder.commit({"a.py": "aa\n"}, "Last")
    builder.git("merge", "-q", "--no-ff", "-m", "Merge", "side")
    with open_repository(builder.path, name="x") as repository:
        commits = {commit.id: commit for commit in repository.commits()}
    assert set(commits) == {first, side, last}
    assert commits[first].message == "First\n\nwith a body\n"
    assert commits[first].email == "ada@corp.io"
    assert [(change.path, change.status) for change in commits[last].changes] == [(b"a.py", "M")]


def test_the_callers_git_variables_do_not_redirect(make_repository, monkeypatch):
    wrong, right = make_repository("wrong"), make_repository("right")
    wrong.commit({"wrong.py": "1\n"})
    right.commit({"right.py": "1\n"})
    monkeypatch.setenv("GIT_DIR", str(wrong.path / ".git"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(wrong.path / ".git/objects"))
    with open_repository(right.path, name="x") as repository:
        assert names(repository) == [b"right.py"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_a_repository_of_another_user_is_read(make_repository):
    builder = make_repository()
    builder.commit({"a.py": "a\n"})
    for path in (builder.path, builder.path / ".git"):
        os.chown(path, 12345, 12345)
    with open_repository(builder.path, name="x") as repository:
        assert names(repository) == [b"a.py"]


def test_object_names_of_sha256(make_repository, tmp_path):
    builder = make_repository()
    builder.git("init", "-q", "--object-format=sha256", str(tmp_path / "wide"))
    builder.path = tmp_path / "wide"
    builder.commit({"a.py": "a\n"})
    with open_repository(builder.path, name="x") as repository:
        (entry,) = repository.entries()
        assert len(entry.blob) == 64
        assert repository.content(entry.blob, max_bytes=10) == b"a\n"
        assert [len(commit.changes) for commit in repository.commits()] == [1]


def trap(builder, name):
    """A program that a hostile repository wants started; it leaves a trace."""
    script = builder.path / ".git" / f"trap-{name}"
    script.write_text(f"#!/bin/sh\ntouch '{builder.path}/.git/sprung-{name}'\nexit 1\n")
    script.chmod(0o755)
    return str(script)


def sprung(builder):
    return sorted(path.name for path in (builder.path / ".git").glob("sprung-*"))


def read_everything(path):
    with open_repository(path, name="x") as repository:
        for entry in repository.entries():
            repository.content(entry.blob, max_bytes=1000)
        return list(repository.commits())


HOSTILE = (
    "core.fsmonitor",
    "core.pager",
    "core.sshCommand",
    "core.askPass",
    "core.gitProxy",
    "core.editor",
    "diff.external",
    "gpg.program",
    "gpg.ssh.program",
    "alias.log",
    "alias.cat-file",
    "alias.rev-parse",
    "credential.helper",
    "uploadpack.packObjectsHook",
    "diff.evil.textconv",
    "filter.evil.smudge",
    "pager.log",
    "interactive.diffFilter",
)


def test_a_hostile_config_starts_nothing(make_repository):
    builder = make_repository()
    builder.commit({"a.py": "a = 1\n", ".gitattributes": "*.py diff=evil filter=evil\n"})
    sign_with_garbage(builder)
    for key in HOSTILE:
        builder.git("config", key, trap(builder, key))
    for key, value in (
        ("log.showSignature", "true"),
        ("color.ui", "always"),
        ("core.worktree", "/nowhere"),
        ("core.hooksPath", str(builder.path)),
        ("log.follow", "true"),
        ("log.diffMerges", "remerge"),
        ("format.pretty", "oneline"),
        ("diff.noprefix", "true"),
        ("diff.renames", "copies"),
        ("diff.orderFile", "/etc/passwd"),
        ("submodule.recurse", "true"),
    ):
        builder.git("config", key, value)
    for hook in ("post-checkout", "fsmonitor-watchman", "pre-commit", "reference-transaction"):
        os.replace(trap(builder, hook), builder.path / ".git/hooks" / hook)
    commits = read_everything(builder.path)
    assert [len(commit.changes) for commit in commits] == [0, 2]
    assert sprung(builder) == []


def sign_with_garbage(builder):
    """A commit that claims a signature, so that git would call gpg.program to check it."""
    tree, parent = builder.git("rev-parse", "HEAD^{tree}"), builder.git("rev-parse", "HEAD")
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----"
    person = f"A <a@b.c> {builder.now} +0000"
    body = f"tree {tree}\nparent {parent}\nauthor {person}\ncommitter {person}\n{signature}\n\nSigned\n"
    commit = builder.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=body.encode())
    builder.git("update-ref", "refs/heads/main", commit)


def test_the_trap_would_spring(make_repository):
    """The test above can fail: plain git with this config does start the program."""
    builder = make_repository()
    builder.commit({"a.py": "a = 1\n"})
    sign_with_garbage(builder)
    builder.git("config", "gpg.program", trap(builder, "gpg"))
    builder.git("config", "log.showSignature", "true")
    builder.git("log", "-1")
    assert sprung(builder) == ["sprung-gpg"]


def test_nothing_is_fetched_for_a_partial_clone(make_repository):
    """A promisor remote whose uploadpack is a program: reading a missing blob must not start it."""
    builder = make_repository()
    builder.commit({"a.py": "a = 1\n"})
    blob = builder.git("rev-parse", "HEAD:a.py")
    (builder.path / ".git/objects" / blob[:2] / blob[2:]).unlink()
    for key, value in (
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.url", str(builder.path)),
        ("remote.origin.promisor", "true"),
        ("remote.origin.uploadpack", trap(builder, "uploadpack")),
    ):
        builder.git("config", key, value)
    with open_repository(builder.path, name="x") as repository:
        (entry,) = repository.entries()
        assert entry.bytes == -1
        assert repository.content(blob, max_bytes=100) is None
    assert sprung(builder) == []
    subprocess.run(["git", "cat-file", "-p", blob], cwd=builder.path, capture_output=True, check=False)
    assert sprung(builder) == ["sprung-uploadpack"], "plain git springs the trap, so it was one"


def test_replace_objects_and_grafts_do_not_change_what_is_read(make_repository):
    builder = make_repository()
    first = builder.commit({"a.py": "good = 1\n"})
    second = builder.commit({"b.py": "b = 1\n"})
    good, evil = builder.git("rev-parse", "HEAD:a.py"), builder.git("hash-object", "-w", "--stdin", stdin=b"evil = 1\n")
    builder.git("replace", good, evil)
    (builder.path / ".git/info").mkdir(exist_ok=True)
    (builder.path / ".git/info/grafts").write_text(f"{second}\n")
    with open_repository(builder.path, name="x") as repository:
        assert repository.content(good, max_bytes=100) == b"good = 1\n"
        assert [commit.id for commit in repository.commits()] == [second, first]
