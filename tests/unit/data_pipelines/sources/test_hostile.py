"""Repositories that mean harm, or are merely broken: nothing of theirs runs, and each ends in a report."""

import os
import random
import subprocess
import sys
import time
import zlib

import pytest

from data_pipelines.config import PipelineConfig, SourceSection
from data_pipelines.filters.chain import FilterChain
from data_pipelines.filters.survey import read_context
from data_pipelines.sources import git
from data_pipelines.sources.git import open_repository
from data_pipelines.sources.tree import walk_tree
from finetune.contracts.errors import RepositoryError

FILE, FOLDER, LINK, SUBMODULE = "100644", "40000", "120000", "160000"


KEYS = (
    "core.fsmonitor core.alternateRefsCommand core.pager core.editor core.sshCommand core.askPass diff.external"
    " diff.evil.command diff.evil.textconv filter.evil.clean filter.evil.smudge filter.evil.process merge.evil.driver"
    " gpg.program gpg.x509.program uploadpack.packObjectsHook pager.log pager.ls-tree sequence.editor credential.helper"
    " alias.ls-tree alias.rev-parse"
)
HOOKS = "post-index-change post-checkout pre-auto-gc fsmonitor-watchman reference-transaction"


@pytest.fixture
def trapped(make_repository):
    """A repository to arm once it is ready; afterwards no program of its own may have run, and each could have."""
    builder = make_repository("trapped")
    builder.commit({"a.py": "a = 1\n" * 20, ".gitattributes": "*.py diff=evil filter=evil merge=evil\n"})
    yield builder
    mark = builder.path / ".git/sprung"
    assert not mark.exists(), "a program of the repository ran"
    subprocess.run([builder.path / ".git/trap"], check=False)
    assert mark.exists(), "and it would have left its mark"


def arm(builder):
    """Name one program as each hook and in each setting that git runs; from then on plain git would run it."""
    git_dir = builder.path / ".git"
    trap, included = git_dir / "trap", git_dir / "more"
    if trap.exists():
        return
    trap.write_text(f"#!/bin/sh\ntouch '{git_dir}/sprung'\nexit 1\n")
    trap.chmod(0o755)
    (git_dir / "hooks").mkdir(exist_ok=True)
    for hook in HOOKS.split():
        os.link(trap, git_dir / "hooks" / hook)
    for key in KEYS.split():
        builder.git("config", "-f", str(included), key, str(trap))
    builder.git("config", "core.hooksPath", str(git_dir / "hooks"))
    builder.git("config", "include.path", str(included))


def opened(builder, **options):
    arm(builder)
    return open_repository(builder.path, name="x", **options)


def raw_tree(builder, *entries):
    """A tree object of (mode, name, object) as no git would write it, and its name."""
    body = b"".join(f"{mode} ".encode() + name + b"\0" + bytes.fromhex(blob) for mode, name, blob in entries)
    return builder.git("hash-object", "-t", "tree", "--literally", "-w", "--stdin", stdin=body)


def blob(builder, content=b"x = 1\n" * 20):
    return builder.git("hash-object", "-w", "--stdin", stdin=content)


def commit_tree(builder, name):
    commit = builder.git("commit-tree", name, "-m", "Hostile")
    builder.git("update-ref", "refs/heads/main", commit)


def loose(builder, name):
    path = builder.path / ".git/objects" / name[:2] / name[2:]
    path.chmod(0o644)
    return path


def report(builder):
    """All that a build reads; verdict by path, and what was found damaged."""
    source = SourceSection(path=builder.path)
    with opened(builder) as repository:
        entries = repository.entries()
        list(repository.commits())
        chain = FilterChain(PipelineConfig(), read_context(entries, repository.content, source=source))
        verdicts = {}
        for entry in entries:
            verdict = chain.by_entry(entry)
            if verdict.keeps and repository.content(entry.blob, max_bytes=1_000_000) is None:
                verdicts[entry.path] = "cannot be read"
            else:
                verdicts[entry.path] = verdict.reason
        return verdicts, repository.damage()


def test_configuration_and_hooks_run_nothing(trapped):
    assert report(trapped) == ({b".gitattributes": "not source code by its name", b"a.py": ""}, "")


