"""What a run will be, before it starts: its settings, its length, and what it costs.

flags and presets ──> settle() ──> RunConfig (run.json)
"""

import math
import shutil
import statistics
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import torch
from loguru import logger

from wikigpt import __version__
from wikigpt.backend import as_written, use_backend
from wikigpt.config import TRAINING_SETTINGS, ModelConfig, RunConfig, TrainingSettings, differences, from_preset
from wikigpt.data.loader import TrainingBatches
from wikigpt.data.shards import Data
from wikigpt.errors import ConfigError, RunError, out_of_memory
from wikigpt.evaluate import evaluate_split
from wikigpt.generate import Sampling, generate_ids
from wikigpt.hardware import Machine, forget_used_memory, synchronize, used_memory
from wikigpt.optim import BatchTooLarge, make_optimizer, training_step
from wikigpt.transformer import GPTModel

Presets = Mapping[str, Mapping[str, Any]]


def flops_per_token(config: ModelConfig) -> float:
    """FLOPs to train on one token, forward and backward.

    Six per weight of a matrix (the head is one, embeddings are look-ups and cost nothing), and 12 * L * T * H * K for
    attention scores and their use. Attention counts as if nothing were masked, which is the convention of MFU.
    Source: Chowdhery et al. 2022, "PaLM", appendix B.
    """
    attention = config.n_layers * config.context_length * config.n_heads * config.head_dim
    return 6.0 * config.n_matrix_parameters + 12.0 * attention


def training_memory(config: ModelConfig, batch_size: int) -> float:
    """Bytes that training takes at the most, within a third or so: 16 per parameter (weight, gradient, two moments of
    AdamW) and about 34 per position, width and layer of what the backward pass needs (Korthikanti et al. 2022, table 2,
    without the quadratic term, which SDPA never stores). A modern layer keeps about 70: norms of heads, turned heads, a gate
    (counted with torch's hooks for saved tensors)."""
    kept = 34.0 if config.arch == "gpt2" else 70.0
    activations = kept * batch_size * config.context_length * config.emb_dim * config.n_layers
    return 16.0 * config.n_parameters + activations


def choose_model(device: str, memory: int, training_tokens: int) -> tuple[str, str]:
    """The model preset that suits a machine and its data, and why."""
    gigabytes = f"{memory / 2**30:.0f} GiB"
    if device == "cpu":
        return "modern_tiny", "a CPU trains it in minutes"
    if training_tokens < MUCH_TEXT:
        return "modern_small", f"{training_tokens / 1e6:.1f} million tokens are too few for a larger one"
    if memory < 7 * 2**30:
        return "modern_small", f"{gigabytes} are too little for a larger one"
    return "modern_124m", f"{gigabytes} hold one with 124 million parameters"


def choose_training(name: str, model: ModelConfig, device: str, training_tokens: int) -> tuple[str, str]:
    """The training preset that suits a model, its machine and its data, and why."""
    if model.n_parameters < 30e6:
        return "small_models", "the model has less than 30 million parameters"
    if device == "cpu" or training_tokens < MUCH_TEXT:
        return "fast", "the steps of larger ones are too large for a CPU or so little text"
    if name in TRAINING_SETTINGS:
        return name, "it is made for that model"
    return "large_models", "the model has 30 million parameters or more"


MUCH_TEXT = 100e6  # tokens


