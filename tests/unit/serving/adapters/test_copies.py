"""Copies of what is served: taken once, read-only, there as long as somebody needs them and no longer."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from finetune.contracts.adapter_files import list_files, read_manifest
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import digest_json
from finetune.contracts.withdrawal import WithdrawnMark, write_mark
from serving.adapters import copies as copies_module
from serving.adapters.copies import AdapterCopies
from serving.adapters.desired import DesiredAlias, DesiredVersion, StateFile
from serving.adapters.registry import AdapterRegistry


@pytest.fixture
def served(root):
    return root.parent / "served"


@pytest.fixture
def copies(served):
    return AdapterCopies(served)


@pytest.fixture
def folder(root):
    return root / "shop-1"


def take(copies, folder, *, check=read_manifest):
    return copies.take(folder, read_manifest(folder), check=check)


def sweep(copies) -> None:
    copies.sweep(lambda manifest: False)


def names(served) -> set[str]:
    """What lies in the store, its lock aside."""
    return {path.name for path in (served / "store").iterdir()} - {".lock"}


def name_in_state(served, folder, number: int = 8000) -> None:
    one = DesiredVersion(adapter_id="shop", folder=str(folder))
    StateFile(served / f"{number}-base.json").write({"shop": DesiredAlias(current=one)})


def test_a_copy_is_read_only_whole_and_named_for_its_content(copies, folder, served):
    manifest = read_manifest(folder)
    copy = take(copies, folder)
    assert copy.folder == served / "store" / digest_json(manifest)
    assert copy.folder.stat().st_mode & 0o777 == 0o555
    assert {path.name: path.read_bytes() for path in copy.folder.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    assert {path.stat().st_mode & 0o777 for path in copy.folder.iterdir()} == {0o444}


def test_the_same_content_is_copied_once_whatever_its_folder(copies, folder, served, root):
    first = take(copies, folder)
    second = take(copies, shutil.copytree(folder, root / "again"))
    assert first.folder == second.folder and len(names(served)) == 1


def test_what_is_checked_is_what_will_be_loaded(copies, folder, served):
    """The folder changes after it was checked, while it is copied, and after."""
    manifest = read_manifest(folder)
    weights = folder / "adapter_model.safetensors"
    content = weights.read_bytes()
    seen = []

    def check(copy):
        seen.append((copy / weights.name).read_bytes())
        weights.write_bytes(b"x" * len(content))
        return read_manifest(copy)

    copy = copies.take(folder, manifest, check=check)
    assert seen == [content] and (copy.folder / weights.name).read_bytes() == content


@pytest.mark.parametrize("change", ["longer", "link", "gone", "pipe", "manifest"])
def test_a_folder_that_changes_under_the_copying_is_refused_and_leaves_nothing(copies, folder, served, change):
    manifest = read_manifest(folder)
    weights = folder / "adapter_model.safetensors"
    content = weights.read_bytes()
    if change == "longer":
        weights.write_bytes(content + b"x")
    elif change == "manifest":
        document = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**document, "run_id": "another"}))
    else:
        weights.unlink()
        if change == "link":
            (folder.parent / "elsewhere").write_bytes(content)
            weights.symlink_to(folder.parent / "elsewhere")
        elif change == "pipe":
            os.mkfifo(weights)
    with pytest.raises(AdapterError, match="shop-1.* was changed while it was copied"):
        copies.take(folder, manifest, check=read_manifest)
    assert names(served) == set()


def test_a_copy_that_is_refused_is_not_kept_and_is_told_by_the_name_of_its_origin(copies, folder, served):
    def refuse(copy):
        raise AdapterError(f"{copy.name}/adapter_model.safetensors is wrong.", "")

    with pytest.raises(AdapterError, match=r"^shop-1/adapter_model\.safetensors is wrong"):
        take(copies, folder, check=refuse)
    assert names(served) == set()


def damage(folder) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"\x00" * weights.stat().st_size)


def digests(folder):
    """The check of a real server: a manifest whose files are what it says."""
    manifest = read_manifest(folder)
    if list_files(folder) != manifest.files:
        raise AdapterError(f"{folder.name} is damaged.", "")
    return manifest


def test_a_damaged_copy_is_made_anew(copies, folder, served):
    copy = take(copies, folder)
    damage(copy.folder)
    copy.release()
    again = take(copies, folder, check=digests)
    assert again.folder == copy.folder and digests(again.folder) and len(names(served)) == 1


def test_a_damaged_copy_that_another_server_uses_stays_and_is_told(copies, folder):
    copy = take(copies, folder)
    damage(copy.folder)
    with pytest.raises(AdapterError, match="another server of this home uses it"):
        take(copies, folder, check=digests)
    assert copy.folder.is_dir()


def test_garbage_goes_and_what_is_used_or_named_stays(copies, folder, served, root, make_adapter):
    folders = {name: make_adapter(root / name, content=ord(name[0])) for name in ("used", "current", "before", "free")}
    taken = {name: take(copies, one) for name, one in folders.items()}
    current, before = (
        DesiredVersion(adapter_id=name, folder=str(taken[name].folder)) for name in ("current", "before")
    )
    # of another port than that of whoever sweeps
    StateFile(served / "9000-base.json").write({"shop": DesiredAlias(current=current, previous=before)})
    for name in ("current", "before", "free"):
        taken[name].release()
    (served / "store" / ".new-half").mkdir()
    sweep(AdapterCopies(served))
    assert names(served) == {taken[name].folder.name for name in ("used", "current", "before")}
    name_in_state(served, taken["before"].folder, number=9000)
    sweep(copies)
    assert names(served) == {taken[name].folder.name for name in ("used", "before")}


def test_two_servers_that_use_one_copy_do_not_remove_it_from_each_other(copies, folder, served):
    first, second = take(copies, folder), take(AdapterCopies(served), folder)
    first.release()
    sweep(copies)
    assert second.folder.is_dir()
    second.release()
    sweep(copies)
    assert names(served) == set()


def test_nothing_goes_while_a_state_cannot_be_read(copies, folder, served, caplog):
    copy = take(copies, folder)
    copy.release()
    (served / "8000-base.json").write_text("{")
    sweep(copies)
    assert copy.folder.is_dir() and "8000-base.json is damaged" in caplog.text


def test_a_disk_that_keeps_its_garbage_stops_no_unload(registry, served, root, caplog, monkeypatch):
    def refuse(folder):
        raise OSError(30, "Read-only file system")

    async def scene():
        await registry.load("shop", "shop-1")
        monkeypatch.setattr(copies_module, "_remove", refuse)
        await registry.unload("shop")
        assert registry.versions == () and len(names(served)) == 1

    asyncio.run(scene())
    assert "not removed" in caplog.text and "Read-only" in caplog.text


def test_servers_that_take_and_sweep_at_once_never_lose_what_they_hold(served, root, make_adapter):
    folders = [make_adapter(root / f"a{number}", content=number) for number in range(2)]

    def keep_taking(number: int) -> None:
        own = AdapterCopies(served)
        for turn in range(12):
            copy = take(own, folders[(turn + number) % 2], check=digests)
            assert digests(copy.folder)
            copy.release()
            sweep(own)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(keep_taking, number) for number in range(4)]:
            done.result()
    assert names(served) == set()


def test_the_copy_of_what_was_withdrawn_goes_though_a_state_names_it(copies, folder, served, store, root):
    copy = take(copies, folder)
    name_in_state(served, copy.folder)
    manifest = read_manifest(folder)
    mark = WithdrawnMark(
        adapter_id=manifest.adapter_id, weights=manifest.digests.weights, who="me", reason="r", at=1, entry="0"
    )
    write_mark(root, mark)
    copies.sweep(store.is_withdrawn)
    assert copy.folder.is_dir(), "it is in use"
    copy.release()
    copies.sweep(store.is_withdrawn)
    assert names(served) == set()


@pytest.mark.parametrize("moment", ["while it copies", "before the state", "after the state"])
def test_a_kill_leaves_garbage_and_never_a_state_without_its_copy(copies, folder, served, moment):
    script = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from finetune.contracts.adapter_files import read_manifest
        from serving.adapters import copies
        from serving.adapters.desired import DesiredAlias, DesiredVersion, StateFile
        folder, served, moment = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
        die = lambda *rest: os.kill(os.getpid(), signal.SIGKILL)
        if moment == "while it copies":
            copies.sync_folder = die
        copy = copies.AdapterCopies(served).take(folder, read_manifest(folder), check=read_manifest)
        if moment == "after the state":
            one = DesiredVersion(adapter_id="shop", folder=str(copy.folder))
            StateFile(served / "8000-base.json").write({"shop": DesiredAlias(current=one)})
        die()
    """)
    done = subprocess.run([sys.executable, "-c", script, folder, served, moment], check=False)
    assert done.returncode == -signal.SIGKILL and len(names(served)) == 1
    sweep(copies)
    kept = {digest_json(read_manifest(folder))} if moment == "after the state" else set()
    assert names(served) == kept
    assert take(copies, folder, check=digests).folder.is_dir()


