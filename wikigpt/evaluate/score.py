"""How good a model is while it trains: one pass over the windows of a split.

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
        for folder, limit in portions(data, max_tokens)
    )
    with as_written(machine):
        return evaluate(model, batches, token_bytes, machine)


def portions(data: Data, max_tokens: int | None) -> list[tuple[DataFolder, int | None]]:
    """How much of each folder is read."""
    return [(folder, None if max_tokens is None else max(1, round(max_tokens * share))) for folder, share in data.parts]


def words(score: Score, bigram: Score) -> str:
    """A score beside the bigram's in one line."""
    return (
        f"loss {score.loss:.3f}, perplexity {score.perplexity:.1f}, {score.bits_per_byte:.3f} bits per byte over "
        f"{score.tokens:,} tokens (Kneser-Ney bigram: {bigram.bits_per_byte:.3f})"
    )