def test_paths_that_lead_elsewhere_are_left_out(trapped):
    leaf = blob(trapped)
    inner = raw_tree(trapped, (FILE, b"evil.py", leaf))
    root = raw_tree(
        trapped,
        (FOLDER, b"..", inner),
        (FOLDER, b".GIT", inner),
        (FOLDER, b".git", inner),
        (FILE, b"/etc/evil.py", leaf),
        (FILE, b"C:\\evil.py", leaf),
        (FILE, b"a/../../evil.py", leaf),
        (FILE, b"good.py", leaf),
    )
    commit_tree(trapped, root)
    verdicts, _ = report(trapped)
    assert verdicts.pop(b"good.py") == ""
    assert set(verdicts.values()) == {"path leads outside of its folder"}
    assert set(verdicts) == {
        b"../evil.py",
        b".GIT/evil.py",
        b".git/evil.py",
        b"/etc/evil.py",
        b"C:\\evil.py",
        b"a/../../evil.py",
    }


def test_links_submodules_odd_names_and_names_that_differ_in_case_alone(trapped):
    leaf, other = blob(trapped), blob(trapped, b"y = 2\n" * 20)
    root = raw_tree(
        trapped,
        (FILE, b"A.py", leaf),
        (FILE, b"\xff\xfe.py", leaf),
        (FILE, b"a.py", other),
        (LINK, b"loop", blob(trapped, b"loop")),
        (LINK, b"passwd.py", blob(trapped, b"/etc/passwd")),
        (SUBMODULE, b"sub.py", "1" * 40),
    )
    commit_tree(trapped, root)
    assert report(trapped)[0] == {
        b"A.py": "",
        b"a.py": "",
        b"\xff\xfe.py": "path is not printable UTF-8",
        b"loop": "symbolic link",
        b"passwd.py": "symbolic link",
        b"sub.py": "submodule",
    }


@pytest.mark.parametrize("damage", ["truncated", "garbled", "empty"])
def test_a_damaged_loose_object_costs_one_file(damage, trapped):
    content = "".join(f"value_{number} = {number * number}\n" for number in range(3000))
    trapped.commit({"b.py": content, "c.py": "c = 3\n" * 20})
    path = loose(trapped, trapped.git("rev-parse", "HEAD:b.py"))
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes({"truncated": whole[:middle], "garbled": whole[:middle] + b"?" * middle, "empty": b""}[damage])
    verdicts, found = report(trapped)
    assert (verdicts[b"a.py"], verdicts[b"c.py"]) == ("", "")
    if damage == "empty":
        assert verdicts[b"b.py"] == "object is not in this clone"
    else:
        assert verdicts[b"b.py"] == "cannot be read"
        assert found == "1 files cannot be read"


