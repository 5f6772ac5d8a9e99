"""A text as a model reads it: how many bits each token cost, and what it had expected there.

text ──> ids ──> Token(text, bits, alternatives) ──> page, terminal
"""

import codecs
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from wikigpt.errors import RunError
from wikigpt.evaluate.language_model import LanguageModel, windows
from wikigpt.tokenizer import Tokenizer

ALTERNATIVES = 5


@dataclass(frozen=True)
class Token:
    """`text` is what shows when it comes: nothing where it is only a part of a character. `alternatives` are the likeliest
    tokens there, with their probabilities."""

    id: int
    text: str
    bits: float
    alternatives: list[tuple[str, float]]


def surprise(model: LanguageModel, tokenizer: Tokenizer, ids: Sequence[int], context: int, stride: int) -> list[Token]:
    """Every id after the first. Windows are as in `evaluate`, so that the bits add up to what it says of an article."""
    row = np.asarray(ids, np.int64)
    shown = list(pieces(tokenizer, row[1:]))
    found = []
    for start, first, end in windows(len(row) - 1, context, stride):
        inputs_BT = torch.from_numpy(row[start:end])[None].to(model.device)
        wanted_BT = torch.zeros(inputs_BT.shape, dtype=torch.bool, device=model.device)
        wanted_BT[0, first - start :] = True
        log_probs_NV = torch.log_softmax(model.logits_of(inputs_BT, wanted_BT).float(), -1).cpu()
        if log_probs_NV.isnan().any():
            raise RunError(f"The weights of {model.name} are no longer numbers.", "Take an earlier --checkpoint.")
        best, which = log_probs_NV.topk(min(ALTERNATIVES, log_probs_NV.shape[1]))
        for n, place in enumerate(range(first, end)):
            target = int(row[place + 1])
            named = [tokenizer.decode([token]) for token in which[n].tolist()]
            likely = list(zip(named, best[n].exp().tolist(), strict=True))
            found.append(Token(target, shown[place], -log_probs_NV[n, target].item() / math.log(2), likely))
    return found


def pieces(tokenizer: Tokenizer, ids: Sequence[int] | np.ndarray) -> Iterator[str]:
    """The text of each id; a character that is spread over several comes with the last of them."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in ids:
        yield decoder.decode(tokenizer.decode_bytes([int(token)]))
