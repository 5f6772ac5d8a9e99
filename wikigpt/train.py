"""THE loop, and what it is told before it starts.

settle()  flags and presets ──> RunConfig (run.json)
train()   batch ──> model ──> loss ──> backward ──> clip ──> step ──> one row in metrics.jsonl
"""

import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow.parquet as pq
import torch
from loguru import logger

from wikigpt import __version__
from wikigpt import tokenizer as tokenizers
from wikigpt.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from wikigpt.config import ModelConfig, RunConfig, TrainingSettings, differences, from_preset
from wikigpt.data.article import prompt
from wikigpt.data.loader import Batch, TrainingBatches
from wikigpt.data.shards import DataFolder
from wikigpt.errors import ConfigError, RunError
from wikigpt.evaluate import bigram_score, evaluate_split, words
from wikigpt.generate import Sampling, generate_text
from wikigpt.hardware import Machine, synchronize, used_memory
from wikigpt.metrics import LiveView, MetricsLog, plot_loss, read_metrics
from wikigpt.optim import learning_rate_at, make_optimizer
from wikigpt.plan import fitting_batch, flops_per_token
from wikigpt.tokenizer import Tokenizer
from wikigpt.transformer import GPTModel


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
    model_configs: Mapping[str, Mapping[str, Any]],
    training_settings: Mapping[str, Mapping[str, Any]],
    data: DataFolder,
    machine: Machine,
    old: RunConfig | None,
) -> RunConfig:
    """Turns a request into settings. `old` is the run.json that is there already: the
    length of a run is settled once. Raises ConfigError for settings that cannot be."""
    changes = _with_vocabulary(request, model_configs, data)
    model = from_preset(ModelConfig, model_configs, request.model_config, changes)
    training = from_preset(TrainingSettings, training_settings, request.training_setting, request.training_changes)
    if "batch_size" not in request.training_changes:
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


def _with_vocabulary(
    request: Request, model_configs: Mapping[str, Mapping[str, Any]], data: DataFolder
) -> dict[str, Any]:
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
    windows = training.batch_size * training.gradient_accumulation_steps
    per_epoch = TrainingBatches(data, model.context_length, windows, request.seed).windows
    if request.max_steps is not None:
        return request.max_steps, f"{request.max_steps:,} steps"
    length = f"{request.hours:g} hours" if request.hours is not None else f"{training.num_epochs:g} epochs"
    if old is not None and old.length == length:
        return old.total_steps, length
    if request.hours is None:
        return max(1, math.ceil(training.num_epochs * per_epoch / windows)), length
    seconds = _seconds_per_step(model, training, data, machine)
    logger.info(f"one step takes {seconds:.3f} s here; --hours {request.hours:g} is timed once and then fixed")
    return max(1, int(request.hours * 3600 * TRAINING_SHARE / seconds)), length


TRAINING_SHARE = 0.93  # of the time given with --hours; the rest is for evaluation, samples and checkpoints


def _seconds_per_step(model: ModelConfig, training: TrainingSettings, data: DataFolder, machine: Machine) -> float:
    """Median of a few seconds of steps on a model that is thrown away."""
    trial = GPTModel(model).to(machine.device)
    optimizer, scaler = make_optimizer(trial, training), torch.amp.GradScaler(machine.device, enabled=False)
    accumulation = training.gradient_accumulation_steps
    batches = TrainingBatches(data, model.context_length, training.batch_size * accumulation, seed=0)
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


def train(config: RunConfig, data: DataFolder, run: Path, machine: Machine) -> bool:
    """Trains a run from its newest checkpoint, or from the beginning, to its end. Returns False where it was asked to stop
    (Ctrl-C, SIGTERM) and saved before the end."""
    training = config.training
    torch.manual_seed(config.seed)
    model = GPTModel(config.model).to(machine.device)
    optimizer = make_optimizer(model, training)
    scaler = torch.amp.GradScaler(machine.device, enabled=machine.dtype == "float16")
    checkpoint = newest_checkpoint(run)
    first = step = load_checkpoint(checkpoint, model, optimizer, scaler, machine.device) if checkpoint else 0
    windows = training.batch_size * training.gradient_accumulation_steps
    batches = TrainingBatches(data, config.model.context_length, windows, config.seed)
    tokens_per_step = windows * config.model.context_length
    report = Report(config, data, run, machine, step)

    with report.view, stop_signals() as stop:
        while True:
            last, moved = step == config.total_steps, step > first or first == 0
            if moved and (step % config.eval_every == 0 or last):
                report.validate(model, step)
            if moved and (step & (step - 1) == 0 or last):
                report.sample(model, step)
            if step > first and (step % config.save_every == 0 or last or stop.asked):
                save_checkpoint(run, step, model, optimizer, scaler, machine.device)
            if last or stop.asked:
                break

            start = time.perf_counter()
            batch = batches[step]
            data_seconds = time.perf_counter() - start
            learning_rate = learning_rate_at(step, config.total_steps, training)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            loss, grad_norm = training_step(model, optimizer, scaler, batch, training, machine)
            synchronize(machine.device)
            if not math.isfinite(loss):
                fix = "Lower --learning_rate, or take --dtype float32; the newest checkpoint is from before."
                raise RunError(f"The loss is {loss} at step {step + 1}.", fix)
            step += 1
            report.step(
                step, tokens_per_step, time.perf_counter() - start, loss, learning_rate, grad_norm, data_seconds
            )

    return report.finish(model, step)


