"""Chapter 8: from scores to text. A solution."""

import math
from typing import Any

import torch
from torch import Tensor


def with_temperature(logits_V: Tensor, temperature: float) -> Tensor:
    """Logits for a choice that is flatter (above 1) or sharper (below 1): divided by the temperature."""
    return logits_V / temperature


def keep_top_k(logits_V: Tensor, k: int) -> Tensor:
    """The k largest logits as they are, minus infinity for all others. All of them where there are no more than k."""
    worst_kept = logits_V.topk(min(k, len(logits_V))).values[-1]
    return logits_V.masked_fill(logits_V < worst_kept, float("-inf"))


def keep_top_p(logits_V: Tensor, p: float) -> Tensor:
    """The likeliest tokens as they are, until their probabilities add up to p or more (the one that reaches p is kept too);
    minus infinity for all others."""
    ordered, places = logits_V.sort(descending=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    kept = torch.full_like(logits_V, float("-inf"))
    kept[places[before < p]] = logits_V[places[before < p]]
    return kept


def draw(
    logits_V: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
) -> int:
    """A token: the likeliest where the temperature is 0; else drawn by its probability after temperature, top-k and top-p, in
    this order; the last two may be None. With torch.multinomial over all V tokens, so that a seed gives what wikigpt draws."""
    if temperature == 0:
        return int(logits_V.argmax())
    logits_V = with_temperature(logits_V, temperature)
    if top_k is not None:
        logits_V = keep_top_k(logits_V, top_k)
    if top_p is not None:
        logits_V = keep_top_p(logits_V, top_p)
    return int(torch.multinomial(logits_V.softmax(-1), 1, generator=generator))


class Cache:
    """Keys and values of one layer, of all positions read so far."""

    def __init__(self) -> None:
        self.k_BHTK: Tensor | None = None
        self.v_BHTK: Tensor | None = None

    def extend(self, k_BHTK: Tensor, v_BHTK: Tensor) -> tuple[Tensor, Tensor]:
        """Takes in those of new positions, behind the old, and returns all."""
        if self.k_BHTK is not None and self.v_BHTK is not None:
            k_BHTK, v_BHTK = torch.cat([self.k_BHTK, k_BHTK], 2), torch.cat([self.v_BHTK, v_BHTK], 2)
        self.k_BHTK, self.v_BHTK = k_BHTK, v_BHTK
        return k_BHTK, v_BHTK


def attend(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, cache: Cache) -> Tensor:
    """Attention of new positions to themselves, to those before among the new, and to all in the cache, which is extended."""
    k_BHSK, v_BHSK = cache.extend(k_BHTK, v_BHTK)
    T, S = q_BHTK.shape[2], k_BHSK.shape[2]
    seen_TS = torch.ones(T, S, dtype=torch.bool).tril(S - T)
    scores_BHTS = q_BHTK @ k_BHSK.transpose(-1, -2) / math.sqrt(q_BHTK.shape[-1])
    return scores_BHTS.masked_fill(~seen_TS, float("-inf")).softmax(-1) @ v_BHSK


def generate(model: Any, ids: list[int], max_gen: int, end_of_text: int, **drawn: Any) -> list[int]:
    """Up to max_gen ids after some, each drawn with draw(logits, **drawn) from the model's logits (model(ids (1, T)) is (1, T, V))
    of the last position; the model reads at most its last config.context_length ids. end_of_text ends it, and is not part
    of the answer."""
    made: list[int] = []
    with torch.no_grad():
        while len(made) < max_gen:
            window = (ids + made)[-model.config.context_length :]
            token = draw(model(torch.tensor([window]))[0, -1], **drawn)
            if token == end_of_text:
                break
            made.append(token)
    return made
