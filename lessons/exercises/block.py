"""Chapter 4: one block."""

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
        raise NotImplementedError  # write this

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError  # write this


def gelu(x: Tensor) -> Tensor:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3))): nearly 0 below, nearly x above, smooth between."""
    raise NotImplementedError  # write this


class FeedForward(nn.Module):
    """`up` to four times the width, gelu, `down` again: (B, T, D) to (B, T, D). `config` has emb_dim."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        raise NotImplementedError  # write this

    def forward(self, x_BTD: Tensor) -> Tensor:
        raise NotImplementedError  # write this


class TransformerBlock(nn.Module):
    """Attention (`norm1`, `attn`), then feed-forward (`norm2`, `ff`): each reads a normalised copy of the stream, and its
    answer is added to the stream."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        raise NotImplementedError  # write this

    def forward(self, x_BTD: Tensor) -> Tensor:
        raise NotImplementedError  # write this
