"""A name keeps its meaning while somebody uses it."""

import asyncio
import shutil
from pathlib import Path

import pytest

from finetune.contracts.errors import AdapterError
from serving.access.scopes import OPERATOR
from serving.adapters.desired import StateFile
from serving.adapters.registry import AdapterRegistry
from serving.errors import AdapterConflictError, AdapterMissingError, EngineError, RequestError


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_unloading_waits_for_the_requests_that_came_before(registry, engine):
    async def scene():
        await registry.load("shop", "shop-1")
        first, second = registry.lease("shop", OPERATOR), registry.lease("shop", OPERATOR)
        assert registry.served[0].current.num_active == 2
        unloading = asyncio.create_task(registry.unload("shop"))
        await settle()
        with pytest.raises(RequestError):
            registry.lease("shop", OPERATOR)
        first.release()
        first.release()
        await settle()
        assert not unloading.done() and engine.slots == ["slot000000"]
        second.release()
        await unloading
        assert engine.slots == []

    asyncio.run(scene())


def test_a_name_may_be_loaded_anew_while_the_old_one_drains(registry, engine):
    async def scene():
        await registry.load("shop", "shop-1")
        old = registry.lease("shop", OPERATOR)
        unloading = asyncio.create_task(registry.unload("shop"))
        await settle()
        await registry.load("shop", "shop-1")
        assert registry.lease("shop", OPERATOR).slot != old.slot
        old.release()
        await unloading
        assert engine.slots == ["slot000001"] and engine.detached == ["slot000000"]

    asyncio.run(scene())


def test_two_loads_of_one_name_at_once_give_one_adapter(registry, engine):
    async def scene():
        loads = [registry.load("shop", "shop-1") for _ in range(4)]
        done = await asyncio.gather(*loads, return_exceptions=True)
        assert sum(isinstance(one, AdapterConflictError) for one in done) == 3

    asyncio.run(scene())
    assert engine.slots == ["slot000000"]


def test_two_unloads_at_once_take_it_off_once(registry, engine):
    async def scene():
        await registry.load("shop", "shop-1")
        done = await asyncio.gather(registry.unload("shop"), registry.unload("shop"), return_exceptions=True)
        assert sum(isinstance(one, AdapterMissingError) for one in done) == 1

    asyncio.run(scene())
    assert engine.detached == ["slot000000"]


def test_the_base_needs_no_loading(registry):
    lease = registry.lease("base", OPERATOR)
    assert lease.slot is None and lease.name.startswith("base-")


@pytest.fixture
def three(root, make_adapter):
    """Two more adapters in the folder."""
    for number in (2, 3):
        make_adapter(root / f"shop-{number}", content=number)


async def move(registry, number: int, name: str = "shop"):
    return await registry.load(name, f"shop-{number}", move=True)


def test_a_running_request_keeps_its_adapter_when_the_name_moves(engine, store, three):
    async def scene():
        registry = AdapterRegistry(engine, store, max_adapters=3)
        await move(registry, 1)
        old = registry.lease("shop", OPERATOR)
        await move(registry, 2)
        new = registry.lease("shop", OPERATOR)
        assert (old.slot, new.slot) == ("slot000000", "slot000001") and old.name != new.name
        # the one before stays for going back, and the one before that goes when its last request has ended
        await move(registry, 3)
        await settle()
        assert engine.detached == [] and [one.state for one in registry.versions] == ["draining", *["resident"] * 2]
        old.release()
        await settle()
        assert engine.detached == ["slot000000"]

    asyncio.run(scene())


def test_what_drains_too_long_is_told_and_goes(engine, store, three):
    async def scene():
        registry = AdapterRegistry(engine, store, max_adapters=3, drain_seconds=0.02)
        await move(registry, 1)
        lease, told = registry.lease("shop", OPERATOR), []
        lease.when_ended(told.append)
        await registry.unload("shop")
        assert isinstance(told[0], EngineError) and "was replaced" in str(told[0])
        assert engine.detached == ["slot000000"]
        assert registry.measures.cut_off.collect()[0].samples[0].value == 1
        lease.release()

    asyncio.run(scene())


def test_two_names_of_one_adapter_share_it(registry, engine):
    async def scene():
        await registry.load("a", "shop-1")
        await registry.load("b", "shop-1")
        assert engine.slots == ["slot000000"]
        await registry.unload("a")
        assert engine.detached == [] and registry.lease("b", OPERATOR).slot == "slot000000"

    asyncio.run(scene())


def test_room_is_made_of_what_is_only_kept_for_going_back(registry, engine, three):
    """Two adapters at most."""

    async def scene():
        await move(registry, 1)
        await move(registry, 2)
        await registry.load("other", "shop-3")
        assert engine.detached == ["slot000000"]
        with pytest.raises(AdapterConflictError, match="stood for nothing else"):
            await registry.rollback("shop")
        with pytest.raises(AdapterConflictError, match="limit"):
            await move(registry, 1)
        assert registry.lease("shop", OPERATOR).slot == "slot000001"

    asyncio.run(scene())


