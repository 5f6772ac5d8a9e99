"""What my_gpt/bigram.py must do."""

import math
from itertools import pairwise

import torch

from wikigpt.learn.expect import check, expect, same

IDS = torch.tensor([0, 1, 2, 0, 1, 1, 0])
COUNTS = torch.tensor([[0.0, 2.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])


@check(
    "count: pairs of neighbours in a table",
    "The token before is ids[:-1], the token after ids[1:].",
    "A loop over both with counts[i, j] += 1 is right, if slow. Mind: counts[before, after] += 1 with tensors counts a pair once.",
    "Give each pair one number, i * V + j, count these with torch.bincount(..., minlength=V * V), and .view(V, V).",
)
def count(mine):
    mistakes = {
        "rows and columns are swapped: the row is the token before": COUNTS.T,
        "a pair that comes twice was counted once": (COUNTS > 0).float(),
        "these are whole numbers: make them float32": COUNTS.long(),
    }
    got = mine.count(IDS, 3)
    same(got, COUNTS, "count([0, 1, 2, 0, 1, 1, 0], 3)", mistakes)
    expect(got.dtype == torch.float32, "The counts should be float32: .float()")
    same(mine.count(IDS, 5).shape, torch.Size([5, 5]), "the shape of count(ids, 5)")


@check(
    "probabilities: every row adds up to 1",
    "Add `extra` to all counts, then divide every row by its sum.",
    "Rows are axis 0; summing along a row is sum(1, keepdim=True).",
)
def probabilities(mine):
    plus = COUNTS + 0.5
    right = plus / plus.sum(1, keepdim=True)
    mistakes = {
        "columns add up to 1, and rows should": plus / plus.sum(0, keepdim=True),
        "all numbers together add up to 1, and each row should": plus / plus.sum(),
        "`extra` was added after dividing": COUNTS / COUNTS.sum(1, keepdim=True) + 0.5,
        "`extra` is missing in the sum that is divided by": plus / COUNTS.sum(1, keepdim=True),
    }
    same(mine.probabilities(COUNTS, 0.5), right, "probabilities(counts, 0.5)", mistakes)
    same(COUNTS[1], torch.ones(3), "probabilities changes the counts that it is given: a row of them")


@check(
    "loss: the mean of -ln p",
    "probabilities[ids[:-1], ids[1:]] picks one number for every pair.",
    "Tensor.log() is the natural logarithm. There is one prediction less than tokens: mean() divides by the right number.",
)
def loss(mine):
    even = torch.full((3, 3), 1 / 3)
    mistakes = {
        "this is in bits: take the natural logarithm": math.log2(3),
        "the sign is wrong": -math.log(3),
        "this is the sum, not the mean": 6 * math.log(3),
        "it was divided by the number of tokens; the first is not predicted": 6 / 7 * math.log(3),
    }
    same(mine.loss(even, IDS), math.log(3), "loss of three tokens as likely as each other (ln 3)", mistakes)
    table = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
    swapped = {"the token before picks the row, not the column": -math.log(0.8)}
    same(mine.loss(table, torch.tensor([0, 1])), -math.log(0.9), "loss of one sure guess", swapped)


@check(
    "write: one token after another",
    "The row of the last token holds the probabilities of the next.",
    "int(torch.multinomial(row, 1, generator=generator)) draws one. The first token is given, and not part of the answer.",
)
def write(mine):
    sure = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    mistakes = {"`first` is given and should not be among them": [0, 1, 2, 0, 1], "one is missing": [1, 2, 0]}
    same(
        mine.write(sure, 0, 4, torch.Generator()),
        [1, 2, 0, 1],
        "write where 1 follows 0, 2 follows 1, 0 follows 2",
        mistakes,
    )
    table = torch.tensor([[0.5, 0.5], [0.9, 0.1]])
    ids = mine.write(table, 0, 4000, torch.Generator().manual_seed(1))
    expect(
        set(ids) == {0, 1},
        "It always takes the likeliest token: draw one, torch.multinomial(row, 1, generator=generator).",
    )
    after = [b for a, b in pairwise(ids) if a == 1]
    expect(
        len(ids) == 4000 and 0.85 < after.count(0) / len(after) < 0.95,
        "After token 1, token 0 should come nine times in ten.",
    )
    again = mine.write(table, 0, 50, torch.Generator().manual_seed(7))
    other = mine.write(table, 0, 50, torch.Generator().manual_seed(7))
    expect(again == other, "The same seed should give the same text: hand `generator` on to torch.multinomial.")
