"""Our names for a GPT-2's weights and transformers' names for them, both ways. Part of every published model.

    GPTModel.state_dict()  <──>  GPT2LMHeadModel.state_dict()

transformers keeps four matrices of a block the other way round (its Conv1D multiplies x @ W, our Linear x @ W.T), and the
output head as a second name of the token embedding.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from wikigpt.transformer import Config

# ours -> theirs, and whether the matrix is transposed
TOP = {
    "tok_emb.weight": "transformer.wte.weight",
    "pos_emb.weight": "transformer.wpe.weight",
    "final_norm.weight": "transformer.ln_f.weight",
    "final_norm.bias": "transformer.ln_f.bias",
}
BLOCK = {
    "norm1": ("ln_1", False),
    "attn.qkv": ("attn.c_attn", True),
    "attn.out_proj": ("attn.c_proj", True),
    "norm2": ("ln_2", False),
    "ff.up": ("mlp.c_fc", True),
    "ff.down": ("mlp.c_proj", True),
}


def to_gpt2(weights: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """Our weights under transformers' names. GPT2LMHeadModel always has a bias for query, key and value: without one of
    ours it is zero."""
    theirs = {name: weights[our] for our, name in TOP.items()}
    theirs["lm_head.weight"] = weights["tok_emb.weight"]
    for our, name, transposed in _names(config.n_layers):
        if our not in weights and our.endswith("attn.qkv.bias"):
            theirs[name] = torch.zeros(3 * config.emb_dim, dtype=weights["tok_emb.weight"].dtype)
        else:
            theirs[name] = weights[our].T.contiguous() if transposed else weights[our]
    return theirs


def from_gpt2(theirs: Mapping[str, Tensor], config: Config) -> dict[str, Tensor]:
    """transformers' weights under our names, for a config with `qkv_bias`. Raises KeyError where one is missing."""
    if "wte.weight" in theirs:  # as OpenAI's own files have them
        theirs = {f"transformer.{name}": tensor for name, tensor in theirs.items()}
    weights = {our: theirs[name] for our, name in TOP.items()}
    for our, name, transposed in _names(config.n_layers):
        weights[our] = theirs[name].T.contiguous() if transposed else theirs[name]
    return weights


def _names(n_layers: int) -> list[tuple[str, str, bool]]:
    return [
        (f"blocks.{layer}.{our}.{kind}", f"transformer.h.{layer}.{name}.{kind}", transposed and kind == "weight")
        for layer in range(n_layers)
        for our, (name, transposed) in BLOCK.items()
        for kind in ("weight", "bias")
    ]
