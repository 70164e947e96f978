"""The real engine leaves: nothing of its model stays in memory, and what comes back answers as before."""

import asyncio
import gc
import weakref

import pytest

from finetune.contracts.adapter import AdapterManifest, Quantization
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import read_model
from serving.engines.base import GenerationRequest, Sampling, TokenPrompt
from serving.engines.transformers import load_engine
from serving.engines.yielding import YieldingEngine
from serving.errors import AwayError, EngineError
from serving.settings import ServerSettings

PROMPT = TokenPrompt((65, 66, 67))
GREEDY = Sampling(temperature=0.0, max_tokens=12)
ENDLESS = Sampling(temperature=0.0, max_tokens=4000)


def probe_of(folder):
    return read_model(folder / "manifest.json", AdapterManifest, error=AdapterError, hint="").probe


@pytest.fixture
def models():
    """A weak reference to each model that was loaded."""
    return []


@pytest.fixture
def engine(tiny_base, models):
    def load():
        made = load_engine(tiny_base, ServerSettings(max_context_tokens=5000), quantization=Quantization.NONE)
        models.append(weakref.ref(made._base.model))
        return made

    one = YieldingEngine(load)
    yield one
    one.close()


async def answer(engine, slot: str | None = None) -> str:
    generation = await engine.generate(GenerationRequest(PROMPT, GREEDY, slot))
    return "".join([delta.text async for delta in generation])


def test_nothing_of_the_model_stays_and_what_comes_back_answers_the_same(engine, models, good_adapter):
    async def scene():
        await engine.attach("slot000000", good_adapter, probe=probe_of(good_adapter))
        before = await answer(engine), await answer(engine, "slot000000")
        await engine.drain("away", seconds=5)
        await engine.free()
        assert models[0]() is None
        assert not engine.ready
        with pytest.raises(AwayError, match="away"):
            await answer(engine)
        with pytest.raises(AwayError):
            await engine.attach("slot000001", good_adapter, probe=probe_of(good_adapter))
        await engine.detach("slot000000")
        await engine.reload()
        with pytest.raises(AwayError):
            await answer(engine)
        # one that was draining when the engine went
        await engine.detach("slot000000")
        await engine.attach("slot000000", good_adapter, probe=probe_of(good_adapter))
        engine.open()
        assert engine.ready
        assert (await answer(engine), await answer(engine, "slot000000")) == before

    asyncio.run(scene())


def test_a_client_that_stops_reading_does_not_hold_the_model(engine, models):
    async def scene():
        stalled = await engine.generate(GenerationRequest(PROMPT, ENDLESS))
        deltas = aiter(stalled)
        await anext(deltas)
        await engine.drain("away", seconds=0.2)
        await engine.free()
        assert models[0]() is None
        with pytest.raises(EngineError, match="gave its card away"):
            while True:
                await anext(deltas)

    asyncio.run(scene())


def test_requests_that_wait_or_are_being_accepted_do_not_hold_the_model(engine, models):
    async def scene():
        requests = [asyncio.ensure_future(ask_all(engine)) for _ in range(20)]
        await asyncio.sleep(0)
        await engine.drain("away", seconds=0.0)
        await engine.free()
        results = await asyncio.gather(*requests, return_exceptions=True)
        assert all(isinstance(one, EngineError) for one in results)
        del results, requests
        # the errors that this test gathered hold frames
        gc.collect()
        assert models[0]() is None

    asyncio.run(scene())


async def ask_all(engine) -> None:
    async for _ in await engine.generate(GenerationRequest(PROMPT, ENDLESS)):
        pass
