"""Chapter 3: attention.

Shapes: B batch, T time, D emb_dim, H heads, K head size (D = H * K).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn


def causal_mask(T: int) -> Tensor:
    """What each position may see, as True: itself and all before. Row t, column s: may position t see position s?"""
    raise NotImplementedError  # write this


def attention(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor) -> Tensor:
    """softmax(q kT / sqrt(K)) v, where no position sees a later one: three tensors (B, H, T, K) to one.

    What must not be seen gets a score of minus infinity before the softmax.
    """
    raise NotImplementedError  # write this


class MultiHeadAttention(nn.Module):
    """Attention in several heads at once: (B, T, D) to (B, T, D). `config` has emb_dim, n_heads and qkv_bias.

    `qkv` makes queries, keys and values of the input, in this order; head h has the h-th K numbers of each. `out_proj` takes
    all heads' answers, one beside the other.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        raise NotImplementedError  # write this

    def forward(self, x_BTD: Tensor) -> Tensor:
        raise NotImplementedError  # write this
