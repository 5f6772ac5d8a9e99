"""Models in memory, and whose turn it is to calculate.

run, checkpoint ──> Loaded(model, tokenizer)          request ──> Ticket ──> turn ──> tokens, one at a time

A few calculate at once and some wait; whoever comes after these is told to come back (HTTP 429). Tokens are made one by one,
each when the one before has been handed on: who reads slowly or goes away costs nothing.
"""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch
from starlette.concurrency import run_in_threadpool
from torch import Tensor

from wikigpt.config import MODEL_DIR
from wikigpt.errors import ConfigError, RunError
from wikigpt.generate import Drawn, Sampling, generate_tokens, load_model
from wikigpt.runs import Run, checkpoints, read_run
from wikigpt.tokenizer import Tokenizer
from wikigpt.transformer import GPTModel

AT_ONCE = 2  # requests that calculate: two sides of a comparison
WAITING = 16  # and that wait for their turn
KEPT = 3  # models in memory
SHARE = 0.4  # of the machine's memory that they may take, but for the one that is asked for
T = TypeVar("T")


class Busy(Exception):
    """Too many wait already."""


@dataclass(eq=False)
class Loaded:
    """A checkpoint, ready to be asked. One thread at a time may calculate with it: the lock."""

    run: Run
    checkpoint: str  # the name of its folder
    model: GPTModel
    tokenizer: Tokenizer
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        return f"{self.run.name}@{self.checkpoint.removeprefix('step_').lstrip('0') or '0'}"

    @property
    def bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.model.parameters())

    def tokens(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[Drawn]:
        """As `generate_tokens`; between two tokens others may have the model."""
        drawn = generate_tokens(self.model, list(prompt), self.tokenizer.end_of_text, sampling)
        while True:
            with self.lock:
                token = next(drawn, None)
            if token is None:
                return
            yield token

    @torch.no_grad()
    def log_probs_TV(self, ids: Sequence[int]) -> Tensor:
        """What the model thinks comes after each of some ids, at most a context of them."""
        with self.lock:
            logits_TV = self.model(torch.tensor([list(ids)], device=self.model.tok_emb.weight.device))[0]
            return torch.log_softmax(logits_TV.float(), -1).cpu()


class Engine:
    """Holds models, and lets requests calculate in turn."""

    def __init__(self, device: str, model_dir: str = MODEL_DIR) -> None:
        self.device, self.model_dir = device, Path(model_dir)
        self._loaded: dict[tuple[Path, int], Loaded] = {}  # the last used at the end
        self._loading = threading.Lock()
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.tickets: set[Ticket] = set()

    def run(self, name: str) -> Run:
        """A run by its name: never a path. Raises RunError where there is none."""
        if name not in (path.parent.name for path in self.model_dir.glob("[!.]*/run.json")):
            raise RunError(f"There is no run {name[:80]!r}.", "Take one of the list.")
        return read_run(self.model_dir / name)

    def load(self, name: str, checkpoint: str = "latest") -> Loaded:
        """A checkpoint of a run: latest, best, a step or its folder's name. Raises RunError where there is none, or it is
        damaged."""
        run = self.run(name)
        folder = _folder(run, checkpoint)
        state = folder / "state.json"
        if not state.is_file():
            raise RunError(f"The run {name} has no checkpoint {checkpoint!r}.", "Take one of the list.")
        key = (folder, state.stat().st_mtime_ns)
        with self._loading:
            found = self._loaded.pop(key, None)
            if found is None:
                model, tokenizer = load_model(run, self.device, folder.name)
                found = Loaded(run, folder.name, model, tokenizer)
            self._loaded[key] = found
            self._make_room()
            return found

    def _make_room(self) -> None:
        """Forgets what was not used for longest. Whoever is calculating with it keeps it until the end."""
        most = SHARE * psutil.virtual_memory().total
        while len(self._loaded) > 1:
            if len(self._loaded) <= KEPT and sum(one.bytes for one in self._loaded.values()) <= most:
                return
            del self._loaded[next(iter(self._loaded))]

    def ticket(self) -> "Ticket":
        """A place in the row. Raises Busy where there is none."""
        if len(self.tickets) >= AT_ONCE + WAITING:
            raise Busy
        return Ticket(self)

    async def calculate(self, work: Callable[..., T], *given: Any) -> T:
        """Does some work in its turn, in a thread. Raises Busy."""
        ticket = self.ticket()
        try:
            async with ticket.turn():
                return await run_in_threadpool(work, *given)
        finally:
            ticket.give_back()


class Ticket:
    """A request's place in the row, until it is given back."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        engine.tickets.add(self)

    def give_back(self) -> None:
        self._engine.tickets.discard(self)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for its turn, and has it."""
        async with self._engine._turns:
            yield


async def one_by_one(items: Iterator[T]) -> AsyncIterator[T]:
    """Each item made in a thread when it is asked for. A thread at work is waited for, also where nobody wants it now."""
    done = object()
    while (item := await run_in_threadpool(next, items, done)) is not done:
        yield item  # type: ignore[misc]


def _folder(run: Run, which: str) -> Path:
    """Where a checkpoint lies, always inside the run. Raises ConfigError for what cannot be one, RunError for none."""
    if which == "latest":
        if not (saved := checkpoints(run.path)):
            raise RunError(f"The run {run.name} has saved no checkpoint yet.", "Wait a moment.")
        return saved[0]
    if which == "best":
        best = run.path / "best"
        which = best.read_text(encoding="utf-8").strip() if best.exists() else "none"
    elif which.isascii() and which.isdigit():
        which = f"step_{int(which):08d}"
    if not re.fullmatch(r"[a-z]+(_[0-9]{8})?", which):
        raise ConfigError(f"{which!r} is no checkpoint.", "Give latest, best or a step.")
    return run.path / "checkpoints" / which
