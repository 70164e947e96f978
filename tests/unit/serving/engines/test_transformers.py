"""The engine over a tiny random base: the same tokens as the library, adapters that come and go without a trace."""

import asyncio
import gc
import shutil
import sys
import threading
from collections.abc import Callable

import pytest
import torch

from finetune.contracts.adapter import AdapterManifest, Quantization
from finetune.contracts.adapter_files import list_files
from finetune.contracts.errors import AdapterError
from finetune.contracts.io import digest_file, read_model
from finetune.model.loading import load_base
from finetune.model.probe import continuation_log_probs
from serving.engines import transformers
from serving.engines.base import GenerationRequest, Occupancy, Sampling, TextPrompt, TokenPrompt
from serving.engines.transformers import TransformersEngine
from serving.errors import EngineError, RequestError
from serving.settings import ServerSettings

PROMPT = TokenPrompt((65, 66, 67))
GREEDY = Sampling(temperature=0.0, max_tokens=12)


def manifest_of(folder) -> AdapterManifest:
    return read_model(folder / "manifest.json", AdapterManifest, error=AdapterError, hint="")


@pytest.fixture(scope="module")
def base(tiny_base):
    return load_base(tiny_base, quantization=Quantization.NONE, device="cpu")


@pytest.fixture
def engine(base):
    one = TransformersEngine(base, ServerSettings(max_tokens=64, max_context_tokens=100))
    yield one
    one.close()


async def collect(engine, slot: str | None = None, *, prompt=PROMPT, sampling: Sampling = GREEDY):
    generation = await engine.generate(GenerationRequest(prompt, sampling, slot))
    return [delta async for delta in generation]


def text_of(deltas) -> str:
    return "".join(delta.text for delta in deltas)


async def attach(engine, folder, slot: str = "slot000000"):
    return await engine.attach(slot, folder, probe=manifest_of(folder).probe)


def test_greedy_tokens_are_those_of_a_full_pass(engine, base):
    sampling = Sampling(temperature=0.0, max_tokens=6, num_top_log_probs=0)
    deltas = asyncio.run(collect(engine, sampling=sampling))
    ids = list(PROMPT.token_ids)
    for delta in deltas:
        with torch.inference_mode():
            logits = base.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1, : len(base.tokenizer)]
        log_probs = torch.log_softmax(logits.float(), dim=-1)
        token = int(log_probs.argmax())
        assert delta.scores[0].text == base.tokenizer.decode([token])
        # the cached path rounds to bfloat16 elsewhere
        assert abs(delta.scores[0].log_prob - float(log_probs[token])) < 0.02
        ids.append(token)
    assert deltas[-1].finish_reason == "length" and sum(delta.num_tokens for delta in deltas) == 6


def test_a_stop_text_ends_the_answer(engine):
    whole = text_of(asyncio.run(collect(engine)))
    stop = whole[4:6]
    deltas = asyncio.run(collect(engine, sampling=Sampling(temperature=0.0, max_tokens=12, stop=(stop,))))
    assert text_of(deltas) == whole[: whole.index(stop)] and deltas[-1].finish_reason == "stop"


def test_only_the_tokenizer_s_tokens_are_drawn(engine, base):
    """The base pads its vocabulary from 267 to 320 rows."""
    assert base.model.config.vocab_size > len(base.tokenizer)
    hot = Sampling(temperature=2.0, max_tokens=60, seed=3, num_top_log_probs=20)
    scores = [score for delta in asyncio.run(collect(engine, sampling=hot)) for score in delta.scores]
    assert scores and all(text for score in scores for text, _ in score.top if text != "")
    assert all(abs(value) < 20 for score in scores for _, value in score.top)


@pytest.mark.parametrize(("length", "max_tokens", "fits"), [(99, None, True), (100, None, False), (60, 41, False)])
def test_prompt_and_answer_share_the_context(engine, length, max_tokens, fits):
    prompt, sampling = TextPrompt("x" * length), Sampling(temperature=0.0, max_tokens=max_tokens)
    if fits:
        assert sum(delta.num_tokens for delta in asyncio.run(collect(engine, prompt=prompt, sampling=sampling))) == 1
    else:
        with pytest.raises(RequestError, match="holds 100 tokens"):
            asyncio.run(collect(engine, prompt=prompt, sampling=sampling))


