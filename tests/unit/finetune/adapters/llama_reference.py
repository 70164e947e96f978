"""A tiny base as llama.cpp's own converter would write it (conversion/base.py, llama.py, qwen.py), and its scores."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file


def tile_heads(tensor: torch.Tensor, dim: int, config: Mapping[str, Any], *, size: int) -> torch.Tensor:
    """Value heads of size rows along dim, grouped by key head, become tiled."""
    keys, values = config["linear_num_key_heads"], config["linear_num_value_heads"]
    shape = tensor.shape
    grouped = tensor.unflatten(dim, (keys, values // keys, size))
    return grouped.transpose(dim, dim + 1).reshape(shape)


def interleave_halves(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Rows of a head's halves become neighbours."""
    return weight.unflatten(0, (num_heads, 2, -1)).transpose(1, 2).reshape(weight.shape)


def delta_tensor(name: str, tensor: torch.Tensor, config: Mapping[str, Any]) -> tuple[str, torch.Tensor]:
    """A tensor of Qwen3.5 as llama.cpp has it."""
    size = config["linear_value_head_dim"]
    before = 2 * config["linear_num_key_heads"] * config["linear_key_head_dim"]
    if name.endswith(".A_log"):
        return name, tile_heads(-tensor.exp(), 0, config, size=1)
    if name.endswith(".dt_bias"):
        return name.replace("dt_bias", "dt_proj.bias"), tile_heads(tensor, 0, config, size=1)
    if "conv1d" in name or "in_proj_qkv" in name:
        flat = tensor.squeeze()
        return name, torch.cat([flat[:before], tile_heads(flat[before:], 0, config, size=size)])
    if "in_proj_" in name:
        return name, tile_heads(tensor, 0, config, size=size if "in_proj_z" in name else 1)
    if "linear_attn.out_proj" in name:
        return name, tile_heads(tensor, 1, config, size=size)
    is_norm = name.endswith("norm.weight") and not name.endswith("linear_attn.norm.weight")
    return name, tensor + 1 if is_norm else tensor


def write_base(base: Path, target: Path, architecture: str) -> None:
    """The tiny base in the folder base as a 32-bit GGUF with a vocabulary of made-up words."""
    config = json.loads((base / "config.json").read_text())
    (arch,) = (found for found in gguf.MODEL_ARCH if gguf.MODEL_ARCH_NAMES[found] == architecture)
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    writer = gguf.GGUFWriter(target, architecture)
    write_sizes(writer, config)
    if architecture.startswith("qwen35"):
        write_delta_sizes(writer, config)
    for name, tensor in base_tensors(base, config, architecture):
        here = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(here, np.ascontiguousarray(tensor.numpy()))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def base_tensors(base: Path, config: Mapping[str, Any], architecture: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and values of each tensor, those of the experts of a layer stacked."""
    experts: dict[str, list[torch.Tensor]] = {}
    for name, stored in sorted(load_file(base / "model.safetensors").items()):
        tensor = stored.float()
        for leaf, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
            if architecture == "llama" and leaf in name:
                tensor = interleave_halves(tensor, config[heads])
        if found := re.fullmatch(r"(.*\.experts)\.\d+(\..*)", name):
            experts.setdefault(found[1] + found[2], []).append(tensor)
        else:
            yield delta_tensor(name, tensor, config) if architecture.startswith("qwen35") else (name, tensor)
    yield from ((name, torch.stack(parts)) for name, parts in experts.items())


def write_sizes(writer: Any, config: Mapping[str, Any]) -> None:
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    rope = config["rope_parameters"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(4096)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config.get("intermediate_size", 0))
    if experts := config.get("num_experts") or config.get("num_local_experts"):
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config.get("moe_intermediate_size", 0))
        writer.add_expert_shared_feed_forward_length(config.get("shared_expert_intermediate_size", 0))
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    writer.add_rope_dimension_count(int(size * rope.get("partial_rotary_factor", 1.0)))
    words = [f"<t{index}>" for index in range(config["vocab_size"])]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(words)
    writer.add_token_types([1] * len(words))
    writer.add_token_merges(["< t"])
    writer.add_eos_token_id(len(words) - 1)
    writer.add_add_bos_token(False)


def write_delta_sizes(writer: Any, config: Mapping[str, Any]) -> None:
    writer.add_rope_dimension_sections([11, 11, 10, 0])
    writer.add_ssm_conv_kernel(config["linear_conv_kernel_dim"])
    writer.add_ssm_state_size(config["linear_key_head_dim"])
    writer.add_ssm_group_count(config["linear_num_key_heads"])
    writer.add_ssm_time_step_rank(config["linear_num_value_heads"])
    writer.add_ssm_inner_size(config["linear_value_head_dim"] * config["linear_num_value_heads"])
    writer.add_full_attention_interval(4)


def llama_server(base: Path, *adapters: Path) -> Any:
    """A server of llama.cpp in this process; a request that names none of the adapters gets all of them."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(base)
    params.n_ctx, params.n_parallel, params.warmup, params.cpuparams.n_threads = 512, 2, False, 1
    params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0) for adapter in adapters]
    return xllamacpp.Server(params)


def server_log_probs(server: Any, prompt: list[int], vocabulary: int, **options: object) -> torch.Tensor:
    """(vocabulary,): log-probabilities of the token after the prompt."""
    asked = {"prompt": prompt, "n_predict": 1, "n_probs": vocabulary, "temperature": 0.0, **options}
    answer = server.handle_completions(asked)
    rows = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    found = {row["id"]: row["logprob"] for row in rows}
    return torch.tensor([found[token] for token in range(vocabulary)])


def llama_log_probs(base: Path, adapter: Path | None, prompts: list[list[int]], vocabulary: int) -> torch.Tensor:
    """(prompts, vocabulary): log-probabilities of the token after each prompt, by llama.cpp."""
    server = llama_server(base, *([adapter] if adapter else []))
    return torch.stack([server_log_probs(server, prompt, vocabulary, cache_prompt=False) for prompt in prompts])
