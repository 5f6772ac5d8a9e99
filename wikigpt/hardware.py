"""What this machine is and how to use it: device, precision, threads, memory, and the speed that MFU is measured by."""

import ctypes
import gc
import os
import platform
import re
import shlex
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from loguru import logger
from torch import Tensor

from wikigpt.cards import card_called
from wikigpt.errors import ConfigError
from wikigpt.parallel import ALONE, World

PEAK_SECONDS = 0.4  # that a type is timed for
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Machine:
    """`dtype` is what matrices are multiplied in (weights stay float32); `peak_flops` is FLOP/s in that type."""

    device: str  # cpu, cuda or mps
    name: str
    dtype: str
    dtype_reason: str
    threads: int
    memory: int  # bytes, of the device
    peak_flops: float
    peak_source: str  # "datasheet" or "measured"
    backend: str = "plain"
    world: World = ALONE  # the others that train the same model

    def __str__(self) -> str:
        peak = f"{self.peak_flops / 1e9:,.0f} GFLOP/s {self.peak_source}"
        where = f"{self.name}, {self.threads} threads" if self.device == "cpu" else self.name
        memory = f"{self.memory / 2**30:.0f} GiB"
        where = where if self.world.size == 1 else f"{self.world.size} x {where}"
        return f"{self.device} ({where}), {self.dtype} ({self.dtype_reason}), {self.backend}, {memory}, {peak}"

    def autocast(self) -> torch.autocast:
        """Matrix products in `dtype`, all else in float32. Its cache of cast weights would outlive an optimiser step
        inside one block, so each forward pass opens its own."""
        return torch.autocast(self.device, DTYPES[self.dtype], enabled=self.dtype != "float32")


def detect(device: str, dtype: str | None = None, threads: int | None = None) -> Machine:
    """Looks at the machine; what is given is taken. Sets torch's number of threads. Raises ConfigError for a dtype that
    does not exist or that the device does not train in."""
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"There is no dtype {dtype!r}.", f"Take one of {', '.join(DTYPES)}.")
    if device == "cpu" and dtype == "float16":
        raise ConfigError("float16 does not train on a CPU.", "Take --dtype bfloat16 or float32.")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}.", "Give 1 or more.")
    threads = threads or physical_cores()
    torch.set_num_threads(threads)
    name = torch.cuda.get_device_name() if device == "cuda" else _cpu_name()
    if dtype is not None:
        best, reason, speed = dtype, "as asked", 0.0
    else:
        best, reason, speed = _cuda_precision() if device == "cuda" else _timed_precision(device)
    card = card_called(name) if device == "cuda" and best != "float32" else None
    peak, source = card.flops if card else 0.0, "datasheet"
    if not peak:
        peak, source = speed or _matmul_speeds(device, DTYPES[best])[0], "measured"
    return Machine(device, name, best, reason, threads, device_memory(device), peak, source)


def _cpu_name() -> str:
    """As the kernel has it on Linux, where Python knows only the architecture."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"^model name\s*: (.+)$", text, re.MULTILINE):
            return found[1].strip()
    return platform.processor() or platform.machine()


def _cuda_precision() -> tuple[str, str, float]:
    """A T4 says that it supports bfloat16 and emulates it slowly."""
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bfloat16", "native here", 0.0
    return "float16", "bfloat16 would be emulated", 0.0


def _timed_precision(device: str) -> tuple[str, str, float]:
    """The precision that wins a short timing, why, and its FLOP/s."""
    try:
        plain, half = _matmul_speeds(device, torch.float32, torch.bfloat16, n=128, seconds=0.05)
        if half < plain / 4:  # emulated, a hundred times as slow on some: the long timing would take half a minute
            plain = _matmul_speeds(device, torch.float32)[0]
            return "float32", "bfloat16 is emulated here", plain
        plain, half = _matmul_speeds(device, torch.float32, torch.bfloat16)
    except (TypeError, RuntimeError):  # a Mac before macOS 14 has no bfloat16
        return "float32", "there is no bfloat16 here", 0.0
    times = f"{half / plain:.1f} times as fast as float32"
    return ("bfloat16", times, half) if half > 1.2 * plain else ("float32", f"bfloat16 is {times}", plain)


def choose_device(asked: str | None) -> str:
    """The device asked for, or the best there is. Raises ConfigError where the one asked for is not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    found = [name for name, here in there.items() if here]
    if asked is not None and asked not in found:
        raise ConfigError(f"There is no device {asked!r} here.", f"This machine has: {', '.join(found)}.")
    if asked is None and found[0] != "cuda" and shutil.which("nvidia-smi") and torch.version.cuda is None:
        pip, version = f"{shlex.quote(sys.executable)} -m pip", torch.__version__.split("+")[0]
        command = f"{pip} uninstall -y torch && {pip} install torch=={version}"
        logger.warning(f"There is an NVIDIA card here, but this torch is a CPU build. To use the card: {command}")
    return asked or found[0]


def device_memory(device: str) -> int:
    """Bytes that the device has in all."""
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    return psutil.virtual_memory().total


def physical_cores() -> int:
    """Cores that this process may use; two hardware threads of one core only get in each other's way."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))


def _matmul_speeds(device: str, *dtypes: torch.dtype, n: int = 1024, seconds: float | None = None) -> list[float]:
    """FLOP/s of a matrix product of n x n in each type: the best of many, taken in turns, so that neither a busy
    moment nor a busy second decides which is faster."""
    matrices = [torch.randn(n, n, device=device).to(dtype) for dtype in dtypes]
    best = [float("inf")] * len(dtypes)
    end = time.perf_counter() + (seconds or PEAK_SECONDS) * len(dtypes)
    while time.perf_counter() < end or float("inf") in best:
        for number, matrix in enumerate(matrices):
            start = time.perf_counter()
            for _ in range(4):
                matrix @ matrix
            synchronize(device)
            best[number] = min(best[number], (time.perf_counter() - start) / 4)
    return [2 * n**3 / time_taken for time_taken in best]


class UnderWay:
    """A step between its beginning and the moment when its figures are here. On an NVIDIA card both are marked in the row of
    what the card has to do, so that nothing waits for it, and the time is the card's own."""

    def __init__(self, device: str) -> None:
        self._device, self._began = device, self._mark(device)
        self._figures: Any = None

    @staticmethod
    def _mark(device: str) -> Any:
        if device != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def send(self, figures: Tensor) -> None:
        """Sends a few figures on their way from the device; where that cannot be done in passing, waits for them."""
        self._figures = figures.to("cpu", non_blocking=True) if self._device == "cuda" else figures.tolist()
        self._ended = self._mark(self._device)

    def read(self) -> tuple[list[float], float]:
        """Waits for the figures; they, and the seconds since the beginning."""
        if self._device != "cuda":
            return self._figures, self._ended - self._began
        self._ended.synchronize()
        return self._figures.tolist(), self._began.elapsed_time(self._ended) / 1e3


def synchronize(device: str) -> None:
    """Waits until the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def used_memory(device: str) -> int:
    """Bytes in use: of the process now on a CPU, the most so far of the allocator on an NVIDIA card."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    if device == "mps":
        return torch.mps.driver_allocated_memory()
    return psutil.Process().memory_info().rss


def forget_used_memory(device: str) -> None:
    """Gives back what is not in use any more, and counts the most in use from now on."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    elif device == "mps":
        torch.mps.empty_cache()


def keep_freed_memory() -> None:
    """Tells glibc to keep what is freed. It hands every large tensor's memory back to the kernel at once and has it
    zeroed again for the next one: that alone halves training speed on a CPU (docs/adr/0008). No effect elsewhere."""
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
