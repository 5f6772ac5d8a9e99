"""Chapter 6: the training loop."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def cross_entropy(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """The mean over all positions of -ln p, where p is what the model gives the token that comes: nats per token."""
    raise NotImplementedError  # write this


def learning_rate_at(step: int, total_steps: int, peak: float, warmup_steps: int) -> float:
    """The learning rate of a step (from 0). Over the first warmup_steps it rises evenly, from peak / warmup_steps to peak;
    from there it falls along half a cosine to a tenth of the peak, which it would reach at step total_steps."""
    raise NotImplementedError  # write this


def clip(parameters: Iterable[nn.Parameter], longest: float) -> float:
    """Where the gradient of all parameters, as one long vector, is longer than `longest`, all gradients are scaled so that
    it is as long. Returns how long it was. Parameters without a gradient (None) are passed over."""
    raise NotImplementedError  # write this


def backward_in_parts(model: nn.Module, inputs_BT: Tensor, targets_BT: Tensor, parts: int) -> float:
    """Leaves in .grad the gradient of the mean loss of the whole batch, with only one of `parts` equal parts in memory at a
    time (Tensor.chunk). Returns that loss."""
    raise NotImplementedError  # write this


class AdamW:
    """Moves each parameter by its gradient's running mean, divided by how large that gradient usually is; and pulls matrices
    (two axes) towards zero, by the learning rate times `decay`.

        m = 0.9 m + 0.1 g         v = 0.95 v + 0.05 g^2         at step n (from 1):
        p = p - rate * decay * p            (matrices only)
        p = p - rate * (m / (1 - 0.9^n)) / (sqrt(v / (1 - 0.95^n)) + 1e-8)
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        raise NotImplementedError  # write this

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Moves all parameters, and forgets their gradients (sets .grad to None)."""
        raise NotImplementedError  # write this


def validate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The mean loss over some (inputs, targets), each token with the same weight, without gradients."""
    raise NotImplementedError  # write this


def train(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], total_steps: int, peak: float = 3e-3
) -> list[float]:
    """total_steps times: the next batch of (inputs, targets), its gradient, clipped to 1.0, and a step of AdamW (decay 0.1) at
    the learning rate of that step (a tenth of all steps to warm up, at least one). Returns the loss of each step."""
    raise NotImplementedError  # write this
