"""What a run will be, before it starts: its settings and its length.

flags and presets ──> settle() ──> RunConfig (run.json)
"""

import math
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from loguru import logger

from wikigpt import __version__
from wikigpt.config import PARALLEL, ModelConfig, RunConfig, TrainingSettings, differences, from_preset
from wikigpt.data.loader import TrainingBatches
from wikigpt.data.shards import Data
from wikigpt.errors import ConfigError, RunError
from wikigpt.hardware import Machine, forget_used_memory
from wikigpt.plan import memory
from wikigpt.trackers import check_tracker
from wikigpt.trial import Trial, fitting_batch

Presets = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Request:
    """What was asked for: two presets, what changes in them, and numbers, of which None means: choose."""

    model_config: str
    training_setting: str
    model_changes: Mapping[str, Any] = field(default_factory=dict)
    training_changes: Mapping[str, Any] = field(default_factory=dict)
    max_steps: int | None = None
    hours: float | None = None
    settled: tuple[int, str] | None = None  # steps and, in words, where they come from: of a run that this one is like
    seed: int | None = None
    eval_every: int | None = None
    eval_tokens: int | None = None
    save_every: int | None = None
    keep_every: int | None = None
    auto_batch: bool = True
    parallel: str | None = None
    activation_checkpointing: bool | None = None
    log_to: str | None = None
    init_from: str | None = None
    init_hash: str | None = None
    init_source: list[dict[str, Any]] = field(default_factory=list)


def settle(
    request: Request,
    model_configs: Presets,
    training_settings: Presets,
    data: Data,
    machine: Machine,
    old: RunConfig | None,
) -> RunConfig:
    """Turns a request into settings. `old` is the run.json that is there already, whose answers stand where nothing else is
    asked. Raises ConfigError for settings that cannot be."""
    _check_numbers(request)
    changes = _with_vocabulary(request, model_configs, data)
    model = from_preset(ModelConfig, model_configs, request.model_config, changes)
    asked = request.training_changes
    if "num_epochs" in asked:  # so many, whatever budget the preset has
        asked = {"tokens_per_parameter": 0.0, **asked}
    training = from_preset(TrainingSettings, training_settings, request.training_setting, asked)
    seed = request.seed if request.seed is not None else old.seed if old is not None else 0
    parallel = _parallel(request, model, training, machine, old)
    training, recompute = _parts(request, model, training, data, machine, old, seed, parallel)
    eval_tokens = request.eval_tokens or (old.eval_tokens if old is not None else EVAL_TOKENS[machine.device])

    def trial(batches: TrainingBatches) -> Trial:
        return Trial(model, training, batches, machine, parallel, recompute)

    total_steps, length = _length(request, model, training, data, trial, machine.device, old, seed, eval_tokens)
    eval_every = request.eval_every or _eval_every(total_steps)
    if old is not None and not request.eval_every and old.eval_every != _eval_every(old.total_steps):
        eval_every = old.eval_every  # asked for in its time
    own_pace = old is not None and old.save_every != old.eval_every
    save_every = request.save_every or (old.save_every if old is not None and own_pace else eval_every)
    return RunConfig(
        model_config=request.model_config,
        training_setting=request.training_setting,
        model=model,
        training=training,
        data=data.spec,
        data_hash=data.hash,
        total_steps=total_steps,
        length=length,
        seed=seed,
        eval_every=eval_every,
        eval_tokens=eval_tokens,
        save_every=save_every,
        device=machine.device,
        dtype=machine.dtype,
        threads=machine.threads,
        wikigpt_version=__version__,
        torch_version=torch.__version__,
        tokenizer_hash=data.tokenizer_hash,
        keep_every=request.keep_every or (old.keep_every if old is not None else None),
        init_from=request.init_from or (old.init_from if old is not None else None),
        init_hash=request.init_hash or (old.init_hash if old is not None else None),
        source=[folder.source for folder, _ in data.parts],
        init_source=request.init_source or (old.init_source if old is not None else []),
        hardware=machine.name,
        backend=machine.backend,
        world_size=machine.world.size,
        parallel=parallel,
        activation_checkpointing=recompute,
        log_to=_log_to(request, old),
        wikigpt_commit=own_commit(),
    )