class Report:
    """Everything that a run says while it trains: rows, samples, and the figures at its end."""

    def __init__(self, config: RunConfig, data: DataFolder, run: Path, machine: Machine, step: int) -> None:
        self.config, self.data, self.run, self.machine = config, data, run, machine
        self.tokenizer: Tokenizer = tokenizers.load(run / "tokenizer")
        self.token_bytes = self.tokenizer.token_bytes
        self.titles = sample_titles(data)
        self.log = MetricsLog(run)
        self.view = LiveView(config.total_steps, step)
        self.first, self.began = step, time.perf_counter()
        before = [row["seconds"] for row in read_metrics(run, "train") if row["step"] <= step]
        self.seconds = before[-1] if before else 0.0
        self.flops = flops_per_token(config.model)

    def step(
        self,
        step: int,
        tokens: int,
        seconds: float,
        loss: float,
        learning_rate: float,
        grad_norm: float,
        data_seconds: float,
    ) -> None:
        self.seconds += seconds
        row = {
            "step": step,
            "tokens": step * tokens,
            "flops": step * tokens * self.flops,
            "seconds": self.seconds,
            "loss": loss,
            "learning_rate": learning_rate,
            "grad_norm": grad_norm,
            "tokens_per_second": tokens / seconds,
            "mfu": tokens * self.flops / seconds / self.machine.peak_flops,
            "memory": used_memory(self.machine.device),
            "data_seconds": data_seconds,
        }
        self.log.write("train", **row)
        self.view.train(row, (time.perf_counter() - self.began) / (step - self.first))

    def validate(self, model: GPTModel, step: int) -> None:
        score = evaluate_split(model, self.data, "validation", self.token_bytes, self.machine, self.config.eval_tokens)
        row = self._position(step) | {"part": f"validation, first {score.tokens:,} tokens"} | score.row()
        self.log.write("validation", **row)
        self.view.validated(row)

    def sample(self, model: GPTModel, step: int) -> None:
        """Appends an article for each of the five titles to samples.md."""
        model.eval()
        with open(self.run / "samples.md", "a", encoding="utf-8") as file:
            file.write(f"\n## Step {step:,}\n")
            for title in self.titles:
                text = "".join(generate_text(model, self.tokenizer, prompt(title), SAMPLING))
                file.write(f"\n**{title}**\n\n" + "".join(f"> {line}\n" for line in text.splitlines() or [""]))
        model.train()

    def finish(self, model: GPTModel, step: int) -> bool:
        """Figures over the whole validation split beside the bigram's, and the plot."""
        bigram = None
        if finished := step == self.config.total_steps:
            score = evaluate_split(model, self.data, "validation", self.token_bytes, self.machine)
            bigram = bigram_score(self.data, "validation", self.token_bytes)
            row = self._position(step) | {"part": f"validation, all {score.tokens:,} tokens"} | score.row()
            self.log.write("final", **row, bigram_bits_per_byte=bigram.bits_per_byte)
            logger.info(words(score, bigram))
        self.log.close()
        title = f"{self.run.name}: {self.config.model.n_parameters / 1e6:.1f} million parameters"
        plot_loss(self.run, title, bigram.bits_per_byte if bigram else None)
        return finished

    def _position(self, step: int) -> dict[str, Any]:
        training = self.config.training
        windows = training.batch_size * training.gradient_accumulation_steps
        return {"step": step, "tokens": step * windows * self.config.model.context_length}


SAMPLING = Sampling(max_gen=60, temperature=0.8, top_k=50, seed=0)


def sample_titles(data: DataFolder, number: int = 5) -> list[str]:
    """The first titles of the validation split: in the data's own language, and never trained on."""
    table = pq.read_table(data.path / "articles.parquet", columns=["title"], filters=[("split", "=", "validation")])
    return [str(title) for title in table.column("title").to_pylist()[:number]]


class Stop:
    """Whether someone asked the run to stop."""

    asked = False


@contextmanager
def stop_signals() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM ask to stop after the current step; a second Ctrl-C stops at once."""
    stop = Stop()

    def ask(number: int, _: FrameType | None) -> None:
        if stop.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.asked = True
        logger.warning("stopping after this step, then saving; once more to stop at once")

    old = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
