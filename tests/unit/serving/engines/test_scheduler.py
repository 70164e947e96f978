"""Many requests at once through the engine: none torn, none mixed, each place given back; in float32, where a batch
changes nothing in the numbers that matters."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import torch

from finetune.contracts.adapter import AdapterManifest, Quantization
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import read_model
from finetune.model.loading import load_base
from serving.engines import scheduler
from serving.engines.base import GenerationRequest, Sampling, TextPrompt, TokenPrompt
from serving.engines.transformers import TransformersEngine
from serving.errors import BusyError, EngineError
from serving.settings import ServerSettings

GREEDY = Sampling(temperature=0.0, max_tokens=12)
SETTINGS = ServerSettings(max_tokens=64, max_context_tokens=200, max_requests=8)


@pytest.fixture(scope="module")
def base(tiny_base):
    one = load_base(tiny_base, quantization=Quantization.NONE, device="cpu")
    one.model.float()
    return one


@asynccontextmanager
async def running(base, settings: ServerSettings = SETTINGS):
    engine = TransformersEngine(base, settings)
    try:
        yield engine
    finally:
        await asyncio.to_thread(engine.close)


async def ask(engine, prompt="def f(", slot=None, *, sampling: Sampling = GREEDY) -> str:
    generation = await engine.generate(GenerationRequest(TextPrompt(prompt), sampling, slot))
    return "".join([delta.text async for delta in generation])


async def attach(engine, folder, slot: str) -> None:
    manifest = read_model(folder / "manifest.json", AdapterManifest, error=AdapterError, hint="")
    await engine.attach(slot, folder, probe=manifest.probe)


def test_requests_of_all_lengths_and_adapters_at_once_are_answered_as_alone(base, good_adapter, other_adapter):
    async def scene():
        async with running(base) as engine:
            await attach(engine, good_adapter, "slot0")
            await attach(engine, other_adapter, "slot1")
            asked = [("x" * (1 + 7 * number), ("slot0", None, "slot1")[number % 3]) for number in range(8)]
            alone = [await ask(engine, *one) for one in asked]
            assert await asyncio.gather(*(ask(engine, *one) for one in asked)) == alone
            assert len({await ask(engine, "abc", slot) for slot in (None, "slot0", "slot1")}) == 3

    asyncio.run(scene())


def test_a_stream_goes_on_while_adapters_come_and_go(base, good_adapter, other_adapter):
    async def scene():
        async with running(base) as engine:
            await attach(engine, good_adapter, "slot0")
            long = replace(GREEDY, max_tokens=60)
            alone = await ask(engine, "abc", "slot0", sampling=long)
            stream = asyncio.create_task(ask(engine, "abc", "slot0", sampling=long))
            for number in range(1, 6):
                await attach(engine, other_adapter, f"slot{number}")
                await ask(engine, "abc", f"slot{number}", sampling=replace(GREEDY, max_tokens=2))
                await engine.detach(f"slot{number}")
            assert await stream == alone

    asyncio.run(scene())


def test_a_seed_gives_the_same_draws_alone_and_in_company(base):
    hot = Sampling(temperature=1.0, top_p=0.9, seed=7, max_tokens=12)

    async def scene():
        async with running(base) as engine:
            alone = await ask(engine, sampling=hot)
            crowd = [ask(engine, sampling=replace(hot, seed=seed)) for seed in (7, 8, 9, 7)]
            answers = await asyncio.gather(*crowd)
            assert answers[0] == answers[3] == alone and len(set(answers)) == 3

    asyncio.run(scene())


def test_a_long_prompt_is_read_in_pieces_between_the_steps_of_others(base, monkeypatch):
    monkeypatch.setattr(scheduler, "PIECE_TOKENS", 8)
    ends: list[str] = []

    async def timed(engine, name: str, prompt: str, sampling: Sampling) -> str:
        answer = await ask(engine, prompt, sampling=sampling)
        ends.append(name)
        return answer

    async def scene():
        async with running(base) as engine:
            alone = await ask(engine, "y" * 180)
            short = asyncio.create_task(timed(engine, "short", "abc", replace(GREEDY, max_tokens=10)))
            long = asyncio.create_task(timed(engine, "long", "y" * 180, GREEDY))
            await short
            assert await long == alone and ends == ["short", "long"]

    asyncio.run(scene())


def test_a_cancelled_answer_frees_its_place_in_every_state(base):
    """Waiting, being read, and in the batch."""
    settings = SETTINGS.model_copy(update={"max_batch": 1, "max_requests": 3})

    async def scene():
        async with running(base, settings) as engine:
            endless = replace(GREEDY, max_tokens=64)
            request = GenerationRequest(TokenPrompt((65,)), endless)
            whole = [delta async for delta in await engine.generate(request)]
            for num_cancelled in (1, 2, 3):
                open_ones = [await engine.generate(request) for _ in range(3)]
                with pytest.raises(BusyError):
                    await engine.generate(request)
                for one in open_ones[:num_cancelled]:
                    one.cancel()
                    one.cancel()
                for one in open_ones[num_cancelled:]:
                    assert [delta async for delta in one] == whole
            assert await ask(engine) == await ask(engine)

    asyncio.run(scene())


def test_the_batch_holds_so_many_tokens(base, monkeypatch):
    widest: list[int] = []
    step = scheduler.Batch.step

    def counted(batch):
        widest.append(len(batch.rows))
        return step(batch)

    monkeypatch.setattr(scheduler.Batch, "step", counted)
    settings = SETTINGS.model_copy(update={"max_batch_tokens": 40})

    async def scene():
        async with running(base, settings) as engine:
            # 3 + 12 tokens each: two fit, and one of 112 goes alone
            asked = [("abc", GREEDY)] * 4 + [("abc" * 33 + "d", GREEDY)] + [("abc", GREEDY)]
            await asyncio.gather(*(ask(engine, prompt, sampling=sampling) for prompt, sampling in asked))

    asyncio.run(scene())
    assert max(widest) == 2


def test_a_row_that_fails_takes_no_other_with_it(base, monkeypatch):
    write = scheduler.AnswerWriter.write

    def fail_third(writer, logits):
        if writer.num_tokens == 3 and writer._max_new_tokens == 11:
            logits = logits * float("nan")
        return write(writer, logits)

    monkeypatch.setattr(scheduler.AnswerWriter, "write", fail_third)

    async def scene():
        async with running(base) as engine:
            alone = await ask(engine)
            broken = ask(engine, sampling=replace(GREEDY, max_tokens=11))
            first, error, second = await asyncio.gather(ask(engine), broken, ask(engine), return_exceptions=True)
            assert first == second == alone and isinstance(error, EngineError) and "no number" in str(error)

    asyncio.run(scene())


def test_memory_that_runs_out_ends_what_runs_and_not_the_server(base, monkeypatch):
    step = scheduler.Batch.step
    calls: list[int] = []

    def fail_once(batch):
        calls.append(len(batch.rows))
        if len(calls) == 3:
            raise torch.OutOfMemoryError("no memory")
        return step(batch)

    monkeypatch.setattr(scheduler.Batch, "step", fail_once)

    async def scene():
        async with running(base) as engine:
            with pytest.raises(EngineError, match="out of memory"):
                await ask(engine)
            assert engine.ready and await ask(engine) == await ask(engine)

    asyncio.run(scene())


def test_a_long_prompt_that_is_rendered_holds_nobody_up(base):
    async def scene():
        async with running(base) as engine:
            alone = await ask(engine)
            generation = await engine.generate(GenerationRequest(TextPrompt("def f("), GREEDY))
            with engine._tokenizing:
                texts = await asyncio.wait_for(collect(generation), 10)
            assert "".join(texts) == alone

    async def collect(generation):
        return [delta.text async for delta in generation]

    asyncio.run(scene())


def test_an_adapter_that_is_taken_off_early_serves_its_requests_to_the_end(base, good_adapter):
    long = replace(GREEDY, max_tokens=40)

    async def scene():
        async with running(base) as engine:
            await attach(engine, good_adapter, "slot0")
            asked = [("abc", slot) for slot in ("slot0", None)]
            alone = [await ask(engine, *one, sampling=long) for one in asked]
            streams = [await engine.generate(GenerationRequest(TextPrompt(text), long, slot)) for text, slot in asked]
            await engine.detach("slot0")
            assert ["".join([delta.text async for delta in stream]) for stream in streams] == alone
            with pytest.raises(EngineError, match="unloaded"):
                await ask(engine, "abc", "slot0")
            assert engine._slots.num_ranks == 0

    asyncio.run(scene())
