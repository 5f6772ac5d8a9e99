"""What a run will be, before it starts: its settings, its length, and what it costs.

flags and presets ──> settle() ──> RunConfig (run.json)
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from loguru import logger

from wikigpt import __version__
from wikigpt.config import ModelConfig, RunConfig, TrainingSettings, differences, from_preset
from wikigpt.data.loader import TrainingBatches
from wikigpt.data.shards import DataFolder
from wikigpt.errors import ConfigError, RunError
from wikigpt.hardware import Machine, synchronize
from wikigpt.optim import make_optimizer, training_step
from wikigpt.transformer import GPTModel

Presets = Mapping[str, Mapping[str, Any]]


def flops_per_token(config: ModelConfig) -> float:
    """FLOPs to train on one token, forward and backward.

    Six per weight of a matrix (the tied head is one, the two embeddings are look-ups and cost nothing), and 12 * L * T * D
    for attention scores and their use. Attention counts as if nothing were masked, which is the convention of MFU.
    Source: Chowdhery et al. 2022, "PaLM", appendix B.
    """
    D, L, T = config.emb_dim, config.n_layers, config.context_length
    return 6.0 * (L * 12 * D * D + config.vocab_size * D) + 12.0 * L * T * D


def training_memory(config: ModelConfig, batch_size: int) -> float:
    """Bytes that training takes at the most, within a third or so: 16 per parameter (weight, gradient, two moments of
    AdamW) and about 34 per position, width and layer of what the backward pass needs (Korthikanti et al. 2022, table 2,
    without the quadratic term, which SDPA never stores)."""
    activations = 34.0 * batch_size * config.context_length * config.emb_dim * config.n_layers
    return 16.0 * config.n_parameters + activations


def choose_presets(device: str, memory: int, training_tokens: int) -> tuple[str, str, str]:
    """Presets of model and training for a machine and its data, and why."""
    gigabytes = f"{memory / 2**30:.0f} GiB"
    if device == "cpu":
        return "tiny", "cpu", "a CPU trains it in minutes"
    if training_tokens < 100e6:
        return "small", "cpu", f"{training_tokens / 1e6:.1f} million tokens are too few for a larger one"
    if memory < 7 * 2**30:
        return "small", "cpu", f"{gigabytes} are too little for GPT-2"
    return "gpt2_original", "gpu", f"{gigabytes} hold GPT-2 with 124 million parameters"


def fitting_batch(config: ModelConfig, settings: TrainingSettings, memory: int) -> TrainingSettings:
    """Halves the batch and doubles the accumulation until training fits into 0.8 of the memory: a step stays the same."""
    batch_size, accumulation = settings.batch_size, settings.gradient_accumulation_steps
    while batch_size % 2 == 0 and training_memory(config, batch_size) > 0.8 * memory:
        batch_size, accumulation = batch_size // 2, accumulation * 2
    if batch_size != settings.batch_size:
        logger.info(
            f"batch_size: {batch_size} x {accumulation} accumulated, since {memory / 2**30:.0f} GiB hold no more"
        )
    return replace(settings, batch_size=batch_size, gradient_accumulation_steps=accumulation)


@dataclass(frozen=True)
class Request:
    """What was asked for; None means: choose."""

    model_config: str
    training_setting: str
    model_changes: Mapping[str, Any] = field(default_factory=dict)
    training_changes: Mapping[str, Any] = field(default_factory=dict)
    max_steps: int | None = None
    hours: float | None = None
    seed: int = 0
    eval_every: int | None = None
    eval_tokens: int | None = None
    save_every: int | None = None


def settle(
    request: Request,
    model_configs: Presets,
    training_settings: Presets,
    data: DataFolder,
    machine: Machine,
    old: RunConfig | None,
) -> RunConfig:
    """Turns a request into settings. `old` is the run.json that is there already: the length of a run is settled once.
    Raises ConfigError for settings that cannot be."""
    changes = _with_vocabulary(request, model_configs, data)
    model = from_preset(ModelConfig, model_configs, request.model_config, changes)
    training = from_preset(TrainingSettings, training_settings, request.training_setting, request.training_changes)
    if old is not None and old.training.windows_per_step == training.windows_per_step:
        # Begun in these parts, perhaps on a smaller machine: the step is the same.
        batch_size, accumulation = old.training.batch_size, old.training.gradient_accumulation_steps
        training = replace(training, batch_size=batch_size, gradient_accumulation_steps=accumulation)
    elif "batch_size" not in request.training_changes:
        training = fitting_batch(model, training, machine.memory)
    total_steps, length = _length(request, model, training, data, machine, old)
    eval_every = request.eval_every or min(1000, max(1, total_steps // 20))
    return RunConfig(
        model_config=request.model_config,
        training_setting=request.training_setting,
        model=model,
        training=training,
        data=str(data.path),
        data_hash=data.hash,
        total_steps=total_steps,
        length=length,
        seed=request.seed,
        eval_every=eval_every,
        eval_tokens=request.eval_tokens or (20_480 if machine.device == "cpu" else 524_288),
        save_every=request.save_every or eval_every,
        device=machine.device,
        dtype=machine.dtype,
        threads=machine.threads,
        wikigpt_version=__version__,
        torch_version=torch.__version__,
    )


def _with_vocabulary(request: Request, model_configs: Presets, data: DataFolder) -> dict[str, Any]:
    """The asked changes, with the vocabulary of the data's tokenizer, which a model must have."""
    asked = request.model_changes.get("vocab_size", data.vocab_size)
    if asked != data.vocab_size:
        raise ConfigError(
            f"--vocab_size {asked} does not match the tokenizer of {data.path}, which has {data.vocab_size} ids.",
            "Leave the flag out, or prepare data with --vocab_size.",
        )
    preset = model_configs.get(request.model_config, {}).get("vocab_size", data.vocab_size)
    if preset != data.vocab_size:
        logger.info(f"vocab_size: {data.vocab_size:,}, from the data's tokenizer (the preset has {preset:,})")
    return {**request.model_changes, "vocab_size": data.vocab_size}


