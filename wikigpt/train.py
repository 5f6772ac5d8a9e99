"""THE loop, and what it says while it runs.

batch ──> model ──> loss ──> backward ──> clip ──> step ──> one row in metrics.jsonl
"""

import math
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from types import FrameType

import numpy as np
import pyarrow.parquet as pq
import torch
from loguru import logger
from torch import Tensor

from wikigpt import tokenizer as tokenizers
from wikigpt.backend import as_written, training_net
from wikigpt.checkpoint import fill, go_on_from, load_checkpoint, newest_checkpoint, save_checkpoint
from wikigpt.config import RunConfig, flat, write_text
from wikigpt.data.article import prompt
from wikigpt.data.loader import TrainingBatches
from wikigpt.data.shards import Data, DataFolder
from wikigpt.errors import RunError
from wikigpt.evaluate import Score, bigram_score, evaluate_split, words
from wikigpt.generate import Sampling, generate_text
from wikigpt.hardware import Machine, UnderWay, forget_used_memory, used_memory
from wikigpt.metrics import LiveView, MetricsLog, plot_loss, read_metrics
from wikigpt.optim import (
    BatchTooLarge,
    half_at_once,
    make_optimizer,
    set_rates,
    stable_steps,
    training_step,
    windows_at_once,
)  # fmt: skip
from wikigpt.parallel import World
from wikigpt.plan import flops_per_token
from wikigpt.tokenizer import Tokenizer
from wikigpt.trackers import open_tracker
from wikigpt.transformer import GPTModel


def train(config: RunConfig, data: Data, run: Path, machine: Machine, weights: dict[str, Tensor] | None = None) -> bool:
    """Trains a run from its newest checkpoint to its end; from `weights` (from random ones where None) where it has no
    checkpoint. Returns False where it was asked to stop (Ctrl-C, SIGTERM) and saved before the end. Of several ranks all
    come here at once; the first has `weights` and writes."""
    world = machine.world
    torch.manual_seed(config.seed)
    model = GPTModel(config.model)
    if config.training.zero_init:
        model.initialise(zero_projections=True)
    net = training_net(model, machine, config.parallel, config.activation_checkpointing)
    optimizer = make_optimizer(model, config.training, machine.dtype, world)
    scaler = torch.amp.GradScaler(machine.device, enabled=machine.dtype == "float16")
    first = step = 0
    if checkpoint := world.from_first(lambda: newest_checkpoint(run)):
        first = step = load_checkpoint(checkpoint, model, optimizer, scaler, world)
        if world.first:
            go_on_from(run, config, checkpoint)
    elif world.from_first(lambda: weights is not None):
        fill(model, weights or {}, str(config.init_from), world)
    batches = TrainingBatches(data, config.model.context_length, config.training.windows_per_step, config.seed)
    report = Report(config, data, run, machine, step)

    with report.view, signals() as asked:
        while True:
            last, moved, validation_loss = step == config.total_steps, step > first or first == 0, None
            stopping, saving = world.any(asked.to_stop, asked.to_save)  # as of now: a signal may come at any line
            if moved and (step % config.eval_every == 0 or last):
                validation_loss = report.validate(model, step)
            if moved and (step & (step - 1) == 0 or last):
                report.sample(model, step)
            if step > first and (save_due(step, config) or saving or stopping):
                with report.pause("saving"):
                    save_checkpoint(run, config, step, model, optimizer, scaler, validation_loss, world)
                asked.to_save = asked.to_save and not saving
            if last or stopping:
                break

            under_way, start = UnderWay(machine.device), time.perf_counter()
            batch = batches.share(step, world.rank, world.size)
            data_seconds = time.perf_counter() - start
            learning_rate = set_rates(optimizer, step, config.total_steps, config.training)
            while True:
                seed_dropout(config.seed, step, world.rank)
                try:
                    figures = training_step(net, optimizer, scaler, batch, config.training, machine)
                    break
                except BatchTooLarge as error:
                    config = in_smaller_parts(config, run, error, world)
            under_way.send(figures)
            step += 1
            report.step(step, under_way, learning_rate=learning_rate, data_seconds=data_seconds)

    return report.finish(model, step)


