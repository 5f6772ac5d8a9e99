"""What my_gpt/tensors.py must do."""

import torch

from wikigpt.learn.expect import check, expect, same

X = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 4.0]])


@check(
    "softmax: probabilities along the axis that is asked for",
    "x.exp() gives the powers; what must they be divided by so that they add up to 1 along `dim`?",
    "sum(dim) removes the axis; sum(dim, keepdim=True) keeps it with length 1, so that the division can be done.",
    "powers = x.exp(); return powers / powers.sum(dim, keepdim=True)",
)
def softmax(mine):
    for dim in (1, 0):
        plain, shifted = X.exp(), (X - X.max(dim, keepdim=True).values).exp()
        other, everything = (
            "the powers are divided by their sum over the other axis",
            "the powers are divided by the sum of all of them",
        )
        mistakes = [
            ("it is taken over the other axis", torch.softmax(X, 1 - dim)),
            ("these are the powers of e, not yet divided by their sum", plain),
            *((f"{other}: take it over `dim`", e / e.sum(1 - dim, keepdim=True)) for e in (plain, shifted)),
            *((f"{everything}: take it over `dim` alone", e / e.sum()) for e in (plain, shifted)),
        ]
        same(mine.softmax(X, dim), torch.softmax(X, dim), f"softmax(x, dim={dim})", mistakes)
    three = torch.randn(2, 3, 4)
    same(mine.softmax(three, -1), torch.softmax(three, -1), "softmax of three axes along the last, dim=-1")


@check(
    "softmax of large numbers",
    "e to the power of 1,000 is infinite, and infinite divided by infinite is no number.",
    "softmax(x) is the same as softmax(x - c) for any c: which c makes the largest power 1?",
    "x - x.max(dim, keepdim=True).values, before exp().",
)
def large(mine):
    big = torch.tensor([1000.0, 1001.0])
    same(mine.softmax(big, 0), torch.softmax(big, 0), "softmax of 1000 and 1001")
    mixed = torch.tensor([[1000.0, 1001.0], [0.0, 1.0]])
    got = mine.softmax(mixed, 1)
    expect(
        bool(got.isfinite().all()),
        "take away the largest along `dim`, not the largest of all: beside a row of large numbers, a row of small ones has no sum.",
    )
    same(got, torch.softmax(mixed, 1), "softmax of a row of large and a row of small numbers")


@check(
    "mean_so_far: every row the mean of itself and those before",
    "Which weights make the mean of the first two of three rows? 1/2, 1/2, 0.",
    "torch.ones(T, T).tril() has ones where a row may look. What must each row be divided by?",
    "seen = torch.ones(T, T).tril(); return seen / seen.sum(1, keepdim=True) @ x",
)
def mean_so_far(mine):
    x = torch.arange(8.0).view(4, 2) ** 2
    right = x.cumsum(0) / torch.arange(1, 5)[:, None]
    before = torch.cat([torch.zeros(1, 2), right[:-1]])
    mistakes = {
        "these are sums: divide each row of the weights by how many ones it has": x.cumsum(0),
        "every row has the mean of all rows, those after it too": x.mean(0).expand(4, 2),
        "row t has the mean of the rows before t: it must take in row t itself": before,
        "row t looks only at rows before t, and row 0 at none: tril() keeps the diagonal": torch.cat(
            [torch.full((1, 2), float("nan")), right[:-1]]
        ),
        "the weights add up to 1 by column, and each row should": torch.ones(4, 4).tril() / torch.arange(4, 0, -1) @ x,
        "keepdim=True is missing in the sum: it divides columns": torch.ones(4, 4).tril() / torch.arange(1, 5) @ x,
        "row t looks at itself and what comes after; it must look back": x.flip(0).cumsum(0).flip(0)
        / torch.arange(4, 0, -1)[:, None],
    }
    same(mine.mean_so_far(x), right, "mean_so_far(x)", mistakes)
    expect(x[3, 1] == 49, "mean_so_far changes the tensor that it is given.")


@check(
    "slope: a derivative by autograd",
    "Only a tensor with requires_grad=True remembers what is calculated with it.",
    "After y.backward(), the derivative of y stands in x.grad.",
    "at = torch.tensor(x, requires_grad=True); f(at).backward(); return float(at.grad)",
)
def slope(mine):
    same(mine.slope(lambda x: x**2, 3.0), 6.0, "slope of x ** 2 at 3", {"this is the value there, not the slope": 9.0})
    same(mine.slope(lambda x: x.sin(), 0.0), 1.0, "slope of sin(x) at 0")


@check(
    "descend: down the gradient",
    "One step: f(x).backward(), then x moves against x.grad.",
    "The step itself must not be remembered: with torch.no_grad(): x -= rate * x.grad",
    "backward() adds to x.grad what is there already: set x.grad = None after each step.",
)
def descend(mine):
    start = torch.tensor([4.0, -2.0])
    f = lambda x: ((x - torch.tensor([1.0, 1.0])) ** 2).sum()  # noqa: E731
    one, ten = mine.descend(f, start, 0.1, 1), mine.descend(f, start, 0.1, 10)
    same(start, torch.tensor([4.0, -2.0]), "`start` was changed; work on start.clone(): it")
    up = {"it walks uphill: subtract the gradient": torch.tensor([4.6, -2.6])}
    same(one.detach(), torch.tensor([3.4, -1.4]), "one step", up)
    x, total = start.clone(), torch.zeros(2)
    for _ in range(10):
        total += 2 * (x - 1)
        x -= 0.1 * total
    piled = {"gradients of all steps pile up in x.grad: clear it after each step": x}
    same(ten.detach(), 1 + (start - 1) * 0.8**10, "ten steps", piled)
    expect(not ten.requires_grad, "The result still remembers how it was made: return x.detach().")
