"""A model as the Hugging Face libraries know it: what AutoModelForCausalLM and AutoTokenizer load without code of ours.

Trained ──> model.safetensors, config.json, generation_config.json
        ──> tokenizer.json, tokenizer_config.json, vocab.json, merges.txt
        ──> of a GPT-2 also modeling_gpt2_custom.py, configuration_gpt2_custom.py: the code that trained it, for
            trust_remote_code
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from wikigpt import transformer
from wikigpt.checkpoint import WEIGHTS, save_tensors
from wikigpt.config import ModelConfig, write_json, write_text
from wikigpt.errors import ConfigError
from wikigpt.export.gpt2_names import to_gpt2
from wikigpt.export.qwen3_names import to_qwen3
from wikigpt.export.trained import Trained
from wikigpt.hardware import DTYPES
from wikigpt.tokenizer import TOKENIZER, Tokenizer

CUSTOM, CUSTOM_CONFIG = "modeling_gpt2_custom.py", "configuration_gpt2_custom.py"
CLASSES = {
    "AutoConfig": "configuration_gpt2_custom.GPT2CustomConfig",
    "AutoModelForCausalLM": "modeling_gpt2_custom.GPT2CustomLMHeadModel",
}


def write_huggingface(trained: Trained, dtype: str, max_shard_size: str, folder: Path) -> None:
    """Writes all files but the card. Raises ConfigError where weights do not fit into the dtype."""
    write_json(folder / "config.json", hub_config(trained.config, trained.tokenizer.end_of_text) | {"dtype": dtype})
    _write_weights(trained, DTYPES[dtype], max_shard_size, folder)
    end = {"bos_token_id": trained.tokenizer.end_of_text, "eos_token_id": trained.tokenizer.end_of_text}
    length = min(200, trained.config.context_length // 2)  # what the stock class cannot read it cannot write
    sampling = {"do_sample": True, "temperature": 0.8, "top_k": 50, "max_new_tokens": length}
    write_json(folder / "generation_config.json", end | sampling)
    _write_tokenizer(trained.tokenizer, trained.config.context_length, folder)
    if trained.config.arch == "gpt2":
        write_text(folder / CUSTOM, custom_code())
        write_text(folder / CUSTOM_CONFIG, _own("configuration.py"))


def _write_weights(trained: Trained, dtype: torch.dtype, max_shard_size: str, folder: Path) -> None:
    """One file, or several where it would be larger than `max_shard_size` ("5GB"), with an index beside them."""
    from huggingface_hub import split_torch_state_dict_into_shards

    named = (to_gpt2 if trained.config.arch == "gpt2" else to_qwen3)(trained.weights, trained.config)
    if trained.config.tie_embeddings:
        del named["lm_head.weight"]  # the same tensor as the embedding
    # GPT-2's without the class's prefix, as OpenAI's own files: every loader knows these names, MLX no others.
    weights = {name.removeprefix("transformer."): tensor.to(dtype) for name, tensor in named.items()}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise ConfigError(f"Some weights are too large for {dtype}.", "Take --dtype bfloat16, or float32.")
    if not re.fullmatch(r"\d*[1-9]\d*[KMGT]B", max_shard_size):
        problem = f"--max_shard_size cannot be {max_shard_size!r}."
        raise ConfigError(problem, "Give a size with its unit, such as 5GB or 500MB.")
    plan = split_torch_state_dict_into_shards(weights, max_shard_size=max_shard_size)
    for file, names in plan.filename_to_tensors.items():
        save_tensors({name: weights[name] for name in names}, folder / file, metadata={"format": "pt"})
        shutil.copymode(folder / "config.json", folder / file)  # safetensors lets nobody else read it: no server could
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        write_json(folder / f"{WEIGHTS}.index.json", index)


def hub_config(config: ModelConfig, end_of_text: int) -> dict[str, Any]:
    """The content of config.json."""
    return (gpt2_config if config.arch == "gpt2" else qwen3_config)(config, end_of_text)


def gpt2_config(config: ModelConfig, end_of_text: int) -> dict[str, Any]:
    """The fields of transformers' GPT2Config that say the same as ours."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "auto_map": CLASSES,
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_ctx": config.context_length,  # an older name of the same, which MLX reads
        "n_embd": config.emb_dim,
        "n_head": config.n_heads,
        "n_layer": config.n_layers,
        "embd_pdrop": config.drop_rate,
        "attn_pdrop": config.drop_rate,
        "resid_pdrop": config.drop_rate,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
    }


def qwen3_config(config: ModelConfig, end_of_text: int) -> dict[str, Any]:
    """The fields of transformers' Qwen3Config that say the same as ours."""
    return {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.emb_dim,
        "intermediate_size": config.ffn_dim,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rope_theta": config.rope_theta,  # where versions before 5 of transformers and other runtimes look for it
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": config.tie_embeddings,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
    }


def _write_tokenizer(tokenizer: Tokenizer, context_length: int, folder: Path) -> None:
    record = json.loads(tokenizer.json)  # without what another model wants before or behind its text
    nothing = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    record |= {"post_processor": nothing, "truncation": None, "padding": None}
    write_text(folder / TOKENIZER, json.dumps(record, ensure_ascii=False, indent=1) + "\n")
    end = tokenizer.end_word
    facts = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "bos_token": end,
        "eos_token": end,
        "unk_token": end,
        "split_special_tokens": True,  # "<|endoftext|>" in a text is thirteen characters
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder / "tokenizer_config.json", facts)
    # The same vocabulary as GPT-2's own two files, for what reads no tokenizer.json. They cannot hold the pattern.
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in record["model"]["merges"]]
    vocabulary = record["model"]["vocab"] | tokenizer.special
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False) + "\n")
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]) + "\n")


def custom_code() -> str:
    """The content of modeling_gpt2_custom.py: `wikigpt/transformer.py` as it is, and behind it the two files that
    transformers wants, without their headers, what they import from us, and what is imported above already."""
    parts = [Path(transformer.__file__).read_text(encoding="utf-8").rstrip()]
    known = {name for line in parts[0].splitlines() for name in _imported(line)}
    for name, title in (
        ("gpt2_names.py", "Its weights under transformers' names"),
        ("modeling.py", "For transformers"),
    ):
        part = re.sub(r'\A""".*?"""\n', "", _own(name), flags=re.DOTALL)
        part = part.replace("from wikigpt.export.configuration import", "from .configuration_gpt2_custom import")
        lines = [
            line
            for line in part.splitlines()
            if not line.startswith("from wikigpt.") and not (_imported(line) and _imported(line) <= known)
        ]
        known |= {name for line in lines for name in _imported(line)}
        parts.append(f"# ---- {title}\n\n" + re.sub("^\n+", "", "\n".join(lines)).rstrip())
    return re.sub(r"\n{4,}", "\n\n\n", "\n\n\n".join(parts)) + "\n"


def _imported(line: str) -> set[str]:
    """The names that a line imports."""
    found = re.match(r"(?:from \S+ )?import (.+)", line)
    return set(found[1].split(", ")) if found else set()


def _own(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
