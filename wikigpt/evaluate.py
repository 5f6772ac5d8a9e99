"""How good a model is, in figures that mean something, beside a model that only counts.

    batches of a split ──> summed loss ──> Score(loss, perplexity, bits per byte)

Bits per byte: the bits that the model needs for all tokens, end-of-text included, over the UTF-8 bytes of the text. Unlike
loss and perplexity per token, it can be compared between tokenizers.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from wikigpt.backend import as_written
from wikigpt.data.loader import Batch, evaluation_batches
from wikigpt.data.shards import Data, DataFolder
from wikigpt.hardware import Machine
from wikigpt.parallel import World
from wikigpt.transformer import GPTModel

BIGRAM_TOKENS = 50_000_000  # training tokens that the bigram counts at the most
WINDOWS = 16  # windows per forward pass


@dataclass(frozen=True)
class Score:
    """Sums over predicted tokens: nats, tokens, and UTF-8 bytes of their text."""

    nats: float
    tokens: int
    bytes: int

    def __add__(self, other: "Score") -> "Score":
        return Score(self.nats + other.nats, self.tokens + other.tokens, self.bytes + other.bytes)

    @property
    def loss(self) -> float:
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        return math.exp(min(self.loss, 700.0))

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.bytes

    def row(self) -> dict[str, float]:
        """As written to metrics.jsonl."""
        figures = {"loss": self.loss, "perplexity": self.perplexity, "bits_per_byte": self.bits_per_byte}
        return figures | {"scored_tokens": self.tokens, "scored_bytes": self.bytes}


@torch.no_grad()  # and not inference_mode, whose tensors FSDP would use again when it trains
def evaluate(model: GPTModel, batches: Iterable[Batch], token_bytes: np.ndarray, machine: Machine) -> Score:
    """Scores a model on batches; `token_bytes` gives the bytes of each id. Leaves the model in the mode it was in and
    draws no random number, so that training goes on as if nothing had happened."""
    training = model.training
    model.eval()
    nats, tokens, size = 0.0, 0, 0
    for batch in _shared_out(batches, machine.world):
        if batch.weight:
            size += int(token_bytes[batch.targets_BT.numpy()].sum())
            tokens += batch.targets_BT.numel()
        on_device = batch.to(machine.device)
        with machine.autocast():
            loss = model.loss(on_device.inputs_BT, on_device.targets_BT, reduction="sum")
        nats += loss.item() * batch.weight
    model.train(training)
    nats, *counts = machine.world.sum(nats, tokens, size)
    return Score(nats, *map(round, counts))


def _shared_out(batches: Iterable[Batch], world: World) -> Iterator[Batch]:
    """Every so many batches one is this rank's. All ranks get as many: of a model in parts all must be at work at once."""
    turn: list[Batch] = []
    for batch in batches:
        turn.append(batch)
        if len(turn) == world.size:
            yield turn[world.rank]
            turn = []
    if turn:
        yield turn[world.rank] if world.rank < len(turn) else turn[0].idle()


def evaluate_split(
    model: GPTModel,
    data: Data,
    split: str,
    token_bytes: np.ndarray,
    machine: Machine,
    max_tokens: int | None = None,
) -> Score:
    """Scores a model on the first `max_tokens` tokens of a split (of each folder of a mixture, by its share), on all of it
    where None. Every token is predicted once, from what stands before it in its window of context_length."""
    batches = chain.from_iterable(
        evaluation_batches(folder, split, model.config.context_length, WINDOWS, limit)
        for folder, limit in _portions(data, max_tokens)
    )
    with as_written(machine):
        return evaluate(model, batches, token_bytes, machine)


def _portions(data: Data, max_tokens: int | None) -> list[tuple[DataFolder, int | None]]:
    """How much of each folder is read."""
    return [(folder, None if max_tokens is None else max(1, round(max_tokens * share))) for folder, share in data.parts]


def bigram_score(data: Data, split: str, token_bytes: np.ndarray, max_tokens: int | None = None) -> Score:
    """The same tokens scored by an interpolated Kneser-Ney bigram counted on the training split (at most its first
    BIGRAM_TOKENS tokens): what can be known from one token of context. A model must beat it to have learned more.

    With c counts, N(.w) the number of different tokens seen before w, and one discount D = n1 / (n1 + 2 n2) per level:

        P(w|v) = max(c(vw) - D, 0) / c(v)  +  D N(v.) / c(v) * P(w)
        P(w)   = max(N(.w) - D', 0) / N(..)  +  D' (types seen) / N(..) / vocabulary

    Source: Chen & Goodman 1999, "An Empirical Study of Smoothing Techniques for Language Modeling", section 2.7.
    """
    V = data.vocab_size
    v, w = _pairs(data, "train", BIGRAM_TOKENS)
    pairs, counts = np.unique(v * V + w, return_counts=True)
    first, second = pairs // V, pairs % V
    # The lower level: how many different tokens each token was seen after.
    before = np.bincount(second, minlength=V).astype(np.float64)
    discount = _discount(before[before > 0])
    unigram = (np.maximum(before - discount, 0) + discount * np.count_nonzero(before) / V) / len(pairs)
    # The upper level, and what its discount frees for the lower one.
    discount = _discount(counts)
    total = np.bincount(first, weights=counts, minlength=V)
    freed = np.divide(discount * np.bincount(first, minlength=V), total, out=np.ones(V), where=total > 0)

    v, w = _pairs(data, split, max_tokens)
    place = np.minimum(np.searchsorted(pairs, v * V + w), len(pairs) - 1)
    seen = pairs[place] == v * V + w
    own = np.divide(np.where(seen, counts[place] - discount, 0.0), total[v], out=np.zeros(len(v)), where=total[v] > 0)
    nats = -np.log(own + freed[v] * unigram[w]).sum()
    return Score(float(nats), len(w), int(token_bytes[w].sum()))


def _pairs(data: Data, split: str, max_tokens: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Each token of a split and the one before it, end-of-text before the first: (before, tokens)."""
    before, tokens = [], []
    for folder, limit in _portions(data, max_tokens):
        stream = folder.stream(split)
        ids = np.concatenate([[data.end_of_text], stream.read(0, len(stream) if limit is None else limit)])
        before.append(ids[:-1])
        tokens.append(ids[1:])
    return np.concatenate(before), np.concatenate(tokens)


def words(score: Score, bigram: Score) -> str:
    """A score beside the bigram's in one line."""
    return (
        f"loss {score.loss:.3f}, perplexity {score.perplexity:.1f}, {score.bits_per_byte:.3f} bits per byte over "
        f"{score.tokens:,} tokens (Kneser-Ney bigram: {bigram.bits_per_byte:.3f})"
    )


def _discount(counts: np.ndarray) -> float:
    """Kneser and Ney's estimate from how many things were seen once and twice."""
    once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    return once / (once + 2 * twice) if once and twice else 0.5
