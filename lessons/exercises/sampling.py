"""Chapter 8: from scores to text."""

import math
from typing import Any

import torch
from torch import Tensor


def with_temperature(logits_V: Tensor, temperature: float) -> Tensor:
    """Logits for a choice that is flatter (above 1) or sharper (below 1): divided by the temperature."""
    raise NotImplementedError  # write this


def keep_top_k(logits_V: Tensor, k: int) -> Tensor:
    """The k largest logits as they are, minus infinity for all others. All of them where there are no more than k."""
    raise NotImplementedError  # write this


def keep_top_p(logits_V: Tensor, p: float) -> Tensor:
    """The likeliest tokens as they are, until their probabilities add up to p or more (the one that reaches p is kept too);
    minus infinity for all others."""
    raise NotImplementedError  # write this


def draw(
    logits_V: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
) -> int:
    """A token: the likeliest where the temperature is 0; else drawn by its probability after temperature, top-k and top-p, in
    this order; the last two may be None. With torch.multinomial over all V tokens, so that a seed gives what wikigpt draws."""
    raise NotImplementedError  # write this


class Cache:
    """Keys and values of one layer, of all positions read so far."""

    def __init__(self) -> None:
        raise NotImplementedError  # write this

    def extend(self, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Takes in those of new positions, behind the old, and returns all."""
        raise NotImplementedError  # write this


def attend(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, cache: Cache) -> Tensor:
    """Attention of new positions to themselves, to those before among the new, and to all in the cache, which is extended."""
    raise NotImplementedError  # write this


def generate(model: Any, ids: list[int], max_gen: int, end_of_text: int, **drawn: Any) -> list[int]:
    """Up to max_gen ids after some, each drawn with draw(logits, **drawn) from the model's logits (model(ids (1, T)) is (1, T, V))
    of the last position; the model reads at most its last config.context_length ids. end_of_text ends it, and is not part
    of the answer."""
    raise NotImplementedError  # write this