def seed_dropout(seed: int, step: int, rank: int) -> None:
    """What dropout draws depends on nothing before this step, so that a resumed run draws the same."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1)))


def save_due(step: int, config: RunConfig) -> bool:
    """Whether a checkpoint is written after so many steps. (Of a wsd run also the last before the learning rate falls.)"""
    regular = step % config.save_every == 0 or (config.keep_every is not None and step % config.keep_every == 0)
    return regular or step in (config.total_steps, stable_steps(config.total_steps, config.training))


def in_smaller_parts(config: RunConfig, run: Path, error: BatchTooLarge, world: World) -> RunConfig:
    """The same steps (but for what dropout draws) with half as much in memory, from now on. Raises the error where a part is
    a single window already."""
    training = config.training
    if windows_at_once(training, world) == 1:
        raise world.alike(error)
    smaller = half_at_once(training, world)
    parts = f"batch_size {smaller.batch_size} x {smaller.gradient_accumulation_steps} accumulated"
    logger.warning(f"out of memory: from here on {parts}, the same steps")
    forget_used_memory(config.device)
    config = replace(config, training=smaller)
    if world.first:
        config.save(run / "run.json")
    return config


DIVERGED = "Start over with a lower --learning_rate (or --matrix_learning_rate), or --dtype float32, and --fresh."


class Report:
    """Everything that a run says while it trains: rows, samples, and the figures at its end. Of several ranks the first says
    it; the others take part in evaluating, and see for themselves whether a loss is a number."""

    def __init__(self, config: RunConfig, data: Data, run: Path, machine: Machine, step: int) -> None:
        self.config, self.data, self.run, self.machine = config, data, run, machine
        self.speaks = machine.world.first
        self.tokenizer: Tokenizer = tokenizers.load(data.path / "tokenizer")
        self.token_bytes = self.tokenizer.token_bytes
        self.titles = sample_titles(data)
        self.view = LiveView(config.total_steps, step, quiet=not self.speaks)
        if self.speaks:
            self.bigram = bigram_score(data, "validation", self.token_bytes, config.eval_tokens)
            tracker = open_tracker(config.log_to, run, flat(asdict(config)), step) if config.log_to else None
            self.log = MetricsLog(run, tracker)
            self.log.write("start", step=step)
            _cut_samples(run / "samples.md", step)
        self.first, self.began = step, 0.0  # began: when the first step did, by the clock
        self.data_seconds, self.pauses = 0.0, {"evaluating": 0.0, "sampling": 0.0, "saving": 0.0}
        self.behind = 1 if machine.device == "cuda" else 0  # steps that the rows may be behind
        self.under_way: list[tuple[int, UnderWay, dict[str, float]]] = []
        rows = read_metrics(run, "train") if self.speaks else []
        before = [row["seconds"] for row in rows if row["step"] <= step]
        self.seconds = self.before = before[-1] if before else 0.0
        self.flops = flops_per_token(config.model)

    def step(self, step: int, under_way: UnderWay, **known: float) -> None:
        """Takes note of a step that may still be under way on a card: its row is written when the next one is on its way
        too, so that the card never waits for this program."""
        if step == self.first + 1:
            self.began = time.perf_counter()
        self.under_way.append((step, under_way, known))
        if len(self.under_way) > self.behind:
            self._write_row(*self.under_way.pop(0))

    @contextmanager
    def pause(self, doing: str) -> Iterator[None]:
        """Something other than steps, and how long it takes."""
        self.wait()
        start = time.perf_counter()
        yield
        self.pauses[doing] += time.perf_counter() - start

    def wait(self) -> None:
        """Writes the rows that are still to come. Raises RunError where a loss or gradient is no number."""
        while self.under_way:
            self._write_row(*self.under_way.pop(0))

    def _write_row(self, step: int, under_way: UnderWay, known: dict[str, float]) -> None:
        """Writes and shows a training row: what the loop measured, and what follows from it. What is no number (the
        gradient of a step that a scaler passed over) becomes null."""
        (loss, grad_norm), seconds = under_way.read()
        # A step with a broken gradient is passed over by a scaler, where there is one.
        if not math.isfinite(loss) or not (math.isfinite(grad_norm) or self.machine.dtype == "float16"):
            problem = f"The loss is {loss} and its gradient {grad_norm} at step {step}."
            raise self.machine.world.alike(RunError(problem, DIVERGED))
        self.seconds += seconds
        self.data_seconds += known["data_seconds"]
        if not self.speaks:
            return
        tokens = self.config.tokens_per_step
        row = {
            "step": step,
            "tokens": step * tokens,
            "flops": step * tokens * self.flops,
            "seconds": self.seconds,
            "loss": loss,
            "grad_norm": grad_norm if math.isfinite(grad_norm) else None,
            **known,
            "data_share": min(1.0, known["data_seconds"] / seconds),
            "tokens_per_second": tokens / seconds,
            "mfu": tokens * self.flops / seconds / self.machine.peak_flops / self.machine.world.size,
            "memory": used_memory(self.machine.device),
        }
        self.log.write("train", **row)
        self.view.train(row, (seconds + time.perf_counter() - self.began) / (step - self.first))

    def validate(self, model: GPTModel, step: int) -> float:
        """Writes and shows a validation row, and returns its loss."""
        with self.pause("evaluating"):
            tokens = self.config.eval_tokens
            score = evaluate_split(model, self.data, "validation", self.token_bytes, self.machine, tokens)
        if not math.isfinite(score.nats):
            problem = f"The validation loss is {score.loss} at step {step}."
            raise self.machine.world.alike(RunError(problem, DIVERGED))
        if not self.speaks:
            return score.loss
        row = self._score_row(step, f"validation, first {score.tokens:,} tokens", score, self.bigram)
        self.log.write("validation", **row)
        self.view.validated(row)
        logger.debug(f"step {step:,}: validation {words(score, self.bigram)}")
        return score.loss

    def sample(self, model: GPTModel, step: int) -> None:
        """Appends an article for each of the five titles to samples.md. Of a model in parts all ranks write, each its own
        part of it, and the first keeps the text."""
        in_parts = self.config.parallel == "fsdp"
        if not (self.speaks or in_parts):
            return
        model.eval()
        texts = []
        with self.pause("sampling"), as_written(self.machine), self.machine.autocast() if in_parts else nullcontext():
            for title in self.titles:
                text = "".join(generate_text(model, self.tokenizer, prompt(title), SAMPLING, to_the_end=in_parts))
                texts.append(f"\n**{title}**\n\n" + "".join(f"> {line}\n" for line in text.splitlines() or [""]))
        model.train()
        if self.speaks:
            with open(self.run / "samples.md", "a", encoding="utf-8") as file:
                file.write(f"\n## Step {step:,}\n" + "".join(texts))

    def finish(self, model: GPTModel, step: int) -> bool:
        """Draws the plot; at the end also scores the whole validation split. Returns whether this was the end."""
        self.wait()
        if finished := step == self.config.total_steps:
            with self.pause("evaluating"):
                score = evaluate_split(model, self.data, "validation", self.token_bytes, self.machine)
        if not self.speaks:
            return finished
        if finished:
            bigram = bigram_score(self.data, "validation", self.token_bytes)
            self.log.write("final", **self._score_row(step, f"validation, all {score.tokens:,} tokens", score, bigram))
            logger.info(f"validation: {words(score, bigram)}")
        steps = self.seconds - self.before
        if steps > 0:
            pauses = ", ".join(f"{seconds:.1f} s {doing}" for doing, seconds in self.pauses.items())
            logger.info(f"time: {steps:.1f} s in steps ({self.data_seconds / steps:.1%} of it for data), {pauses}")
        self.log.close()
        plot_loss(self.run, f"{self.run.name}: {self.config.model.n_parameters / 1e6:.1f} million parameters")
        return finished

    def _score_row(self, step: int, part: str, score: Score, bigram: Score) -> dict[str, float | str]:
        row: dict[str, float | str] = {"step": step, "tokens": step * self.config.tokens_per_step, "part": part}
        return row | score.row() | {"bigram_bits_per_byte": bigram.bits_per_byte}


SAMPLING = Sampling(max_gen=60, temperature=0.8, top_k=50, seed=0)


TITLES = {
    "en": ("Solar eclipse", "Marie Curie", "History of Portugal", "Honey bee", "Moon cheese"),
    "es": ("Eclipse solar", "Marie Curie", "Historia de Portugal", "Abeja", "Queso de luna"),
    "fr": ("Éclipse solaire", "Marie Curie", "Histoire du Portugal", "Abeille", "Fromage de lune"),
}


def sample_titles(data: Data) -> list[str]:
    """Five titles, always the same in a language; in one without any here, the first of the validation split. Of a mixture
    the folders take turns."""
    turns = zip_longest(*(_folder_titles(folder) for folder, _ in data.parts))
    return [title for turn in turns for title in turn if title is not None][:5]


def _folder_titles(data: DataFolder) -> list[str]:
    if data.wiki in TITLES:
        return list(TITLES[data.wiki])
    table = pq.read_table(data.path / "articles.parquet", columns=["title"], filters=[("split", "=", "validation")])
    return [str(title) for title in table.column("title").to_pylist()[:5]]


def _cut_samples(path: Path, step: int) -> None:
    """Takes out what was written after a step, which is about to be written again."""
    if path.exists():
        sections = re.split(r"(?m)^\n(?=## Step )", path.read_text(encoding="utf-8", errors="replace"))
        number = re.compile(r"## Step ([\d,]+)")
        kept = [s for s in sections if not (at := number.match(s)) or int(at[1].replace(",", "")) <= step]
        write_text(path, "\n".join(kept) if step else "")


class Asked:
    """What someone outside wants of the run."""

    to_stop = False
    to_save = False


@contextmanager
def signals() -> Iterator[Asked]:
    """Ctrl-C and SIGTERM ask to save and stop after the current step, SIGUSR1 to save and go on; a second Ctrl-C stops at
    once."""
    asked = Asked()

    def stop(number: int, _: FrameType | None) -> None:
        if asked.to_stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.to_stop = True
        logger.warning("stopping after this step, then saving; Ctrl-C once more to stop at once")

    def save(_: int, __: FrameType | None) -> None:
        asked.to_save = True
        logger.info("saving after this step")

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    if hasattr(signal, "SIGUSR1"):  # not on Windows
        old[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, save)
    try:
        yield asked
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
