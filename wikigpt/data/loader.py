"""Shards to batches.

    token stream ──> contiguous windows ──> seeded permutation per epoch ──> Batch(inputs_BT, targets_BT)
    (of each folder)                        (mixed by shares)

Batch n of a run depends on (seed, data hash, context, batch size, n) alone: not on what was read before, on how many
processes read, or on restarts. Reading is slicing a memory map, which needs no worker processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from wikigpt.data.shards import Data, DataFolder
from wikigpt.errors import DataError


@dataclass(frozen=True)
class Batch:
    """What the model reads and what it should have said: targets are the inputs one token later, both int64. A `weight` of
    0 keeps a rank busy that has nothing to do while others work."""

    inputs_BT: Tensor
    targets_BT: Tensor
    weight: float = 1.0

    def to(self, device: str) -> "Batch":
        """On a device. To an NVIDIA card it travels while the card and this program go on."""
        if device != "cuda":
            return Batch(self.inputs_BT.to(device), self.targets_BT.to(device))
        inputs_BT, targets_BT = (
            t.pin_memory().to(device, non_blocking=True) for t in (self.inputs_BT, self.targets_BT)
        )
        return Batch(inputs_BT, targets_BT)

    def split(self, parts: int) -> list["Batch"]:
        """Equal parts, or nearly, for gradient accumulation. Of more parts than windows some weigh nothing."""
        pairs = zip(self.inputs_BT.tensor_split(parts), self.targets_BT.tensor_split(parts), strict=True)
        return [Batch(inputs, targets) if len(inputs) else self.idle() for inputs, targets in pairs]

    def idle(self) -> "Batch":
        """A single window that counts for nothing."""
        return Batch(self.inputs_BT[:1], self.targets_BT[:1], 0.0)


class Windows:
    """The endless, fixed row of windows of one folder. Raises DataError where the folder is shorter than two contexts.

    An epoch begins at an offset of its own within the first window, so that no two epochs cut the text alike, and visits
    every window once.
    """

    def __init__(self, data: DataFolder, context_length: int, seed: int) -> None:
        self.tokens = data.stream("train")
        self.context_length, self.seed = context_length, seed
        self.data_number = int(data.hash, 16)
        self.count = (len(self.tokens) - context_length) // context_length  # per epoch, whatever its offset
        if self.count < 1:
            raise DataError(
                f"{data.path} has {len(self.tokens):,} training tokens, less than two contexts of {context_length}.",
                "Prepare more text, or take a smaller --context_length.",
            )
        self._epoch, self._starts = -1, np.empty(0, np.int64)

    def start(self, position: int) -> int:
        """First token of the window at a position in the endless row of epochs."""
        epoch, i = divmod(position, self.count)
        if epoch != self._epoch:
            random = np.random.PCG64([self.seed, epoch, self.context_length, self.data_number])
            offset = int(random.random_raw()) % self.context_length
            # Sorting raw 64-bit draws is a permutation that no version of numpy may change.
            order = np.argsort(random.random_raw(self.count), kind="stable")
            self._epoch, self._starts = epoch, order * self.context_length + offset
        return int(self._starts[i])

    def read(self, position: int) -> np.ndarray:
        """The tokens of a window and the one after it."""
        return self.tokens.read(self.start(position), self.context_length + 1)


class TrainingBatches:
    """The endless, fixed row of training batches. `batch_size` is the global one: all windows of one optimiser step. An
    epoch (`windows`) is as many windows as all folders have."""

    def __init__(self, data: Data, context_length: int, batch_size: int, seed: int) -> None:
        self.batch_size = batch_size
        self.parts = []  # each with its share of what the parts before it leave
        left = Fraction(1)
        for folder, share in data.parts:
            self.parts.append((Windows(folder, context_length, seed), share / left))
            left -= share
        self.windows = sum(windows.count for windows, _ in self.parts)

    def __getitem__(self, n: int) -> Batch:
        return self.share(n, 0, 1)

    def share(self, n: int, rank: int, size: int) -> Batch:
        """The windows of batch n that one of `size` ranks reads: together they read each once, in order."""
        first, last = (n * self.batch_size + r * self.batch_size // size for r in (rank, rank + 1))
        return _batch([self._window(position) for position in range(first, last)])

    def _window(self, position: int) -> np.ndarray:
        """Of any first p positions, floor(p * share) belong to a part: evenly spread, exact, and known without a look at
        the positions before."""
        for windows, share in self.parts:
            before = position * share.numerator // share.denominator
            if (position + 1) * share.numerator // share.denominator > before:
                return windows.read(before)
            position -= before
        raise AssertionError("the last part's share of what is left is 1")


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
        yield _batch([read(start, context_length + 1) for start in whole[first : first + batch_size]])
    if rest := total % context_length:
        yield _batch([read(total - rest, rest + 1)])


def _batch(windows: list[np.ndarray]) -> Batch:
    rows = torch.from_numpy(np.stack(windows))
    return Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
