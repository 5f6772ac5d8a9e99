"""How weights move: which of them decay, how far a step goes, when, and the step itself.

Source: Loshchilov & Hutter 2019 (AdamW); Hu et al. 2024, "MiniCPM" (warm-up, stable, decay).
"""

import math

import torch
from torch import nn

from wikigpt.config import TrainingSettings
from wikigpt.data.loader import Batch
from wikigpt.hardware import Machine
from wikigpt.transformer import GPTModel

COSINE_FLOOR = 0.1  # of the highest rate, where a cosine ends
WSD_DECAY = 0.2  # of all steps, over which wsd falls to zero


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW with decay on matrices only: a bias or a norm's scale has no business near zero."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.95), eps=1e-8, fused=True)


def learning_rate_at(step: int, total_steps: int, settings: TrainingSettings) -> float:
    """The learning rate of step `step` (from 0) of `total_steps`: a pure function, so that a resumed run has the same."""
    peak, warmup = settings.learning_rate, settings.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    if settings.schedule == "cosine":
        progress = (step - warmup) / max(1, total_steps - warmup)
        return peak * (COSINE_FLOOR + (1 - COSINE_FLOOR) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
    if settings.schedule == "wsd":
        return peak * min(1.0, (total_steps - step) / _decay_steps(total_steps))
    return peak


def stable_steps(total_steps: int, settings: TrainingSettings) -> int | None:
    """How many steps of a wsd run are the same however long it is: those before its learning rate begins to fall. None
    for the other schedules."""
    return total_steps - _decay_steps(total_steps) + 1 if settings.schedule == "wsd" else None


def _decay_steps(total_steps: int) -> int:
    return max(1, round(WSD_DECAY * total_steps))


def training_step(
    model: GPTModel,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    batch: Batch,
    training: TrainingSettings,
    machine: Machine,
) -> tuple[float, float]:
    """One optimiser step on a global batch, cut into equal parts whose gradients add up to that of the whole. Returns
    the mean loss in nats per token and the length of the gradient before clipping."""
    loss = torch.zeros((), device=machine.device)
    for part in batch.split(training.gradient_accumulation_steps):
        part = part.to(machine.device)
        with machine.autocast():
            part_loss = model.loss(part.inputs_BT, part.targets_BT) / training.gradient_accumulation_steps
        scaler.scale(part_loss).backward()
        loss += part_loss.detach()
    scaler.unscale_(optimizer)
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm or float("inf"))
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return loss.item(), grad_norm.item()
