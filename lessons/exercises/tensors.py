"""Chapter 0: tensors, shapes, gradients."""

from collections.abc import Callable

import torch
from torch import Tensor


def softmax(x: Tensor, dim: int) -> Tensor:
    """Numbers along one axis to probabilities: e to the power of each, divided by the sum of all.

    Must also work for numbers like 1,000, whose power of e is infinite: first take away the largest of them, which changes
    nothing in the result.
    """
    raise NotImplementedError  # write this


def mean_so_far(x_TD: Tensor) -> Tensor:
    """Row t of the result is the mean of rows 0 to t: (T, D) to (T, D).

    By one matrix product, without a loop: weights_TT @ x_TD, where row t of the weights says how much of each row it takes.
    """
    raise NotImplementedError  # write this


def slope(f: Callable[[Tensor], Tensor], x: float) -> float:
    """The derivative of f at x, by autograd: f gets a tensor of one number and returns one."""
    raise NotImplementedError  # write this


def descend(f: Callable[[Tensor], Tensor], start: Tensor, rate: float, steps: int) -> Tensor:
    """Walks downhill: `steps` times, x moves by -rate times the gradient of f at x. Returns where it ends. `start` stays as
    it was."""
    raise NotImplementedError  # write this