def test_a_registry_lets_a_copy_go_with_the_last_that_needs_it(engine, store, root, served, make_adapter):
    """Replaced, unloaded, refused by the engine: nothing is left but what is served or may be gone back to."""
    for number in (2, 3):
        make_adapter(root / f"shop-{number}", content=number)
    state = StateFile(served / "8000-base.json")

    async def scene():
        registry = AdapterRegistry(engine, store, max_adapters=4, state=state)
        for number in (1, 2, 3):
            await registry.load("shop", f"shop-{number}", move=True)
        await registry.drained()
        assert names(served) == {one.folder.name for one in registry.served[0].versions()}
        engine.attach_error = AdapterError("No.", "")
        with pytest.raises(AdapterError):
            await registry.load("bad", "shop-1")
        assert len(names(served)) == 2 and len(registry.versions) == 2
        await registry.unload("shop")
        assert names(served) == set()

    asyncio.run(scene())


def test_what_room_was_made_of_is_no_longer_named(engine, store, root, served, make_adapter):
    for number in (2, 3):
        make_adapter(root / f"shop-{number}", content=number)
    state = StateFile(served / "8000-base.json")

    async def scene():
        registry = AdapterRegistry(engine, store, max_adapters=2, state=state)
        await registry.load("shop", "shop-1")
        await registry.load("shop", "shop-2", move=True)
        await registry.load("other", "shop-3")
        assert state.read()["shop"].previous is None and len(names(served)) == 2

    asyncio.run(scene())


def test_a_version_that_is_copied_is_shown_as_fetching(engine, store, monkeypatch):
    async def scene():
        registry = AdapterRegistry(engine, store, max_adapters=2)
        states = []
        take = store.copies.take

        def slow(*args, **options):
            states.append([one.state.value for one in registry.versions])
            return take(*args, **options)

        monkeypatch.setattr(store.copies, "take", slow)
        await registry.load("shop", "shop-1")
        assert states == [["fetching"]] and registry.versions[0].state == "resident"
        assert registry.versions[0].folder.parent.name == "store"

    asyncio.run(scene())


def test_a_start_removes_what_a_kill_left(engine, store, served, folder, copies):
    take(copies, folder).release()
    (served / "store" / ".new-half").mkdir()
    registry = AdapterRegistry(engine, store, max_adapters=2, state=StateFile(served / "8000-base.json"))
    assert asyncio.run(registry.restore()) == [] and names(served) == set()