def test_an_adapter_acts_while_it_is_attached_and_leaves_no_trace(engine, base, good_adapter):
    names = [name for name, _ in base.model.named_modules()]

    async def scene():
        before = text_of(await collect(engine))
        reading = await attach(engine, good_adapter)
        probe = manifest_of(good_adapter).probe
        assert reading.adapter_log_probs == pytest.approx(probe.adapter_log_probs, abs=1e-4)
        assert reading.base_log_probs == pytest.approx(probe.base_log_probs, abs=1e-4)
        await attach(engine, good_adapter, "slot000001")
        answers = [text_of(await collect(engine, slot)) for slot in ("slot000000", None, "slot000001", "slot000000")]
        assert answers[0] == answers[2] == answers[3] != before and answers[1] == before
        await engine.detach("slot000000")
        assert text_of(await collect(engine, "slot000001")) == answers[0]
        await engine.detach("slot000001")
        assert text_of(await collect(engine)) == before

    asyncio.run(scene())
    assert [name for name, _ in base.model.named_modules()] == names


def test_requests_for_different_adapters_at_once_do_not_mix(engine, good_adapter):
    async def scene():
        await attach(engine, good_adapter)
        slots = ["slot000000", None] * 4
        alone = {slot: text_of(await collect(engine, slot)) for slot in slots[:2]}
        together = await asyncio.gather(*(collect(engine, slot) for slot in slots))
        assert [text_of(one) for one in together] == [alone[slot] for slot in slots]
        await engine.detach("slot000000")

    asyncio.run(scene())


def test_answers_take_their_steps_in_the_middle_of_a_probe_and_neither_changes(engine, good_adapter, monkeypatch):
    """Each linear map of the probe's pass is a border here."""
    monkeypatch.setattr(transformers, "PROBE_PIECE_SECONDS", 0.0)
    steps, go_on = [], engine._thread.go_on

    async def scene():
        await attach(engine, good_adapter, "resident")
        alone = {slot: text_of(await collect(engine, slot)) for slot in ("resident", None)}
        quiet = await attach(engine, good_adapter, "quiet")
        monkeypatch.setattr(engine._thread, "go_on", lambda: steps.append(go_on()) or steps[-1])
        engine._base_readings.clear()
        together = [asyncio.create_task(collect(engine, slot)) for slot in ("resident", None) * 4]
        await asyncio.sleep(0)
        busy = await attach(engine, good_adapter, "busy")
        assert [text_of(await one) for one in together] == list(alone.values()) * 4
        assert busy.base_log_probs == quiet.base_log_probs and busy.adapter_log_probs == quiet.adapter_log_probs
        for slot in ("resident", "quiet", "busy"):
            await engine.detach(slot)

    asyncio.run(scene())
    assert any(steps)
    assert not any(part._forward_pre_hooks for part in engine._base.model.modules())


def reseal(folder, change_manifest: Callable[..., None]) -> None:
    digests = manifest_of(folder).digests.model_copy(
        update={"weights": digest_file(folder / "adapter_model.safetensors")}
    )
    change_manifest(folder, files=list_files(folder), digests=digests)


def spoil(folder, how: str) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    first = sorted(state)[0]
    tensor = state.pop(first)
    if how == "shape":
        state[first] = torch.cat([tensor, tensor], dim=1).contiguous()
    elif how == "nowhere":
        state[first.replace("layers.0.", "layers.77.")], state[first] = tensor.clone(), tensor
    elif how in ("nan", "inf"):
        tensor[-1, -1] = float(how)
        state[first] = tensor
    save_file(state, path)


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("shape", r"model\.layers\.0\.\S+ have not the size"),
        ("missing", r"lacks base_model\.model\.model\.layers\.0\.\S+\.lora_A\.weight"),
        ("nowhere", r"no place for model\.layers\.77\."),
        ("nan", r"model\.layers\.0\.\S+\.lora_A\.weight holds what is no number"),
        ("inf", r"model\.layers\.0\.\S+\.lora_A\.weight holds what is no number"),
    ],
)
def test_a_load_that_fails_half_way_leaves_no_trace(
    engine, base, good_adapter, tmp_path, change_manifest, how, words, others
):
    folder = shutil.copytree(good_adapter, tmp_path / "bad")
    spoil(folder, how)
    reseal(folder, change_manifest)

    async def scene():
        if others:
            await attach(engine, good_adapter)
        slot = "slot000000" if others else None
        before = text_of(await collect(engine)), text_of(await collect(engine, slot))
        names = [name for name, _ in base.model.named_modules()]
        with pytest.raises(AdapterError, match=words):
            await attach(engine, folder, "slot000001")
        assert [name for name, _ in base.model.named_modules()] == names
        assert (text_of(await collect(engine)), text_of(await collect(engine, slot))) == before
        await attach(engine, good_adapter, "slot000002")
        assert text_of(await collect(engine, "slot000002")) != before[0]
        for one in ("slot000000", "slot000002")[1 - others :]:
            await engine.detach(one)

    asyncio.run(scene())