def _parallel(
    request: Request, model: ModelConfig, training: TrainingSettings, machine: Machine, old: RunConfig | None
) -> str:
    """How several ranks share the model: as asked, as before, else in parts where the whole does not fit on a card. Raises
    ConfigError for what cannot be."""
    world, asked = machine.world, request.parallel
    if asked is not None and asked not in PARALLEL:
        raise ConfigError(f"There is no way to train in parallel called {asked!r}.", f"Take {' or '.join(PARALLEL)}.")
    if world.size == 1:
        if asked is not None:
            how = "torchrun --nproc_per_node=N -m wikigpt train ..."
            raise ConfigError(
                f"--parallel {asked} is for several processes, and this is one.", f"Start them with: {how}"
            )
        return ""
    if training.windows_per_step < world.size:
        problem = f"A step has {training.windows_per_step} windows, which {world.size} processes cannot share out."
        raise ConfigError(problem, f"Take --batch_size {world.size} or more, or fewer processes.")
    usual = old.parallel if old is not None and old.world_size == world.size else ""
    needed = memory(
        model, training.in_parts_of(1), machine.dtype, machine.device, world.size, "ddp", recompute=True
    ).total
    fits = needed < 0.9 * machine.memory
    if not fits and not (asked or usual):
        logger.info(f"parallel: fsdp, since {needed / 2**30:.0f} GiB do not fit on one of {machine.memory / 2**30:.0f}")
    how = asked or usual or ("ddp" if fits else "fsdp")
    if how == "fsdp" and machine.dtype == "float16":
        raise ConfigError("fsdp does not train in float16 here.", "Take --parallel ddp, or --dtype float32.")
    return how


def _parts(
    request: Request,
    model: ModelConfig,
    training: TrainingSettings,
    data: Data,
    machine: Machine,
    old: RunConfig | None,
    seed: int,
    parallel: str,
) -> tuple[TrainingSettings, bool]:
    """In what parts each rank does its share of a step, and whether with activation checkpointing: as asked, as before, or
    as memory has it. Raises ConfigError where nothing fits."""
    usual = old is not None and old.world_size == machine.world.size
    recompute = request.activation_checkpointing
    if old is not None and usual and recompute is None:
        recompute = old.activation_checkpointing
    if "batch_size" in request.training_changes or not request.auto_batch:
        return training, bool(recompute)
    if old is not None and usual and old.training.windows_per_step == training.windows_per_step:
        # Begun in these parts, perhaps on a smaller machine: the step is the same.
        batch_size, accumulation = old.training.batch_size, old.training.gradient_accumulation_steps
        return replace(training, batch_size=batch_size, gradient_accumulation_steps=accumulation), bool(recompute)
    for tried in (False, True) if recompute is None else (recompute,):
        if fitting := fitting_batch(model, training, data, machine, seed, parallel, tried):
            if tried and recompute is None:
                logger.info("activation_checkpointing: True, since not even a single window would fit without")
            return fitting, tried
    problem = f"Not even one window of {model.context_length} tokens fits into {machine.memory / 2**30:.0f} GiB."
    raise ConfigError(problem, "Take a smaller --context_length or model, or more cards with --parallel fsdp.")


def _log_to(request: Request, old: RunConfig | None) -> str:
    """The tracker asked for, or that of before; "" for none. Raises ConfigError for one that is not installed."""
    kind = request.log_to if request.log_to is not None else old.log_to if old is not None else "none"
    if kind in ("", "none"):
        return ""
    check_tracker(kind)
    return kind


def own_commit() -> str:
    """The commit of the clone that this package lies in, "+" where files differ from it; "" where it lies in none."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists() or shutil.which("git") is None:
        return ""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "HEAD")
    return commit + ("+" if commit and git("status", "--porcelain", "--untracked-files=no") else "")


EVAL_TOKENS = {"cpu": 20_480, "mps": 524_288, "cuda": 524_288}


def _eval_every(total_steps: int) -> int:
    return min(1000, max(1, total_steps // 20))


def _with_vocabulary(request: Request, model_configs: Presets, data: Data) -> dict[str, Any]:
    """The asked changes, with the vocabulary of the data's tokenizer, which a model must have."""
    asked = request.model_changes.get("vocab_size", data.vocab_size)
    if asked != data.vocab_size:
        raise ConfigError(
            f"--vocab_size {asked} does not match the tokenizer of {data.spec}, which has {data.vocab_size} ids.",
            "Leave the flag out, or prepare data with --vocab_size.",
        )
    preset = model_configs.get(request.model_config, {}).get("vocab_size", data.vocab_size)
    if preset != data.vocab_size:
        logger.info(f"vocab_size: {data.vocab_size:,}, from the data's tokenizer (the preset has {preset:,})")
    return {**request.model_changes, "vocab_size": data.vocab_size}


