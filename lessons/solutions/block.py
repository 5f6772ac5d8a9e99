"""Chapter 4: one block. A solution."""

import math
from typing import Any

import torch
from my_gpt.attention import MultiHeadAttention
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """Brings each vector (the last axis) to mean 0 and deviation 1, times `weight`, plus `bias`: learned, and at first 1 and 0.

    Deviation: the root of (the mean of the squared distances from the mean, plus 0.00001).
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        variance = centred.pow(2).mean(-1, keepdim=True)
        return centred / (variance + 1e-5).sqrt() * self.weight + self.bias


def gelu(x: Tensor) -> Tensor:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3))): nearly 0 below, nearly x above, smooth between."""
    return x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class FeedForward(nn.Module):
    """`up` to four times the width, gelu, `down` again: (B, T, D) to (B, T, D). `config` has emb_dim."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.up = nn.Linear(config.emb_dim, 4 * config.emb_dim)
        self.down = nn.Linear(4 * config.emb_dim, config.emb_dim)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(gelu(self.up(x_BTD)))


class TransformerBlock(nn.Module):
    """Attention (`norm1`, `attn`), then feed-forward (`norm2`, `ff`): each reads a normalised copy of the stream, and its
    answer is added to the stream."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.emb_dim)
        self.attn = MultiHeadAttention(config)
        self.norm2 = LayerNorm(config.emb_dim)
        self.ff = FeedForward(config)

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attn(self.norm1(x_BTD))
        return x_BTD + self.ff(self.norm2(x_BTD))
