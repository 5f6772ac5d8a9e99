"""How weights move: which of them decay, how far a step goes, when, and the step itself.

Source: Loshchilov & Hutter 2019 (AdamW); Hu et al. 2024, "MiniCPM" (warm-up, stable, decay).
"""

import math
import socket
from contextlib import nullcontext
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from wikigpt.config import TrainingSettings
from wikigpt.data.loader import Batch
from wikigpt.errors import RunError, out_of_memory
from wikigpt.hardware import DTYPES, Machine
from wikigpt.parallel import (
    ALONE,
    OnOneRank,
    Replicas,
    World,
    average_gradients,
    gathered_out,
    in_parts,
    not_yet,
    own,
    shared_out,
    whole,
)  # fmt: skip

COSINE_FLOOR = 0.1  # of the highest rate, where a cosine ends


def make_optimizer(
    model: nn.Module, settings: TrainingSettings, dtype: str = "float32", world: World = ALONE
) -> torch.optim.AdamW:
    """AdamW, with decay on matrices only: a bias or a norm's scale has no business near zero. With `muon` the matrices of
    the blocks are Muon's; `dtype` is what they are made orthogonal in, and `world` shares that work."""
    named = dict(model.named_parameters())
    muons = [n for n, p in named.items() if settings.optimizer == "muon" and n.startswith("blocks.") and p.dim() == 2]
    rest = [p for n, p in named.items() if n not in muons]
    groups = [
        {"params": [p for p in rest if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0},
    ]
    rates: dict[str, Any] = {"lr": settings.learning_rate, "betas": (0.9, 0.95), "eps": 1e-8, "fused": True}
    if not muons:
        return torch.optim.AdamW(groups, **rates)
    stacked = [n for n in muons if n.endswith("qkv.weight")]  # three matrices in one
    rate, decay = settings.matrix_learning_rate, settings.weight_decay
    for names, parts in (([n for n in muons if n not in stacked], 1), (stacked, 3)):
        muon = {"lr": rate, "factor": rate / settings.learning_rate, "momentum": settings.momentum, "parts": parts}
        if names:
            groups.append({"params": [named[n] for n in names], "weight_decay": decay, **muon})
    return Muon(groups, DTYPES[dtype], world, **rates)


# At first a mean over fewer gradients, since they still change fast.
MOMENTUM_AT_FIRST, MOMENTUM_STEPS = 0.85, 300


class Muon(torch.optim.AdamW):
    """AdamW that moves the groups with a `momentum` by Muon: along the momentum of their gradients, made orthogonal.

    A gradient's few large directions drown the many small ones; with all singular values at 1 a step teaches all
    of them alike. The rate of a matrix with more rows than columns grows with the root of their ratio, so that one rate fits
    all shapes.

    Of several ranks each makes its share of the matrices orthogonal.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
    """

    def __init__(self, groups: list[dict[str, Any]], dtype: torch.dtype, world: World = ALONE, **rates: Any) -> None:
        super().__init__(groups, **rates)
        self.dtype, self.world = dtype, world
        self._step_supports_amp_scaling = False  # a scaler must pass over a broken step, ours too

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        groups = self.param_groups
        self.param_groups = [group for group in groups if "momentum" not in group]
        super().step()
        self.param_groups = groups
        for group in groups:
            if "momentum" in group:
                by_shape: dict[torch.Size, list[Tensor]] = {}
                for parameter in group["params"]:
                    by_shape.setdefault(parameter.shape, []).append(parameter)
                for parameters in by_shape.values():
                    self._move(parameters, group)

    def _move(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """One step of matrices (rows, columns) of one shape, all at once."""
        rows, columns = parameters[0].shape
        parts = group["parts"]

        def nearest(matrices: Tensor) -> Tensor:  # of those that are several in one, of each
            return orthogonal(matrices.reshape(-1, rows // parts, columns), self.dtype).view(matrices.shape)

        directions = torch.stack([own(self._direction(p, group["momentum"])) for p in parameters])
        if in_parts(parameters[0]):
            steps = gathered_out(nearest, directions, rows, self.world)
        else:
            steps = shared_out(nearest, directions, self.world)
        scale = group["lr"] * max(1.0, rows / parts / columns) ** 0.5
        for parameter, step in zip(parameters, steps, strict=True):
            own(parameter).mul_(1 - group["lr"] * group["weight_decay"]).sub_(step, alpha=scale)

    def _direction(self, parameter: Tensor, momentum: float) -> Tensor:
        """Nesterov's look ahead: the gradient once more on top of its running mean."""
        assert parameter.grad is not None
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        mean = state["momentum"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(mean, momentum)


# Five steps of polynomials a x + b x^3 + c x^5 that bring singular values close to 1, if none is far below a hundredth of
# the largest. Source: the method is that of Amsel et al. 2025, "The Polar Express"; these numbers, for five steps and a
# margin of 2%, are those that modded-nanogpt uses (github.com/KellerJordan/modded-nanogpt).
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
MARGIN = 0.02  # by which 16-bit sums may exceed 1


def orthogonal(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest orthogonal matrices (N, rows, columns), nearly: U V' of each U S V'. Calculated in `dtype`."""
    lengths = matrices.norm(dim=(1, 2), keepdim=True)  # in 32 bits: 16 might not hold what is small
    x = (matrices / (lengths * (1 + MARGIN) + 1e-12)).to(dtype)
    if tall := x.shape[1] > x.shape[2]:
        x = x.mT.contiguous()
    for a, b, c in POLAR_EXPRESS:  # sums with products are rounded once: faster, and four times as close in 16 bits
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT.contiguous() if tall else x


def set_rates(optimizer: torch.optim.Optimizer, step: int, total_steps: int, settings: TrainingSettings) -> float:
    """Sets what changes from step to step, and returns the learning rate."""
    rate = learning_rate_at(step, total_steps, settings)
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
        if "momentum" in group:
            risen = min(1.0, step / MOMENTUM_STEPS)
            low = min(MOMENTUM_AT_FIRST, settings.momentum)
            group["momentum"] = low + (settings.momentum - low) * risen
    return rate


def learning_rate_at(step: int, total_steps: int, settings: TrainingSettings) -> float:
    """The learning rate of step `step` (from 0) of `total_steps`: a pure function, so that a resumed run has the same."""
    peak, warmup = settings.learning_rate, settings.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    if settings.schedule == "cosine":
        progress = (step - warmup) / max(1, total_steps - warmup)
        return peak * (COSINE_FLOOR + (1 - COSINE_FLOOR) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
    if settings.schedule == "wsd":
        return peak * min(1.0, (total_steps - step) / _decay_steps(total_steps, settings))
    return peak


def stable_steps(total_steps: int, settings: TrainingSettings) -> int | None:
    """How many steps of a wsd run are the same however long it is: those before its learning rate begins to fall. None
    for the other schedules."""
    return total_steps - _decay_steps(total_steps, settings) + 1 if settings.schedule == "wsd" else None


def _decay_steps(total_steps: int, settings: TrainingSettings) -> int:
    return max(1, round(settings.decay_share * total_steps))


class BatchTooLarge(RunError):
    """There was not enough memory for the gradients of a step. Nothing has moved: it can be done in smaller parts."""


def training_step(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    batch: Batch,
    training: TrainingSettings,
    machine: Machine,
) -> Tensor:
    """One optimiser step. `net` gives the summed loss of a batch (parallel.wrap), `batch` is this rank's share of the global
    one, which is cut into parts whose gradients add up to that of the whole. Returns the mean loss in nats per token and the
    length of the gradient before clipping, of the global batch, on the device: nothing here waits for it (but a scaler).
    Raises BatchTooLarge, on all ranks, or RunError where only this rank has too little memory and cannot tell the others."""
    world = machine.world
    tokens = training.windows_per_step * batch.inputs_BT.shape[1]
    parts = batch.to(machine.device).split(parts_of_step(training, world))
    careful = isinstance(net, Replicas) and net.careful_steps > 0
    loss, too_large = torch.zeros((), device=machine.device), False
    try:
        for number, part in enumerate(parts):
            together = number == len(parts) - 1 and not careful
            with machine.autocast(), nullcontext() if together else not_yet(net):
                part_loss = net(part.inputs_BT, part.targets_BT) * (part.weight / tokens)
            scaler.scale(part_loss * world.size).backward()  # since gradients are averaged over ranks
            loss += part_loss.detach()
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        too_large = True
    if careful:  # gradients wait until all ranks are known to have theirs
        (too_large,) = world.any(too_large)
    if too_large:  # not raised above: the first error would keep alive all that was calculated up to it
        optimizer.zero_grad(set_to_none=True)
        _too_large(training, machine, agreed=world.size == 1 or careful)
    if isinstance(net, Replicas) and careful:
        average_gradients(net, world)
        net.careful_steps -= 1
    loss = world.add_up(loss)
    scaler.unscale_(optimizer)
    grad_norm = whole(torch.nn.utils.clip_grad_norm_(net.parameters(), training.max_grad_norm or float("inf")))
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return torch.stack([loss, grad_norm.float()])


def parts_of_step(training: TrainingSettings, world: World) -> int:
    """Forward passes of a rank in an optimiser step: no more windows at once than `batch_size`."""
    return -(-training.windows_per_step // (world.size * windows_at_once(training, world)))


def windows_at_once(training: TrainingSettings, world: World) -> int:
    """Of a rank's forward pass, at the most."""
    return min(training.batch_size, -(-training.windows_per_step // world.size))


def half_at_once(training: TrainingSettings, world: World) -> TrainingSettings:
    """The same step in parts of half as many windows, or fewer."""
    half = max(1, windows_at_once(training, world) // 2)
    return training.in_parts_of(next(size for size in range(half, 0, -1) if training.windows_per_step % size == 0))


def _too_large(training: TrainingSettings, machine: Machine, agreed: bool) -> NoReturn:
    windows = windows_at_once(training, machine.world)
    problem = f"A forward pass of {windows} windows needs more memory than there is."
    if agreed:
        raise BatchTooLarge(problem, "Take a smaller --batch_size, --context_length or model.")
    smaller = half_at_once(training, machine.world)
    parts = f"--batch_size {smaller.batch_size} --gradient_accumulation_steps {smaller.gradient_accumulation_steps}"
    fix = f"Go on with {parts}." if windows > 1 else "Take --activation_checkpointing True, or a smaller model."
    raise OnOneRank(f"{problem} (On {socket.gethostname()}, in the middle of a step.)", fix)
