"""Chapter 5: the GPT."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from my_gpt.block import LayerNorm, TransformerBlock
from torch import Tensor, nn


def count_parameters(config: Any) -> int:
    """How many numbers a GPT of this shape learns, by arithmetic alone. `config` has vocab_size, context_length, emb_dim,
    n_layers and qkv_bias; the output head is the token embedding, and counts once."""
    raise NotImplementedError  # write this


class GPT(nn.Module):
    """Token ids (B, T) to logits (B, T, V): a score for every token that may come next.

    Parts: `tok_emb` and `pos_emb` (nn.Embedding), `blocks` (nn.ModuleList), `final_norm`. The logits are the products of
    final_norm's vectors with every row of tok_emb.weight.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        raise NotImplementedError  # write this

    def initialise(self) -> None:
        """Biases 0, the norms' weights 1, all other weights normal with deviation 0.02; those whose answer is added to the
        stream (attn.out_proj.weight, ff.down.weight) with 0.02 / sqrt(2 * n_layers). `__init__` ends with it."""
        raise NotImplementedError  # write this

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Raises ValueError where there are more tokens than context_length."""
        raise NotImplementedError  # write this
