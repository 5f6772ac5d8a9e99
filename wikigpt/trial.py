"""A model that is thrown away, to see what training it costs: how long a step takes, and how much of it fits into memory."""

import statistics
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from loguru import logger

from wikigpt.backend import as_written, training_net
from wikigpt.config import ModelConfig, TrainingSettings
from wikigpt.data.loader import TrainingBatches
from wikigpt.data.shards import Data
from wikigpt.errors import out_of_memory
from wikigpt.evaluate import evaluate_split
from wikigpt.generate import Sampling, generate_ids
from wikigpt.hardware import Machine, forget_used_memory, synchronize, used_memory
from wikigpt.optim import BatchTooLarge, make_optimizer, training_step
from wikigpt.parallel import ALONE, Replicas
from wikigpt.plan import LARGE, memory, sizes_at_once
from wikigpt.transformer import GPTModel

TIMING_SECONDS = 5.0  # of steps, from which --hours follows


class Trial:
    """All ranks of a machine's world try together."""

    def __init__(
        self,
        model: ModelConfig,
        training: TrainingSettings,
        batches: TrainingBatches,
        machine: Machine,
        parallel: str = "",
        recompute: bool = False,
    ) -> None:
        self.model = GPTModel(model)
        self.training, self.batches, self.machine, self.parallel = training, batches, machine, parallel
        self.net = training_net(self.model, machine, parallel, recompute)
        self.optimizer = make_optimizer(self.model, training, machine.dtype, machine.world)
        self.scaler = torch.amp.GradScaler(machine.device, enabled=False)

    def step(self, number: int) -> None:
        batch = self.batches.share(number, self.machine.world.rank, self.machine.world.size)
        training_step(self.net, self.optimizer, self.scaler, batch, self.training, self.machine)
        synchronize(self.machine.device)

    def memory_of_two_steps(self) -> int:
        """Bytes in use at the most. Raises BatchTooLarge."""
        self.step(0)
        self.step(1)
        return used_memory(self.machine.device)

    def seconds_per_step(self) -> float:
        """Median of a few seconds of steps, by the first rank's clock; without the first ones, in which things are built and
        gradients are not yet averaged in passing."""
        times: list[float] = []
        world = self.machine.world
        warm = 1 if world.size == 1 else Replicas.careful_steps + 1
        while world.from_first(lambda: sum(times[warm - 1 :]) < TIMING_SECONDS or len(times) < warm + 2):
            start = time.perf_counter()
            self.step(len(times))
            times.append(time.perf_counter() - start)
        return world.from_first(lambda: statistics.median(times[warm:]))

    def seconds_of_pauses(self, data: Data, eval_tokens: int) -> float:
        """What all evaluations and samples of a run take: about 20 evaluations and the last one over more; samples at steps
        0, 1, 2, 4, ..., 4,096."""
        start = time.perf_counter()
        evaluate_split(
            self.model, data, "validation", np.ones(data.vocab_size, np.int64), self.machine, max_tokens=eval_tokens
        )
        evaluated = time.perf_counter()
        self.model.eval()
        with as_written(self.machine), self.machine.autocast() if self.parallel == "fsdp" else nullcontext():
            sum(1 for _ in generate_ids(self.model, [0], -1, Sampling(max_gen=60)))
        evaluation, sample = evaluated - start, 5 * (time.perf_counter() - evaluated)
        return self.machine.world.from_first(lambda: 22 * evaluation + 14 * sample)

    def profile(self, path: Path) -> str:
        """Writes a trace of three steps, after three to warm up, for Perfetto (ui.perfetto.dev) or chrome://tracing.
        Returns the table of the ten dearest operations."""
        for number in range(3):
            self.step(number)
        if not self.machine.world.first:
            for number in range(3, 6):
                self.step(number)
            return ""
        with torch.profiler.profile() as profiler:
            for number in range(3, 6):
                self.step(number)
        path.unlink(missing_ok=True)
        profiler.export_chrome_trace(str(path))
        by = "self_device_time_total" if self.machine.device == "cuda" else "self_cpu_time_total"
        return str(profiler.key_averages().table(sort_by=by, row_limit=10, max_name_column_width=40))


def fitting_batch(
    config: ModelConfig,
    settings: TrainingSettings,
    data: Data,
    machine: Machine,
    seed: int,
    parallel: str = "",
    recompute: bool = False,
) -> TrainingSettings | None:
    """Cuts a rank's share of a step into the largest equal parts that fit on every rank: on a card found by trying, on a
    CPU, where a process that takes too much is killed, by plan.memory, and not above the preset's; of a model in parts, of
    which no rank could tell the others in time, by plan.memory too. A step stays the same. None where not even a single
    window fits."""
    world = machine.world
    most = settings.batch_size if machine.device == "cpu" else max(1, LARGE // config.context_length)

    def expected(size: int) -> float:
        return memory(
            config, settings.in_parts_of(size), machine.dtype, machine.device, world.size, parallel, recompute
        ).total

    tried = machine.device != "cpu" and parallel != "fsdp"
    # Of its memory. A CPU's process takes up to 1.45 times what PyTorch has in use; what is tried may be too much.
    allowed = {"cpu": 0.6, "mps": 0.8}.get(machine.device, 2.0 if tried else 0.9)
    likely = [size for size in sizes_at_once(settings, world.size, most) if expected(size) < allowed * machine.memory]
    if not tried:
        batch_size = next((size for size in likely), 1 if machine.device == "cpu" else 0)
    else:
        batch_size = next((size for size in likely if _fits(config, settings, size, data, machine, seed, recompute)), 0)
    if batch_size == 0:
        return None
    fitting = settings.in_parts_of(batch_size)
    if fitting != settings:
        reason = f"what {machine.memory / 2**30:.0f} GiB hold; --batch_size is another"
        logger.info(f"batch_size: {batch_size} x {fitting.gradient_accumulation_steps} accumulated, {reason}")
    return fitting


def _fits(
    config: ModelConfig,
    settings: TrainingSettings,
    batch_size: int,
    data: Data,
    machine: Machine,
    seed: int,
    recompute: bool = False,
) -> bool:
    """Tries two steps of two parts each, so that gradients and moments are there already when a part is in memory. Each rank
    tries for itself; all must find that it fits."""
    two = replace(settings, batch_size=batch_size, gradient_accumulation_steps=2)
    alone = replace(machine, backend="plain", world=ALONE)  # plain takes most
    try:
        batches = TrainingBatches(data, config.context_length, two.windows_per_step, seed)
        used = Trial(config, two, batches, alone, recompute=recompute).memory_of_two_steps()
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        used = 1 << 62
    except BatchTooLarge:
        used = 1 << 62
    forget_used_memory(machine.device)
    buckets = 4 * config.n_parameters if machine.world.size > 1 else 0  # of gradients, which this trial has not
    (too_large,) = machine.world.any(used + buckets >= 0.9 * machine.memory)
    return not too_large
