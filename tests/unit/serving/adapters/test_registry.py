"""A name keeps its meaning while somebody uses it."""

import asyncio

import pytest

from serving.errors import AdapterConflictError, AdapterMissingError, RequestError


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_unloading_waits_for_the_requests_that_came_before(registry, engine):
    async def scene():
        await registry.load("shop", "shop-1")
        first, second = registry.lease("shop"), registry.lease("shop")
        assert registry.served[0].num_active == 2
        unloading = asyncio.create_task(registry.unload("shop"))
        await settle()
        with pytest.raises(RequestError):
            registry.lease("shop")
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
        old = registry.lease("shop")
        unloading = asyncio.create_task(registry.unload("shop"))
        await settle()
        await registry.load("shop", "shop-1")
        assert registry.lease("shop").slot != old.slot
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
    lease = registry.lease("base")
    assert lease.slot is None and lease.version.startswith("base-")