def _check_numbers(request: Request) -> None:
    """Raises ConfigError for a number that cannot be, or two lengths at once."""
    for name in ("max_steps", "hours", "eval_every", "eval_tokens", "save_every", "keep_every"):
        value = getattr(request, name)
        if value is not None and not 0 < value < math.inf:
            raise ConfigError(f"{name} is {value}.", "Give a number above 0.")
    if request.seed is not None and not 0 <= request.seed < 2**63:
        raise ConfigError(f"seed is {request.seed}.", "Give 0 or more, below 2**63.")
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
    data: Data,
    make_trial: Callable[[TrainingBatches], Trial],
    device: str,
    old: RunConfig | None,
    seed: int,
    eval_tokens: int,
) -> tuple[int, str]:
    """Optimiser steps and, in words, what they come from."""
    batches = TrainingBatches(data, model.context_length, training.windows_per_step, seed)
    if request.max_steps is not None:
        return request.max_steps, f"{request.max_steps:,} steps"
    lengthened = {"num_epochs", "tokens_per_parameter"} & request.training_changes.keys()
    if request.settled is not None and request.hours is None and not lengthened:
        return request.settled
    length = f"{request.hours:g} hours" if request.hours is not None else f"{training.num_epochs:g} epochs"
    if old is not None and old.length == length:
        return old.total_steps, length
    if request.hours is None:
        windows = training.num_epochs * batches.windows
        most = training.tokens_per_parameter * model.n_parameters / model.context_length
        if 0 < most < windows:
            windows, length = most, f"{training.tokens_per_parameter:g} tokens per parameter"
        return max(1, math.ceil(windows / training.windows_per_step)), length
    trial = make_trial(batches)
    step, pauses = trial.seconds_per_step(), trial.seconds_of_pauses(data, eval_tokens)
    del trial
    forget_used_memory(device)
    logger.info(f"a step takes {step:.3f} s here; --hours {request.hours:g} is timed this once and then fixed")
    return max(1, int(max(request.hours * 3600 - pauses, request.hours * 1800) / step)), length


def check_same_run(old: RunConfig, new: RunConfig, run: Path, step: int) -> None:
    """Raises RunError where a run, now at `step`, cannot go on with other settings, naming each. Learning rate and length
    may change as long as that still changes something; another device, precision or version is said."""
    said = {"learning_rate", "matrix_learning_rate", "total_steps", "data", "device", "hardware", "dtype", "threads"}
    said |= {"backend", "world_size", "parallel", "torch_version", "wikigpt_version", "wikigpt_commit"}
    unsaid = {"length", "num_epochs", "eval_every", "eval_tokens", "save_every", "keep_every", "init_from", "source"}
    unsaid |= {"init_source", "tokens_per_parameter", "activation_checkpointing", "log_to"}
    unsaid |= {"model_config", "training_setting"}  # names of presets: what is in them is compared
    if old.training.windows_per_step == new.training.windows_per_step:  # cut in other parts, the same steps
        said |= {"batch_size", "gradient_accumulation_steps"}
    later = ("tokenizer_hash", "hardware", "wikigpt_commit")  # recorded by now, not from the beginning
    old = replace(old, backend=old.backend or "plain")
    known = replace(old, **{name: getattr(old, name) or getattr(new, name) for name in later})
    changed = differences(known, new)
    if blocking := [change for change in changed if change.split(":")[0] not in said | unsaid]:
        problem = f"The run {run} was started with other settings ({'; '.join(blocking)})."
        go_on = f"wikigpt train --run {quote(run.name)}"
        raise RunError(
            problem, f"Go on as it began with: {go_on}, add --fresh to start over, or --run NAME for another run."
        )
    other = "add --fresh to start over, or give another name with --run."
    if new.total_steps < step:
        problem = f"The run {run} is at step {step:,} already, beyond the {new.total_steps:,} asked for."
        raise RunError(problem, f"Ask for more steps, {other}")
    rates = [(c.training.learning_rate, c.training.matrix_learning_rate) for c in (old, new)]
    if step == new.total_steps == old.total_steps and rates[0] != rates[1]:
        problem = f"The run {run} is finished: another learning rate would change nothing."
        raise RunError(problem, f"Ask for more steps, {other}")
    for change in changed:
        if change.split(":")[0] in said:
            logger.warning(f"continuing with another {change}")