def _length(
    request: Request,
    model: ModelConfig,
    training: TrainingSettings,
    data: DataFolder,
    machine: Machine,
    old: RunConfig | None,
) -> tuple[int, str]:
    """Optimiser steps and, in words, what they come from."""
    if request.max_steps is not None and request.hours is not None:
        raise ConfigError("--max_steps and --hours were both given.", "Give one of them.")
    for name, value in (("max_steps", request.max_steps), ("hours", request.hours)):
        if value is not None and value <= 0:
            raise ConfigError(f"{name} is {value}.", "Give a number above 0.")
    batches = TrainingBatches(data, model.context_length, training.windows_per_step, request.seed)
    if request.max_steps is not None:
        return request.max_steps, f"{request.max_steps:,} steps"
    length = f"{request.hours:g} hours" if request.hours is not None else f"{training.num_epochs:g} epochs"
    if old is not None and old.length == length:
        return old.total_steps, length
    if request.hours is None:
        return max(1, math.ceil(training.num_epochs * batches.windows / training.windows_per_step)), length
    seconds = _seconds_per_step(model, training, batches, machine)
    logger.info(f"one step takes {seconds:.3f} s here; --hours {request.hours:g} is timed once and then fixed")
    return max(1, int(request.hours * 3600 * TRAINING_SHARE / seconds)), length


TRAINING_SHARE = 0.93  # of the time given with --hours; the rest is for evaluation, samples and checkpoints


def _seconds_per_step(
    model: ModelConfig, training: TrainingSettings, batches: TrainingBatches, machine: Machine
) -> float:
    """Median of a few seconds of steps on a model that is thrown away."""
    trial = GPTModel(model).to(machine.device)
    optimizer, scaler = make_optimizer(trial, training), torch.amp.GradScaler(machine.device, enabled=False)
    times: list[float] = []
    while sum(times) < 5.0 or len(times) < 3:
        start = time.perf_counter()
        training_step(trial, optimizer, scaler, batches[len(times)], training, machine)
        synchronize(machine.device)
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[len(times) // 2 - 1]


def check_same_run(old: RunConfig, new: RunConfig, run: Path) -> None:
    """Raises RunError naming every setting in which a run that is to be continued differs. Another device, precision or
    version may continue it, and is said."""
    free = ("device:", "dtype:", "threads:", "torch_version:", "wikigpt_version:")
    changed = differences(old, new)
    for change in changed:
        if change.startswith(free):
            logger.warning(f"continuing with another {change}")
    if blocking := [change for change in changed if not change.startswith(free)]:
        problem = f"The run {run} was started with other settings ({'; '.join(blocking)})."
        raise RunError(problem, "Give the old ones, add --fresh to start over, or --run NAME for another run.")
