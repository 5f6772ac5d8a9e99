"""What a run will be, before it starts: its settings, its length, and what it costs.

flags and presets ──> settle() ──> RunConfig (run.json)
"""

import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loguru import logger

from wikigpt import __version__
from wikigpt.config import ModelConfig, RunConfig, TrainingSettings, differences, from_preset
from wikigpt.data.loader import TrainingBatches
from wikigpt.data.shards import DataFolder
from wikigpt.errors import ConfigError, RunError
from wikigpt.evaluate import evaluate_split
from wikigpt.generate import Sampling, generate_ids
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


def choose_model(device: str, memory: int, training_tokens: int) -> tuple[str, str]:
    """The model preset that suits a machine and its data, and why."""
    gigabytes = f"{memory / 2**30:.0f} GiB"
    if device == "cpu":
        return "tiny", "a CPU trains it in minutes"
    if training_tokens < MUCH_TEXT:
        return "small", f"{training_tokens / 1e6:.1f} million tokens are too few for a larger one"
    if memory < 7 * 2**30:
        return "small", f"{gigabytes} are too little for GPT-2"
    return "gpt2_original", f"{gigabytes} hold GPT-2 with 124 million parameters"


def choose_training(model: ModelConfig, device: str, training_tokens: int) -> tuple[str, str]:
    """The training preset that suits a model, its machine and its data, and why."""
    if model.n_parameters < 30e6:
        return "small_models", "the model has less than 30 million parameters"
    if device == "cpu" or training_tokens < MUCH_TEXT:
        return "fast", "half a million tokens a step are too many for a CPU or so little text"
    return "large_models", "the model has 30 million parameters or more"


MUCH_TEXT = 100e6  # tokens


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
    """What was asked for: two presets, what changes in them, and numbers, of which None means: choose."""

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
    _check_numbers(request)
    changes = _with_vocabulary(request, model_configs, data)
    model = from_preset(ModelConfig, model_configs, request.model_config, changes)
    training = from_preset(TrainingSettings, training_settings, request.training_setting, request.training_changes)
    sized = "batch_size" in request.training_changes
    if old is not None and old.training.windows_per_step == training.windows_per_step and not sized:
        # Begun in these parts, perhaps on a smaller machine: the step is the same.
        batch_size, accumulation = old.training.batch_size, old.training.gradient_accumulation_steps
        training = replace(training, batch_size=batch_size, gradient_accumulation_steps=accumulation)
    elif not sized:
        training = fitting_batch(model, training, machine.memory)
    chosen = old.eval_tokens if old is not None else 20_480 if machine.device == "cpu" else 524_288
    eval_tokens = request.eval_tokens or chosen
    total_steps, length = _length(request, model, training, data, machine, old, eval_tokens)
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
        eval_tokens=eval_tokens,
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


def _check_numbers(request: Request) -> None:
    """Raises ConfigError for a number that cannot be, or two lengths at once."""
    for name in ("max_steps", "hours", "eval_every", "eval_tokens", "save_every"):
        value = getattr(request, name)
        if value is not None and value <= 0:
            raise ConfigError(f"{name} is {value}.", "Give a number above 0.")
    if request.seed < 0:
        raise ConfigError(f"seed is {request.seed}.", "Give 0 or more.")
    lengths = {
        "max_steps": request.max_steps,
        "hours": request.hours,
        "num_epochs": request.training_changes.get("num_epochs"),
    }
    if len(given := [f"--{name}" for name, value in lengths.items() if value is not None]) > 1:
        raise ConfigError(f"{' and '.join(given)} were given together.", "Give one of them.")


def _length(
    request: Request,
    model: ModelConfig,
    training: TrainingSettings,
    data: DataFolder,
    machine: Machine,
    old: RunConfig | None,
    eval_tokens: int,
) -> tuple[int, str]:
    """Optimiser steps and, in words, what they come from."""
    batches = TrainingBatches(data, model.context_length, training.windows_per_step, request.seed)
    if request.max_steps is not None:
        return request.max_steps, f"{request.max_steps:,} steps"
    length = f"{request.hours:g} hours" if request.hours is not None else f"{training.num_epochs:g} epochs"
    if old is not None and old.length == length:
        return old.total_steps, length
    if request.hours is None:
        return max(1, math.ceil(training.num_epochs * batches.windows / training.windows_per_step)), length
    step, pauses = _timing(model, training, batches, data, machine, eval_tokens)
    logger.info(f"a step takes {step:.3f} s here; --hours {request.hours:g} is timed this once and then fixed")
    return max(1, int(max(request.hours * 3600 - pauses, request.hours * 1800) / step)), length


def _timing(
    model: ModelConfig,
    training: TrainingSettings,
    batches: TrainingBatches,
    data: DataFolder,
    machine: Machine,
    eval_tokens: int,
) -> tuple[float, float]:
    """Seconds of a step (median of a few seconds of them), and of all evaluations and samples of a run, measured on a
    model that is thrown away."""
    trial = GPTModel(model).to(machine.device)
    optimizer, scaler = make_optimizer(trial, training), torch.amp.GradScaler(machine.device, enabled=False)
    times: list[float] = []
    while sum(times) < 5.0 or len(times) < 3:
        start = time.perf_counter()
        training_step(trial, optimizer, scaler, batches[len(times)], training, machine)
        synchronize(machine.device)
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    evaluate_split(trial, data, "validation", np.ones(model.vocab_size, np.int64), machine, eval_tokens)
    evaluated = time.perf_counter()
    trial.eval()
    sum(1 for _ in generate_ids(trial, [0], -1, Sampling(max_gen=60)))
    evaluation, sample = evaluated - start, 5 * (time.perf_counter() - evaluated)
    # About 20 evaluations and the last one over more; samples at steps 0, 1, 2, 4, ..., 4,096.
    return statistics.median(times[1:]), 22 * evaluation + 14 * sample


def check_same_run(old: RunConfig, new: RunConfig, run: Path) -> None:
    """Raises RunError naming every setting in which a run that is to be continued differs. Another device, precision or
    version may continue it, and is said."""
    free = ("data:", "device:", "dtype:", "threads:", "torch_version:", "wikigpt_version:")
    changed = differences(old, new)
    for change in changed:
        if change.startswith(free):
            logger.warning(f"continuing with another {change}")
    if blocking := [change for change in changed if not change.startswith(free)]:
        problem = f"The run {run} was started with other settings ({'; '.join(blocking)})."
        raise RunError(problem, "Give the old ones, add --fresh to start over, or --run NAME for another run.")
