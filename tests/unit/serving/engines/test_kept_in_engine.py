"""The prompt cache behind requests: each adapter's own, the same answers as without, nothing half-written."""

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
from serving.engines.base import GenerationRequest, Sampling, TextPrompt
from serving.engines.batch import PromptReader
from serving.engines.kept import KeptPrompts
from serving.engines.transformers import TransformersEngine
from serving.errors import EngineError
from serving.settings import ServerSettings

GREEDY = Sampling(temperature=0.0, max_tokens=12)
SETTINGS = ServerSettings(max_tokens=64, max_context_tokens=200, max_requests=8)
WITHOUT = SETTINGS.model_copy(update={"prompt_cache_bytes": 0})
# all three of base and adapters have something to say to it, and it is read in several pieces
PROMPT = "def total(cart):\n    return sum(line.price * line.number for line in cart)\n\n\ndef # to"


@pytest.fixture(scope="module")
def base(tiny_base):
    one = load_base(tiny_base, quantization=Quantization.NONE, device="cpu")
    one.model.float()
    return one


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(scheduler, "PIECE_TOKENS", 16)


@asynccontextmanager
async def running(base, settings: ServerSettings = SETTINGS):
    engine = TransformersEngine(base, settings)
    try:
        yield engine
    finally:
        # the next engine over this base finds it bare
        for slot in list(engine._slots._ranks):
            await engine.detach(slot)
        await asyncio.to_thread(engine.close)


async def ask(engine, prompt=PROMPT, slot=None, *, sampling: Sampling = GREEDY) -> tuple[str, int]:
    """The answer, and how many tokens of the prompt were known."""
    generation = await engine.generate(GenerationRequest(TextPrompt(prompt), sampling, slot))
    text = "".join([delta.text async for delta in generation])
    return text, generation.num_cached_tokens


async def attach(engine, folder, slot: str) -> None:
    manifest = read_model(folder / "manifest.json", AdapterManifest, error=AdapterError, hint="")
    await engine.attach(slot, folder, probe=manifest.probe)


def test_each_adapter_version_knows_its_own_prompts_alone(base, good_adapter, other_adapter):
    async def answers(settings):
        async with running(base, settings) as engine:
            await attach(engine, good_adapter, "slot0")
            await attach(engine, other_adapter, "slot1")
            return [await ask(engine, PROMPT, slot) for slot in (None, "slot0", "slot1") * 2]

    found, plain = asyncio.run(answers(SETTINGS)), asyncio.run(answers(WITHOUT))
    assert [text for text, _ in found] == [text for text, _ in plain]
    assert len({text for text, _ in found}) == 3 and all(text for text, _ in found)
    assert [number for _, number in found] == [0] * 3 + [len(PROMPT)] * 3
    assert {number for _, number in plain} == {0}


def test_what_was_read_under_an_adapter_goes_with_it(base, good_adapter):
    async def scene():
        async with running(base) as engine:
            await attach(engine, good_adapter, "slot0")
            before = engine._scheduler._kept.num_bytes
            await ask(engine, slot="slot0")
            assert engine._scheduler._kept.num_bytes > before == 0
            await engine.detach("slot0")
            assert engine._scheduler._kept.num_bytes == 0

    asyncio.run(scene())


def test_many_at_once_with_one_beginning_answer_as_alone(base, good_adapter):
    asked = [(PROMPT + "abcdefgh"[:number], ("slot0", None)[number % 2]) for number in range(8)]

    async def answers(settings, *, together: bool):
        async with running(base, settings) as engine:
            await attach(engine, good_adapter, "slot0")
            if together:
                return await asyncio.gather(*(ask(engine, *one) for one in asked))
            return [await ask(engine, *one) for one in asked]

    found = asyncio.run(answers(SETTINGS, together=True))
    assert [text for text, _ in found] == [text for text, _ in asyncio.run(answers(WITHOUT, together=False))]
    assert sum(number > 60 for _, number in found) == 6


def test_a_seed_draws_the_same_from_a_known_prompt(base):
    hot = Sampling(temperature=1.0, top_p=0.9, seed=7, max_tokens=12)

    async def scene():
        async with running(base) as engine:
            first, again = [await ask(engine, sampling=hot) for _ in range(2)]
            assert first == (again[0], 0) and again[1] == len(PROMPT)

    asyncio.run(scene())


def test_of_a_reading_that_is_cancelled_whole_pieces_are_kept(base):
    async def scene():
        async with running(base, WITHOUT) as engine:
            plain, _ = await ask(engine)
        async with running(base) as engine:
            steps = []
            advance = engine._scheduler.advance
            left = asyncio.Event()
            loop = asyncio.get_running_loop()

            def leave_midway():
                advance()
                steps.append(engine._scheduler._reading)
                if len(steps) == 2:
                    generation.cancelled = True
                    loop.call_soon_threadsafe(left.set)

            engine._scheduler.advance = leave_midway
            generation = await engine.generate(GenerationRequest(TextPrompt(PROMPT), GREEDY))
            await asyncio.wait_for(left.wait(), 10)
            assert steps[1] is not None
            assert await ask(engine) == (plain, 32)
            assert await ask(engine) == (plain, len(PROMPT))

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("owner", "name", "fails"),
    [(PromptReader, "_begin", True), (KeptPrompts, "_add", False), (KeptPrompts, "_begin", False)],
)
def test_memory_that_runs_out_takes_what_is_kept_first(base, monkeypatch, owner, name, fails):
    """In a piece, in the copy that is to be kept, and in the copy to go on from."""

    def fail(*args, **options):
        raise torch.OutOfMemoryError

    async def scene():
        async with running(base) as engine:
            plain = [(await ask(engine, PROMPT + end))[0] for end in ("", "x")]
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, fail)
                if fails:
                    with pytest.raises(EngineError, match="out of memory"):
                        await ask(engine, PROMPT + "y")
                else:
                    await ask(engine, PROMPT + "y")
            text, number = await ask(engine, PROMPT + "x")
            assert text == plain[1] and number <= len(PROMPT)
            assert (await ask(engine))[0] == plain[0]

    asyncio.run(scene())


def test_a_warmed_prompt_is_known(base):
    async def scene():
        async with running(base) as engine:
            await ask(engine, sampling=replace(GREEDY, max_tokens=1))
            assert (await ask(engine))[1] == len(PROMPT)

    asyncio.run(scene())
