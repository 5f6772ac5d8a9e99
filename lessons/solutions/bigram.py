"""Chapter 2: a model that only counts pairs. A solution."""

import torch
from torch import Tensor


def count(ids_N: Tensor, vocab_size: int) -> Tensor:
    """How often token j came right after token i, as counts[i, j]: ids (N) to float32 (V, V)."""
    pairs = ids_N[:-1] * vocab_size + ids_N[1:]
    return torch.bincount(pairs, minlength=vocab_size**2).view(vocab_size, vocab_size).float()


def probabilities(counts_VV: Tensor, extra: float) -> Tensor:
    """What comes after each token: every row adds up to 1. `extra` is added to every count first, so that nothing is
    impossible."""
    counts_VV = counts_VV + extra
    return counts_VV / counts_VV.sum(1, keepdim=True)


def loss(probabilities_VV: Tensor, ids_N: Tensor) -> float:
    """The mean of -ln p over all tokens but the first, where p is what the model gave the token that came: nats per token."""
    return float(-probabilities_VV[ids_N[:-1], ids_N[1:]].log().mean())


def write(probabilities_VV: Tensor, first: int, length: int, generator: torch.Generator) -> list[int]:
    """`length` tokens after `first` (which is not among them), each drawn by its probability after the one before:
    torch.multinomial(row, 1, generator=generator)."""
    ids = [first]
    for _ in range(length):
        ids.append(int(torch.multinomial(probabilities_VV[ids[-1]], 1, generator=generator)))
    return ids[1:]
