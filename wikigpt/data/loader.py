"""Shards to batches.

    token stream ──> contiguous windows ──> seeded permutation per epoch ──> Batch(inputs_BT, targets_BT)

Batch n of a run depends on (seed, data hash, context, batch size, n) alone: not on what was read before, on how many
processes read, or on restarts. Reading is slicing a memory map, which needs no worker processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wikigpt.data.shards import DataFolder
from wikigpt.errors import DataError


@dataclass(frozen=True)
class Batch:
    """What the model reads and what it should have said: targets are the inputs one token later, both int64."""

    inputs_BT: Tensor
    targets_BT: Tensor

    def to(self, device: str) -> "Batch":
        return Batch(self.inputs_BT.to(device), self.targets_BT.to(device))

    def split(self, parts: int) -> list["Batch"]:
        """Equal parts, for gradient accumulation."""
        pairs = zip(self.inputs_BT.chunk(parts), self.targets_BT.chunk(parts), strict=True)
        return [Batch(inputs, targets) for inputs, targets in pairs]


class TrainingBatches:
    """The endless, fixed row of training batches. Raises DataError where the data is shorter than one batch.

    An epoch begins at an offset of its own within the first window, so that no two epochs cut the text alike, and visits
    every window once. `batch_size` is the global one: all windows of one optimiser step.
    """

    def __init__(self, data: DataFolder, context_length: int, batch_size: int, seed: int) -> None:
        self.tokens = data.stream("train")
        self.context_length, self.batch_size, self.seed = context_length, batch_size, seed
        self.data_number = int(data.hash, 16)
        self.windows = (len(self.tokens) - context_length) // context_length  # per epoch, whatever its offset
        if self.windows < 1:
            raise DataError(
                f"{data.path} has {len(self.tokens):,} training tokens, less than two contexts of {context_length}.",
                "Prepare more text, or take a smaller --context_length.",
            )
        self._epoch, self._starts = -1, np.empty(0, np.int64)

    def __getitem__(self, n: int) -> Batch:
        positions = range(n * self.batch_size, (n + 1) * self.batch_size)
        return _batch(self.tokens.read, [self._start(position) for position in positions], self.context_length)

    def _start(self, position: int) -> int:
        """First token of the window at a position in the endless row of epochs."""
        epoch, i = divmod(position, self.windows)
        if epoch != self._epoch:
            random = np.random.PCG64([self.seed, epoch, self.context_length, self.data_number])
            offset = int(random.random_raw()) % self.context_length
            # Sorting raw 64-bit draws is a permutation that no version of numpy may change.
            order = np.argsort(random.random_raw(self.windows), kind="stable")
            self._epoch, self._starts = epoch, order * self.context_length + offset
        return int(self._starts[i])


def evaluation_batches(
    data: DataFolder, split: str, context_length: int, batch_size: int, max_tokens: int | None = None
) -> Iterator[Batch]:
    """The first `max_tokens` tokens of a split (all where None), each the target of exactly one prediction: windows that
    do not overlap, in order, with an end-of-text in front of the first. The last batches may be smaller and shorter."""
    tokens = data.stream(split)
    total = len(tokens) if max_tokens is None else min(max_tokens, len(tokens))

    def read(start: int, length: int) -> np.ndarray:
        if start > 0:
            return tokens.read(start - 1, length)
        return np.concatenate([[data.end_of_text], tokens.read(0, length - 1)])

    whole = [window * context_length for window in range(total // context_length)]
    for first in range(0, len(whole), batch_size):
        yield _batch(read, whole[first : first + batch_size], context_length)
    if rest := total % context_length:
        yield _batch(read, [total - rest], rest)


def _batch(read, starts: list[int], length: int) -> Batch:  # type: ignore[no-untyped-def]
    rows = torch.from_numpy(np.stack([read(start, length + 1) for start in starts]))
    return Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