def test_a_damaged_pack_is_read_as_far_as_it_goes(trapped):
    for number in range(6):
        trapped.commit({f"m{number}.py": random.Random(number).randbytes(3000).hex()})
    trapped.git("repack", "-adq")
    (pack,) = (trapped.path / ".git/objects/pack").glob("*.pack")
    whole = bytearray(pack.read_bytes())
    pack.chmod(0o644)
    whole[len(whole) * 3 // 4 : len(whole) * 3 // 4 + 400] = bytes(400)
    pack.write_bytes(whole)
    verdicts, found = report(trapped)
    assert list(verdicts.values()).count("cannot be read") == 1
    assert verdicts[b"a.py"] == ""
    assert found == "1 files cannot be read"


def test_a_truncated_pack_ends_in_an_error_of_ours(trapped):
    trapped.git("repack", "-adq")
    (pack,) = (trapped.path / ".git/objects/pack").glob("*.pack")
    pack.chmod(0o644)
    pack.write_bytes(pack.read_bytes()[:40])
    with pytest.raises(RepositoryError):
        report(trapped)


def test_missing_objects_and_what_alternates_hold(trapped, make_repository):
    """Objects may lie in another repository, as forges keep those of forks; a folder that is not there is no error."""
    pool = make_repository("pool")
    shared = blob(pool, b"shared = 1\n" * 20)
    root = raw_tree(trapped, (FILE, b"lost.py", "2" * 40), (FILE, b"shared.py", shared))
    commit_tree(trapped, root)
    assert set(report(trapped)[0].values()) == {"object is not in this clone"}
    alternates = trapped.path / ".git/objects/info/alternates"
    alternates.write_text(f"/nowhere/objects\n{pool.path}/.git/objects\n")
    assert report(trapped)[0] == {b"lost.py": "object is not in this clone", b"shared.py": ""}


def test_a_shallow_clone_is_whole_as_far_as_it_goes(trapped, tmp_path):
    trapped.commit({"b.py": "b = 2\n" * 20})
    trapped.git("clone", "-q", "--depth", "1", f"file://{trapped.path}", str(tmp_path / "shallow"))
    arm(trapped)
    with open_repository(tmp_path / "shallow", name="x") as repository:
        assert [len(commit.changes) for commit in repository.commits()] == [3]
        assert repository.damage() == ""


@pytest.mark.parametrize("ref", ["--output=/tmp/x", "-x", "--all", "HEAD:a.py", "main..main", "@{upstream}", "$(id)"])
def test_a_ref_that_is_no_commit_is_refused(ref, trapped):
    with pytest.raises(RepositoryError, match="no commit called"):
        opened(trapped, ref=ref)


@pytest.mark.parametrize("when", ["99999999999999999999 +0000", "-99999 +0000", "0 +9999999", "soon", ""])
def test_a_commit_of_no_time(when, trapped):
    head, root = trapped.git("rev-parse", "HEAD"), trapped.git("rev-parse", "HEAD^{tree}")
    person = f"Ada <ada@corp.io> {when}"
    body = f"tree {root}\nparent {head}\nauthor {person}\ncommitter {person}\n\nOdd\n"
    commit = trapped.git("hash-object", "-t", "commit", "--literally", "-w", "--stdin", stdin=body.encode())
    trapped.git("update-ref", "refs/heads/main", commit)
    with opened(trapped) as repository:
        odd, _ = repository.commits()
        assert (odd.id, odd.email) == (commit, "ada@corp.io")
        assert 0 <= odd.time < 1 << 62


def test_a_huge_tree_takes_seconds(trapped):
    leaf = blob(trapped)
    folders = []
    for number in range(50):
        name = b"d%03d" % number
        folders.append((FOLDER, name, raw_tree(trapped, *((FILE, b"f%04d.py" % n, leaf) for n in range(1000)))))
    commit_tree(trapped, raw_tree(trapped, *folders))
    began = time.process_time()
    with opened(trapped) as repository:
        entries = repository.entries()
        chain = FilterChain(PipelineConfig())
        assert sum(chain.by_entry(entry).keeps for entry in entries) == 50_000
    assert time.process_time() - began < 30


def test_a_tree_that_unfolds_without_end_is_cut(trapped, monkeypatch):
    """Ten folders of ten folders, ten deep, are ten small objects and ten billion files."""
    folder = raw_tree(trapped, (FILE, b"x.py", blob(trapped)))
    for _ in range(10):
        folder = raw_tree(trapped, *((FOLDER, b"%d" % number, folder) for number in range(10)))
    commit_tree(trapped, folder)
    monkeypatch.setattr(git, "MAX_ENTRIES", 2000)
    with opened(trapped) as repository:
        assert len(repository.entries()) == 2000
        assert repository.damage() == "its tree has more than 2,000 entries, the rest is left out"
        assert walk_tree(folder, repository._tree, max_entries=50).is_cut, "nor does the walk of damaged trees go on"


READ_ALL = """
import resource, sys
from pathlib import Path
from data_pipelines.config import PipelineConfig
from data_pipelines.filters.chain import FilterChain
from data_pipelines.sources.git import open_repository
with open_repository(Path(sys.argv[1]), name="x") as repository:
    (entry,) = [entry for entry in repository.entries() if entry.path == b"huge.py"]
    assert entry.bytes == 1 << 30, entry
    print(FilterChain(PipelineConfig()).by_entry(entry).reason)
    assert repository.content(entry.blob, max_bytes=1_000_000) is None
    assert repository.damage() == ""
    list(repository.commits())
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) // 1024)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def plant_gigabyte(builder):
    """A loose object of a gigabyte of zeros, a megabyte on disk, made in a moment; git does not check its name."""
    name = "ab" + "0" * 38
    path = builder.path / ".git/objects" / name[:2] / name[2:]
    path.parent.mkdir(exist_ok=True)
    packer = zlib.compressobj(9)
    head = b"blob %d\0" % (1 << 30)
    zeros = bytes(1 << 20)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    # after a full flush equal input gives equal bytes
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(start + block * (1 << 10))
    return name


def test_a_blob_of_a_gigabyte_is_never_read_into_memory(trapped):
    commit_tree(trapped, raw_tree(trapped, (FILE, b"huge.py", plant_gigabyte(trapped))))
    arm(trapped)
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(trapped.path)], capture_output=True, text=True, check=True
    )
    reason, own_mb, git_mb = done.stdout.splitlines()
    assert reason == "larger than 200000 bytes"
    # of itself: by ru_maxrss a child begins with the peak of the process that started it
    assert int(own_mb) < 500
    assert int(git_mb) < 500