def fitting_batch(
    config: ModelConfig, settings: TrainingSettings, data: Data, machine: Machine, seed: int
) -> TrainingSettings:
    """Cuts a step into the largest equal parts that fit: on a card found by trying, on a CPU, where a process that takes too
    much is killed, by `training_memory`, and not above the preset's. A step stays the same. Raises ConfigError where not
    even a single window fits on a card."""
    windows = settings.windows_per_step
    most = settings.batch_size if machine.device == "cpu" else max(1, LARGE // config.context_length)
    sizes = [size for size in range(min(most, windows), 0, -1) if windows % size == 0]
    allowed = 2 if machine.device == "cuda" else 0.8  # of its memory: other devices swap what is too much
    likely = [size for size in sizes if training_memory(config, size) < allowed * machine.memory]
    if machine.device == "cpu":
        batch_size = max(likely, default=1)
    else:
        batch_size = next((size for size in likely if _fits(config, settings, size, data, machine, seed)), 0)
    if batch_size == 0:
        problem = f"Not even one window of {config.context_length} tokens fits into {machine.memory / 2**30:.0f} GiB."
        raise ConfigError(problem, "Take a smaller --context_length or model.")
    if batch_size != settings.batch_size:
        reason = f"what {machine.memory / 2**30:.0f} GiB hold; --batch_size is another"
        logger.info(f"batch_size: {batch_size} x {windows // batch_size} accumulated, {reason}")
    return replace(settings, batch_size=batch_size, gradient_accumulation_steps=windows // batch_size)


LARGE = 2**17  # tokens of a forward pass; more at once are no faster on any card


def _fits(
    config: ModelConfig, settings: TrainingSettings, batch_size: int, data: Data, machine: Machine, seed: int
) -> bool:
    """Tries two steps of two parts each, so that gradients and moments are there already when a part is in memory."""
    two = replace(settings, batch_size=batch_size, gradient_accumulation_steps=2)
    plain = replace(machine, backend="plain")  # which takes most
    try:
        batches = TrainingBatches(data, config.context_length, two.windows_per_step, seed)
        used = Trial(config, two, batches, plain).memory_of_two_steps()
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        used = 1 << 62
    except BatchTooLarge:
        used = 1 << 62
    forget_used_memory(machine.device)
    return used < 0.9 * machine.memory


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
    sized = "batch_size" in request.training_changes or not request.auto_batch
    if old is not None and old.training.windows_per_step == training.windows_per_step and not sized:
        # Begun in these parts, perhaps on a smaller machine: the step is the same.
        batch_size, accumulation = old.training.batch_size, old.training.gradient_accumulation_steps
        training = replace(training, batch_size=batch_size, gradient_accumulation_steps=accumulation)
    elif not sized:
        training = fitting_batch(model, training, data, machine, seed)
    eval_tokens = request.eval_tokens or (old.eval_tokens if old is not None else EVAL_TOKENS[machine.device])
    total_steps, length = _length(request, model, training, data, machine, old, seed, eval_tokens)
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
        wikigpt_commit=own_commit(),
    )


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


TIMING_SECONDS = 5.0  # of steps, from which --hours follows
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
    machine: Machine,
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
    trial = Trial(model, training, batches, machine)
    step, pauses = trial.seconds_per_step(), trial.seconds_of_pauses(data, eval_tokens)
    logger.info(f"a step takes {step:.3f} s here; --hours {request.hours:g} is timed this once and then fixed")
    return max(1, int(max(request.hours * 3600 - pauses, request.hours * 1800) / step)), length


class Trial:
    """A model that is thrown away, to see what training it costs."""

    def __init__(
        self, model: ModelConfig, training: TrainingSettings, batches: TrainingBatches, machine: Machine
    ) -> None:
        self.model = GPTModel(model).to(machine.device)
        use_backend(self.model, machine)
        self.training, self.batches, self.machine = training, batches, machine
        self.optimizer = make_optimizer(self.model, training, machine.dtype)
        self.scaler = torch.amp.GradScaler(machine.device, enabled=False)

    def step(self, number: int) -> None:
        training_step(self.model, self.optimizer, self.scaler, self.batches[number], self.training, self.machine)
        synchronize(self.machine.device)

    def memory_of_two_steps(self) -> int:
        """Bytes in use at the most. Raises BatchTooLarge."""
        self.step(0)
        self.step(1)
        return used_memory(self.machine.device)

    def seconds_per_step(self) -> float:
        """Median of a few seconds of steps."""
        times: list[float] = []
        while sum(times) < TIMING_SECONDS or len(times) < 3:
            start = time.perf_counter()
            self.step(len(times))
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:])

    def seconds_of_pauses(self, data: Data, eval_tokens: int) -> float:
        """What all evaluations and samples of a run take: about 20 evaluations and the last one over more; samples at steps
        0, 1, 2, 4, ..., 4,096."""
        start = time.perf_counter()
        evaluate_split(
            self.model, data, "validation", np.ones(data.vocab_size, np.int64), self.machine, max_tokens=eval_tokens
        )
        evaluated = time.perf_counter()
        self.model.eval()
        with as_written(self.machine):
            sum(1 for _ in generate_ids(self.model, [0], -1, Sampling(max_gen=60)))
        evaluation, sample = evaluated - start, 5 * (time.perf_counter() - evaluated)
        return 22 * evaluation + 14 * sample

    def profile(self, path: Path) -> str:
        """Writes a trace of three steps, after three to warm up, for Perfetto (ui.perfetto.dev) or chrome://tracing.
        Returns the table of the ten dearest operations."""
        for number in range(3):
            self.step(number)
        with torch.profiler.profile() as profiler:
            for number in range(3, 6):
                self.step(number)
        path.unlink(missing_ok=True)
        profiler.export_chrome_trace(str(path))
        by = "self_device_time_total" if self.machine.device == "cuda" else "self_cpu_time_total"
        return str(profiler.key_averages().table(sort_by=by, row_limit=10, max_name_column_width=40))


def check_same_run(old: RunConfig, new: RunConfig, run: Path, step: int) -> None:
    """Raises RunError where a run, now at `step`, cannot go on with other settings, naming each. Learning rate and length
    may change as long as that still changes something; another device, precision or version is said."""
    said = {"learning_rate", "matrix_learning_rate", "total_steps", "data", "device", "hardware", "dtype", "threads"}
    said |= {"backend", "torch_version", "wikigpt_version", "wikigpt_commit"}
    unsaid = {"length", "num_epochs", "eval_every", "eval_tokens", "save_every", "keep_every", "init_from", "source"}
    unsaid |= {"init_source", "tokens_per_parameter"}
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
