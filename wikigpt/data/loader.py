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
    """What the model reads and what it should have said: targets are the inputs one token later. Which document of its row
    each position belongs to is a number; end-of-text is the first token of the next. All int64."""

    inputs_BT: Tensor
    targets_BT: Tensor
    documents_BT: Tensor

    def to(self, device: str) -> "Batch":
        return Batch(*(tensor.to(device) for tensor in self._tensors()))

    def split(self, parts: int) -> list["Batch"]:
        """Equal parts, for gradient accumulation."""
        return [Batch(*part) for part in zip(*(tensor.chunk(parts) for tensor in self._tensors()), strict=True)]

    def cut(self, length: int) -> "Batch":
        """The same tokens in windows of another length, of which T is a multiple."""
        return Batch(*(tensor.reshape(-1, length) for tensor in self._tensors()))

    def _tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.inputs_BT, self.targets_BT, self.documents_BT


class Windows:
    """The endless, fixed row of windows of one folder. Raises DataError where the folder is shorter than two contexts.

    An epoch begins at an offset of its own within the first window, so that no two epochs cut the text alike, and visits
    every window once.
    """

    def __init__(self, data: DataFolder, context_length: int, seed: int) -> None:
        self.tokens = data.stream("train")
        self.context_length, self.seed = context_length, seed
        self.data_number = int(data.hash, 16)
        self.end_of_text = data.end_of_text
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
        """Inputs, targets and documents of a window: (3, T)."""
        return _window(self.tokens.read(self.start(position), self.context_length + 1), self.end_of_text)


class PackedWindows:
    """The same, of windows that begin where articles begin. Long articles are cut into whole windows; what is left of them,
    and the short ones, are put together so that they fill a window exactly: the longest first, then whatever fits best;
    where nothing does, a piece is cut in two. So no token is left out (but for the last window), and none pads.

    Source: Ding et al. 2024, "Fewer Truncations Improve Language Modeling", with cuts instead of padding.
    """

    def __init__(self, data: DataFolder, context_length: int, seed: int) -> None:
        self.tokens = data.stream("train")
        self.context_length, self.seed = context_length, seed
        self.data_number = int(data.hash, 16)
        stream = np.asarray(self.tokens.read(0, len(self.tokens)))
        ends = np.flatnonzero(stream == data.end_of_text) + 1
        self.end_of_text = data.end_of_text
        self.packed = self._pack(np.concatenate([[0], ends[:-1]]), ends)
        self.count = len(self.packed)
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def _pack(self, starts: np.ndarray, ends: np.ndarray) -> list[list[tuple[int, int]]]:
        T, whole = self.context_length, []
        rest: list[list[tuple[int, int]]] = [[] for _ in range(T + 1)]
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            for at in range(start, end, T):
                if end - at >= T:
                    whole.append([(at, T)])
                else:
                    rest[end - at].append((at, end - at))
        random = np.random.PCG64([self.seed, T, self.data_number])
        for pieces in rest:
            pieces[:] = [pieces[i] for i in np.argsort(random.random_raw(len(pieces)), kind="stable")]
        longest = T
        while longest:
            if not rest[longest]:
                longest -= 1
                continue
            window, gap = [rest[longest].pop()], T - longest
            while gap and any(rest):
                fits = next((n for n in range(gap, 0, -1) if rest[n]), None)
                if fits is not None:
                    window.append(rest[fits].pop())
                    gap -= fits
                    continue
                n = next(n for n in range(gap, T + 1) if rest[n])
                at, length = rest[n].pop()
                window.append((at, gap))
                rest[length - gap].append((at + gap, length - gap))
                longest, gap = max(longest, length - gap), 0
            if not gap:
                whole.append(window)
        return whole

    def read(self, position: int) -> np.ndarray:
        """Inputs, targets and documents of a window: (3, T)."""
        epoch, i = divmod(position, self.count)
        if epoch != self._epoch:
            random = np.random.PCG64([self.seed, epoch, self.context_length, self.data_number])
            self._epoch, self._order = epoch, np.argsort(random.random_raw(self.count), kind="stable")
        parts = []
        for number, (start, length) in enumerate(self.packed[self._order[i]]):
            before = self.tokens.read(start - 1, 1) if start else np.array([self.end_of_text])
            tokens = np.concatenate([before, self.tokens.read(start, length)])
            parts.append(np.stack([tokens[:-1], tokens[1:], np.full(length, number)]))
        return np.concatenate(parts, axis=1)


class TrainingBatches:
    """The endless, fixed row of training batches. `batch_size` is the global one: all windows of one optimiser step. An
    epoch (`windows`) is as many windows as all folders have."""

    def __init__(
        self, data: Data, context_length: int, batch_size: int, seed: int, packed: bool = False, half_steps: int = 0
    ) -> None:
        self.batch_size, self.half_steps = batch_size, half_steps
        kind = PackedWindows if packed else Windows
        self.parts: list[tuple[Windows | PackedWindows, Fraction]] = []  # each with its share of what the others leave
        left = Fraction(1)
        for folder, share in data.parts:
            self.parts.append((kind(folder, context_length, seed), share / left))
            left -= share
        self.windows = sum(windows.count for windows, _ in self.parts)

    def __getitem__(self, n: int) -> Batch:
        size, halves = self.batch_size, min(n, self.half_steps)
        start = halves * (size // 2) + (n - halves) * size
        return _batch([self._window(start + i) for i in range(size // 2 if n < self.half_steps else size)])

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
        rows = [read(start, context_length + 1) for start in whole[first : first + batch_size]]
        yield _batch([_window(row, data.end_of_text) for row in rows])
    if rest := total % context_length:
        yield _batch([_window(read(total - rest, rest + 1), data.end_of_text)])


def _window(tokens: np.ndarray, end_of_text: int) -> np.ndarray:
    """T + 1 tokens as inputs, targets and documents (3, T)."""
    return np.stack([tokens[:-1], tokens[1:], np.cumsum(tokens[:-1] == end_of_text)])


def _batch(windows: list[np.ndarray]) -> Batch:
    return Batch(*torch.from_numpy(np.stack(windows, axis=1)))