def test_a_move_that_is_refused_leaves_the_name_where_it_was(registry, engine, three):
    async def scene():
        await move(registry, 1)
        engine.adapter_log_probs = (-2.0, -3.0)
        with pytest.raises(AdapterConflictError, match="does not change"):
            await move(registry, 2)
        assert registry.lease("shop", OPERATOR).slot == "slot000000" and len(registry.versions) == 1

    asyncio.run(scene())


def test_nobody_goes_back_to_what_was_withdrawn(registry, three, store, monkeypatch):
    async def scene():
        await move(registry, 1)
        await move(registry, 2)

        def refuse(manifest):
            raise AdapterError(f"{manifest.adapter_id} was withdrawn.", "")

        monkeypatch.setattr(store, "check_not_withdrawn", refuse)
        with pytest.raises(AdapterError, match="withdrawn"):
            await registry.rollback("shop")
        assert registry.lease("shop", OPERATOR).slot == "slot000001"

    asyncio.run(scene())


@pytest.fixture
def state(root):
    """Where a home has the state of one server."""
    return root.parent / "served" / "8000-base.json"


def test_a_restart_serves_the_same(engine, store, three, root, state):
    def anew() -> AdapterRegistry:
        return AdapterRegistry(engine, store, max_adapters=4, state=StateFile(state))

    async def before():
        registry = anew()
        await move(registry, 1)
        await move(registry, 2)
        await registry.load("other", "shop-3")
        await registry.load("gone", "shop-3")
        await registry.unload("gone")
        return {alias.name: alias.current.adapter_id for alias in registry.served}

    async def after():
        registry = anew()
        assert await registry.restore() == []
        served = {alias.name: alias.current.adapter_id for alias in registry.served}
        assert [len(registry.history(name)) for name in served] == [2, 1]
        await registry.rollback("shop")
        return served

    async def with_one_gone():
        registry = anew()
        shutil.rmtree(StateFile(state).read()["other"].current.folder)
        (problem,) = await registry.restore()
        assert problem.startswith("other: shop-") and "no longer where it was loaded from" in problem
        assert [alias.name for alias in registry.served] == ["shop"]
        await registry.rollback("shop")

    served = asyncio.run(before())
    # the copies are what is served
    shutil.rmtree(root)
    assert set(served) == {"shop", "other"} and asyncio.run(after()) == served
    asyncio.run(with_one_gone())
    assert set(StateFile(state).read()) == {"shop", "other"}


def test_a_damaged_state_is_told(engine, store, state):
    state.parent.mkdir()
    state.write_text("{")
    registry = AdapterRegistry(engine, store, max_adapters=4, state=StateFile(state))
    with pytest.raises(AdapterError, match="damaged"):
        asyncio.run(registry.restore())


def test_another_content_at_the_place_of_an_adapter_is_not_served_in_its_name(engine, store, three, root, state):
    def anew() -> AdapterRegistry:
        return AdapterRegistry(engine, store, max_adapters=4, state=StateFile(state))

    asyncio.run(move(anew(), 1))
    copy = Path(StateFile(state).read()["shop"].current.folder)
    shutil.rmtree(copy)
    shutil.copytree(root / "shop-2", copy)
    (problem,) = asyncio.run(anew().restore())
    assert "no longer where it was loaded from" in problem


def test_a_name_that_is_unloaded_while_it_moves_is_served_anew(registry, engine, three, monkeypatch):
    entered, gate, attach = asyncio.Event(), asyncio.Event(), engine.attach

    async def slow(slot, folder, *, probe):
        entered.set()
        await gate.wait()
        return await attach(slot, folder, probe=probe)

    async def scene():
        await move(registry, 1)
        monkeypatch.setattr(engine, "attach", slow)
        moving = asyncio.create_task(move(registry, 2))
        await entered.wait()
        await registry.unload("shop")
        gate.set()
        alias = await moving
        assert registry.served == (alias,) and alias.previous is None
        assert registry.lease("shop", OPERATOR).slot == "slot000001" and engine.detached == ["slot000000"]

    asyncio.run(scene())


def test_what_is_about_to_go_is_not_given_to_a_new_name(registry, engine):
    async def scene():
        await registry.load("a", "shop-1")
        unloading = asyncio.create_task(registry.unload("a"))
        loading = asyncio.create_task(registry.load("b", "shop-1"))
        await asyncio.gather(unloading, loading)
        assert registry.lease("b", OPERATOR).slot in engine.slots

    asyncio.run(scene())
