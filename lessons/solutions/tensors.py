"""Chapter 0: tensors, shapes, gradients. A solution."""

from collections.abc import Callable

import torch
from torch import Tensor


def softmax(x: Tensor, dim: int) -> Tensor:
    """Numbers along one axis to probabilities: e to the power of each, divided by the sum of all.

    Must also work for numbers like 1,000, whose power of e is infinite: first take away the largest of them, which changes
    nothing in the result.
    """
    powers = (x - x.max(dim, keepdim=True).values).exp()
    return powers / powers.sum(dim, keepdim=True)


def mean_so_far(x_TD: Tensor) -> Tensor:
    """Row t of the result is the mean of rows 0 to t: (T, D) to (T, D).

    By one matrix product, without a loop: weights_TT @ x_TD, where row t of the weights says how much of each row it takes.
    """
    T = x_TD.shape[0]
    seen_TT = torch.ones(T, T).tril()
    return seen_TT / seen_TT.sum(1, keepdim=True) @ x_TD


def slope(f: Callable[[Tensor], Tensor], x: float) -> float:
    """The derivative of f at x, by autograd: f gets a tensor of one number and returns one."""
    at = torch.tensor(x, requires_grad=True)
    f(at).backward()
    return float(at.grad)


def descend(f: Callable[[Tensor], Tensor], start: Tensor, rate: float, steps: int) -> Tensor:
    """Walks downhill: `steps` times, x moves by -rate times the gradient of f at x. Returns where it ends. `start` stays as
    it was."""
    x = start.clone().requires_grad_()
    for _ in range(steps):
        f(x).backward()
        with torch.no_grad():
            x -= rate * x.grad
        x.grad = None
    return x.detach()
