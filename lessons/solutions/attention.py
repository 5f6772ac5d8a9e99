"""Chapter 3: attention. A solution.

Shapes: B batch, T time, D emb_dim, H heads, K head size (D = H * K).
"""

import math
from typing import Any

import torch
from torch import Tensor, nn


def causal_mask(T: int) -> Tensor:
    """What each position may see, as True: itself and all before. Row t, column s: may position t see position s?"""
    return torch.ones(T, T, dtype=torch.bool).tril()


def attention(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor) -> Tensor:
    """softmax(q kT / sqrt(K)) v, where no position sees a later one: three tensors (B, H, T, K) to one.

    What must not be seen gets a score of minus infinity before the softmax.
    """
    T, K = q_BHTK.shape[-2:]
    scores_BHTT = q_BHTK @ k_BHTK.transpose(-1, -2) / math.sqrt(K)
    weights_BHTT = scores_BHTT.masked_fill(~causal_mask(T), float("-inf")).softmax(-1)
    return weights_BHTT @ v_BHTK


class MultiHeadAttention(nn.Module):
    """Attention in several heads at once: (B, T, D) to (B, T, D). `config` has emb_dim, n_heads and qkv_bias.

    `qkv` makes queries, keys and values of the input, in this order; head h has the h-th K numbers of each. `out_proj` takes
    all heads' answers, one beside the other.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.qkv = nn.Linear(config.emb_dim, 3 * config.emb_dim, bias=config.qkv_bias)
        self.out_proj = nn.Linear(config.emb_dim, config.emb_dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        q_BTD, k_BTD, v_BTD = self.qkv(x_BTD).chunk(3, dim=-1)
        q_BHTK, k_BHTK, v_BHTK = (x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for x in (q_BTD, k_BTD, v_BTD))
        y_BHTK = attention(q_BHTK, k_BHTK, v_BHTK)
        return self.out_proj(y_BHTK.transpose(1, 2).flatten(2))
