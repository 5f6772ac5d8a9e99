"""How the parts of a step that are no matrix products are calculated: as they are written, or faster.

plain      PyTorch, one operation after the other: what the others must equal
kernels    in C, on a CPU (wikigpt.kernels)
compiled   fused by torch.compile, block by block, on an NVIDIA card
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from wikigpt.config import BACKENDS
from wikigpt.errors import ConfigError
from wikigpt.hardware import DTYPES, Machine
from wikigpt.kernels import Kernels
from wikigpt.parallel import wrap
from wikigpt.transformer import GPTModel, Plain


def choose_backend(device: str, asked: str | None = None, usual: str | None = None) -> tuple[str, str]:
    """The backend asked for, the usual one or the fastest, if it works on a device; else plain and why. Raises ConfigError
    where the one asked for does not work. (Builds the kernels where they have not been built yet.)"""
    if asked is not None and asked not in BACKENDS:
        raise ConfigError(f"There is no backend {asked!r}.", f"Take one of {', '.join(BACKENDS)}.")
    best = asked or usual or {"cpu": "kernels", "cuda": "compiled"}.get(device, "plain")
    problem = {"plain": lambda _: "", "kernels": _no_kernels, "compiled": _no_compiler}[best](device)
    if problem and asked:
        raise ConfigError(f"The backend {asked} does not work here: {problem}.", "Take --backend plain.")
    return ("plain", f"backend: plain, since {best} does not work here: {problem}") if problem else (best, "")


def _no_kernels(device: str) -> str:
    """Why there can be no kernels."""
    if device != "cpu":
        return "they are for CPUs"
    try:
        Kernels(1)
    except OSError as error:
        return str(error)
    return ""


def _no_compiler(device: str) -> str:
    """Why torch.compile does not work, found by trying: it takes a compiler, its headers, on a card Triton, and more."""
    try:
        torch.compile(lambda x: (x * 2 + 1).sum())(torch.ones(64, device=device))
    except Exception as error:  # of Triton, of a C compiler without Python's headers, of an old card, ...
        lines = [line for line in str(error).splitlines() if line.strip()]
        return lines[0].strip() if lines else type(error).__name__
    return ""


def use_backend(model: GPTModel, machine: Machine) -> None:
    """Lets a model calculate in the machine's way. Parameters, their names and what they mean stay the same."""
    if machine.backend == "kernels":
        model.use(Kernels(machine.threads))
    elif machine.backend == "compiled":
        torch._dynamo.config.optimize_ddp = (
            False  # which would cut each block's graph where a bucket of gradients is full
        )
        for block in model.blocks:  # one graph for all of them: starts far sooner than the whole model as one
            block.compile()
        model.use(_Compiled)


def training_net(model: GPTModel, machine: Machine, parallel: str = "", recompute: bool = False) -> nn.Module:
    """A model as a machine and its world train it, on its device: what gives the summed loss of a rank's batch. `recompute`:
    with activation checkpointing."""
    use_backend(model, machine)
    for block in model.blocks:
        block.recompute = recompute  # type: ignore[assignment]
    return wrap(model, parallel, machine.device, DTYPES[machine.dtype], machine.world)


class _Compiled(Plain):
    @staticmethod
    def cross_entropy(logits_NV: Tensor, targets_N: Tensor, vocab_size: int, need_gradient: bool) -> Tensor:
        return _fused_cross_entropy()(logits_NV, targets_N, vocab_size, need_gradient)


@cache
def _fused_cross_entropy() -> Any:
    return torch.compile(Plain.cross_entropy)


def as_written(machine: Machine) -> AbstractContextManager[None]:
    """While it lasts nothing is compiled: evaluation and generation come in other shapes than training, and each shape would
    cost a compilation."""
    return torch.compiler.set_stance("force_eager") if machine.backend == "compiled" else nullcontext()
