"""A model for llama.cpp, and for all that is made of it (Ollama, LM Studio, ...): one .gguf file.

Trained ──> tensors under llama.cpp's names, the tokenizer, facts ──> <name>-F16.gguf, Modelfile

Names, shapes and what stays float32 follow llama.cpp's own converter: matrices are stored as (out, in), as ours are;
norms, biases and positions keep 32 bits in every type. A tied head is stored once, as the token embedding.
"""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from torch import Tensor

from wikigpt.config import write_text
from wikigpt.errors import ConfigError
from wikigpt.export.licence import hub_licence
from wikigpt.export.trained import Trained, size
from wikigpt.tokenizer import Tokenizer
from wikigpt.tokenizer_json import GPT2_PATTERN, PATTERN

TYPES = {"f32": Type.F32, "f16": Type.F16, "q8_0": Type.Q8_0}
FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}

# llama.cpp cuts text by patterns of its own, which a file can only name. Ours is the one that it calls qwen35.
PRE_TOKENIZERS = {GPT2_PATTERN: "gpt-2", PATTERN: "qwen35"}

# Ours -> llama.cpp's, of both kinds of model. Which of them a model has, its weights say.
TOP = {
    "tok_emb": "token_embd",
    "pos_emb": "position_embd",
    "final_norm": "output_norm",
    "out_head": "output",
}
BLOCK = {
    "norm1": "attn_norm",
    "attn.qkv": "attn_qkv",
    "attn.q_proj": "attn_q",
    "attn.k_proj": "attn_k",
    "attn.v_proj": "attn_v",
    "attn.q_norm": "attn_q_norm",
    "attn.k_norm": "attn_k_norm",
    "attn.out_proj": "attn_output",
    "norm2": "ffn_norm",
    "ff.gate": "ffn_gate",
    "ff.up": "ffn_up",
    "ff.down": "ffn_down",
}


def file_name(trained: Trained, kind: str) -> str:
    """wikigpt-pt-124M-F16.gguf"""
    return f"{trained.name}-{kind.upper()}.gguf"


def check_pre_tokenizer(tokenizer: Tokenizer) -> str:
    """llama.cpp's name for how a tokenizer cuts text. Raises ConfigError where it has none: its ids would differ."""
    plain = not (tokenizer.cuts or tokenizer.nfc or json.loads(tokenizer.json)["model"].get("ignore_merges"))
    if (name := PRE_TOKENIZERS.get(tokenizer.pattern)) is None or not plain:
        problem = "llama.cpp cannot be told how this model's tokenizer cuts text, so its ids would be other ones."
        raise ConfigError(problem, "Leave out --gguf, or train with --tokenizer gpt2 or bpe.")
    return name


def write_gguf(trained: Trained, kind: str, folder: Path) -> Path:
    """Writes <name>-<KIND>.gguf. Raises ConfigError for a tokenizer that llama.cpp does not know."""
    path = folder / file_name(trained, kind)
    writer = gguf.GGUFWriter(path, trained.config.arch)
    _add_facts(writer, trained, kind)
    _add_tokenizer(writer, trained.tokenizer)
    for name, tensor in _named(trained):
        data, stored = _stored(name, tensor, TYPES[kind])
        writer.add_tensor(name, data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_facts(writer: gguf.GGUFWriter, trained: Trained, kind: str) -> None:
    config, run = trained.config, trained.run.config
    writer.add_type("model")
    writer.add_name(trained.name)
    writer.add_size_label(size(config.n_parameters))
    writer.add_description("A base model, trained with WikiGPT; it continues text")
    writer.add_license(hub_licence(run)["license"])
    if languages := [part["wiki"] for part in run.source if part["wiki"]]:
        writer.add_languages(languages)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.emb_dim)
    writer.add_feed_forward_length(config.ffn_dim)
    writer.add_block_count(config.n_layers)
    writer.add_head_count(config.n_heads)
    if config.arch == "gpt2":
        writer.add_layer_norm_eps(1e-5)
    else:
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_head_count_kv(config.n_kv_heads)
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
        writer.add_rope_freq_base(config.rope_theta)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    model = json.loads(tokenizer.json)["model"]
    tokens = [f"[PAD{number}]" for number in range(tokenizer.vocab_size)]
    types = [gguf.TokenType.UNUSED] * tokenizer.vocab_size
    for token, number in model["vocab"].items():
        tokens[number], types[number] = token, gguf.TokenType.NORMAL
    for token, number in tokenizer.special.items():
        tokens[number], types[number] = token, gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")  # any byte-level BPE
    writer.add_tokenizer_pre(check_pre_tokenizer(tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(tokenizer.end_of_text)
    writer.add_eos_token_id(tokenizer.end_of_text)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)


def _named(trained: Trained) -> list[tuple[str, Tensor]]:
    """llama.cpp's name and the tensor; a bias of zeros where a GPT-2 has none for query, key and value."""
    names = dict(TOP)
    for layer in range(trained.config.n_layers):
        names |= {f"blocks.{layer}.{our}": f"blk.{layer}.{name}" for our, name in BLOCK.items()}
    named = []
    for our, tensor in trained.weights.items():
        module, _, kind = our.rpartition(".")
        named.append((f"{names[module]}.{kind}", tensor))
        if module.endswith("attn.qkv") and f"{module}.bias" not in trained.weights:
            named.append((f"{names[module]}.bias", tensor.new_zeros(len(tensor))))
    return named


def _stored(name: str, tensor: Tensor, asked: Type) -> tuple[np.ndarray, Type]:
    """A tensor's bytes in the type that it is stored in. A row that blocks of 32 do not fit into stays at 16 bits."""
    array = np.ascontiguousarray(tensor.float().numpy())
    if array.ndim == 1 or name == "position_embd.weight":
        asked = Type.F32
    elif asked == Type.Q8_0 and array.shape[1] % 32:
        asked = Type.F16
    return gguf.quants.quantize(array, asked), asked


def write_modelfile(trained: Trained, kind: str, folder: Path, licence: str) -> None:
    """Ollama's recipe."""
    lines: list[Any] = [
        f"# ollama create {trained.name.lower()} -f Modelfile",
        f"FROM ./{file_name(trained, kind)}",
        'TEMPLATE """{{ .Prompt }}"""',
        f"PARAMETER num_ctx {trained.config.context_length}",
        "PARAMETER temperature 0.8",
        "PARAMETER top_k 50",
        f'PARAMETER stop "{trained.tokenizer.end_word}"',
        f'LICENSE """{licence.strip()}"""',
    ]
    write_text(folder / "Modelfile", "\n".join(lines) + "\n")
