"""Chapter 6: the training loop. A solution."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


def cross_entropy(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """The mean over all positions of -ln p, where p is what the model gives the token that comes: nats per token."""
    log_probs_BTV = logits_BTV.log_softmax(-1)
    return -log_probs_BTV.gather(-1, targets_BT[..., None]).mean()


def learning_rate_at(step: int, total_steps: int, peak: float, warmup_steps: int) -> float:
    """The learning rate of a step (from 0). Over the first warmup_steps it rises evenly, from peak / warmup_steps to peak;
    from there it falls along half a cosine to a tenth of the peak, which it would reach at step total_steps."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return peak * (0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2)


def clip(parameters: Iterable[nn.Parameter], longest: float) -> float:
    """Where the gradient of all parameters, as one long vector, is longer than `longest`, all gradients are scaled so that
    it is as long. Returns how long it was. Parameters without a gradient (None) are passed over."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    length = math.sqrt(sum(float(g.pow(2).sum()) for g in gradients))
    if length > longest:
        for gradient in gradients:
            gradient.mul_(longest / length)
    return length


def backward_in_parts(model: nn.Module, inputs_BT: Tensor, targets_BT: Tensor, parts: int) -> float:
    """Leaves in .grad the gradient of the mean loss of the whole batch, with only one of `parts` equal parts in memory at a
    time (Tensor.chunk). Returns that loss."""
    total = 0.0
    for inputs, targets in zip(inputs_BT.chunk(parts), targets_BT.chunk(parts), strict=True):
        loss = cross_entropy(model(inputs), targets) / parts
        loss.backward()
        total += loss.item()
    return total


class AdamW:
    """Moves each parameter by its gradient's running mean, divided by how large that gradient usually is; and pulls matrices
    (two axes) towards zero, by the learning rate times `decay`.

        m = 0.9 m + 0.1 g         v = 0.95 v + 0.05 g^2         at step n (from 1):
        p = p - rate * decay * p            (matrices only)
        p = p - rate * (m / (1 - 0.9^n)) / (sqrt(v / (1 - 0.95^n)) + 1e-8)
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay, self.n = list(parameters), decay, 0
        self.m = [torch.zeros_like(p) for p in self.parameters]
        self.v = [torch.zeros_like(p) for p in self.parameters]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Moves all parameters, and forgets their gradients (sets .grad to None)."""
        self.n += 1
        for p, m, v in zip(self.parameters, self.m, self.v, strict=True):
            m.mul_(0.9).add_(0.1 * p.grad)
            v.mul_(0.95).add_(0.05 * p.grad**2)
            if p.dim() == 2:
                p.sub_(rate * self.decay * p)
            p.sub_(rate * (m / (1 - 0.9**self.n)) / ((v / (1 - 0.95**self.n)).sqrt() + 1e-8))
            p.grad = None


def validate(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The mean loss over some (inputs, targets), each token with the same weight, without gradients."""
    total, tokens = 0.0, 0
    with torch.no_grad():
        for inputs_BT, targets_BT in batches:
            total += float(cross_entropy(model(inputs_BT), targets_BT)) * targets_BT.numel()
            tokens += targets_BT.numel()
    return total / tokens


def train(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], total_steps: int, peak: float = 3e-3
) -> list[float]:
    """total_steps times: the next batch of (inputs, targets), its gradient, clipped to 1.0, and a step of AdamW (decay 0.1) at
    the learning rate of that step (a tenth of all steps to warm up, at least one). Returns the loss of each step."""
    optimizer, losses = AdamW(model.parameters(), decay=0.1), []
    for step, (inputs_BT, targets_BT) in zip(range(total_steps), batches, strict=False):
        losses.append(backward_in_parts(model, inputs_BT, targets_BT, parts=1))
        clip(model.parameters(), 1.0)
        optimizer.step(learning_rate_at(step, total_steps, peak, max(1, total_steps // 10)))
    return losses