@pytest.mark.parametrize("token_ids", [(10**6,), (1,) * 2000])
def test_a_probe_that_does_not_fit_is_refused(engine, good_adapter, token_ids):
    probe = manifest_of(good_adapter).probe.model_copy(update={"token_ids": token_ids})
    with pytest.raises(AdapterError, match="reference probe"):
        asyncio.run(engine.attach("slot000000", good_adapter, probe=probe))


def test_a_load_that_nobody_waits_for_any_more_leaves_no_trace(engine, good_adapter):
    async def scene():
        entered, gate = threading.Event(), threading.Event()
        engine._thread.post(lambda: (entered.set(), gate.wait(10)))
        entered.wait(10)
        loading = asyncio.create_task(attach(engine, good_adapter))
        while not engine._thread._calls:
            await asyncio.sleep(0.001)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        gate.set()
        await attach(engine, good_adapter, "slot000001")
        assert "slot000000" not in engine._slots and "slot000001" in engine._slots
        await engine.detach("slot000001")

    asyncio.run(scene())


def test_memory_that_a_probe_lacks_is_said_and_leaves_no_trace(engine, good_adapter, monkeypatch):
    def fail(*args):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(transformers, "continuation_log_probs", fail)
    with pytest.raises(EngineError, match="no memory for the adapter"):
        asyncio.run(attach(engine, good_adapter))
    assert engine._slots.num_ranks == 0


def test_reading_an_adapter_leaves_nothing_in_memory(engine, good_adapter):
    """The library's load_file leaves two blocks for each tensor, each time."""

    def blocks() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    for _ in range(3):
        engine._read(good_adapter)
    before = blocks()
    for _ in range(20):
        num_maps = len(engine._read(good_adapter))
    assert blocks() - before < 20 * num_maps


def test_the_base_is_asked_a_probe_once(engine, good_adapter, monkeypatch):
    asked = []

    def count(*args):
        asked.append(engine._slots._selected)
        return continuation_log_probs(*args)

    monkeypatch.setattr(transformers, "continuation_log_probs", count)

    async def scene():
        first = await attach(engine, good_adapter, "slot000002")
        second = await attach(engine, good_adapter, "slot000003")
        assert engine.occupancy.adapter_bytes > 0 and first.seconds > 0
        for slot in ("slot000002", "slot000003"):
            await engine.detach(slot)
        return first, second

    first, second = asyncio.run(scene())
    assert asked == [(None,), ("slot000002",), ("slot000003",)]
    assert first.base_log_probs == second.base_log_probs and first.adapter_log_probs == second.adapter_log_probs
    assert engine.occupancy == Occupancy(num_waiting=0, num_running=0, adapter_bytes=0)


def test_base_readings_are_bounded(engine, good_adapter):
    probe = manifest_of(good_adapter).probe

    async def scene():
        for number in range(transformers.MAX_BASE_READINGS + 2):
            other = probe.model_copy(update={"token_ids": (*probe.token_ids, number)})
            await engine.attach("slot000004", good_adapter, probe=other)
            await engine.detach("slot000004")

    asyncio.run(scene())
    assert len(engine._base_readings) == transformers.MAX_BASE_READINGS


def test_kept_prompts_make_way_for_an_adapter(engine, good_adapter, monkeypatch):
    def fail_beside_prompts(*args):
        if engine._scheduler._kept.num_bytes:
            raise torch.OutOfMemoryError
        return measure(*args)

    measure = transformers.continuation_log_probs
    monkeypatch.setattr(transformers, "continuation_log_probs", fail_beside_prompts)

    async def scene():
        await collect(engine)
        assert engine._scheduler._kept.num_bytes > 0
        await attach(engine, good_adapter)
        await engine.detach("slot000000")

    asyncio.run(scene())


def test_a_closed_engine_is_not_ready(base):
    engine = TransformersEngine(base, ServerSettings())
    assert engine.ready
    engine.close()
    assert not engine.ready
