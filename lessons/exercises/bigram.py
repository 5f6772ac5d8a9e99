"""Chapter 2: a model that only counts pairs."""

import torch
from torch import Tensor


def count(ids_N: Tensor, vocab_size: int) -> Tensor:
    """How often token j came right after token i, as counts[i, j]: ids (N) to float32 (V, V)."""
    raise NotImplementedError  # write this


def probabilities(counts_VV: Tensor, extra: float) -> Tensor:
    """What comes after each token: every row adds up to 1. `extra` is added to every count first, so that nothing is
    impossible."""
    raise NotImplementedError  # write this


def loss(probabilities_VV: Tensor, ids_N: Tensor) -> float:
    """The mean of -ln p over all tokens but the first, where p is what the model gave the token that came: nats per token."""
    raise NotImplementedError  # write this


def write(probabilities_VV: Tensor, first: int, length: int, generator: torch.Generator) -> list[int]:
    """`length` tokens after `first` (which is not among them), each drawn by its probability after the one before:
    torch.multinomial(row, 1, generator=generator)."""
    raise NotImplementedError  # write this
