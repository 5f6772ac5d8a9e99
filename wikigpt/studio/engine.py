"""Models in memory.

run, checkpoint ──> Loaded(model, tokenizer) ──> tokens, one at a time

A model is loaded by whoever has a turn, so there are never more than are kept, and two that are being asked.
"""

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch
from torch import Tensor

from wikigpt import tokenizer as tokenizers
from wikigpt.config import MODEL_DIR
from wikigpt.errors import ConfigError, RunError
from wikigpt.generate import Drawn, Sampling, generate_tokens, load_model
from wikigpt.runs import Run, checkpoints, read_run
from wikigpt.studio.turns import Row
from wikigpt.tokenizer import Tokenizer
from wikigpt.transformer import GPTModel

KEPT = 3  # models in memory
SHARE = 0.4  # of the machine's memory that they may take, but for the one that is asked for


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
        """What the model thinks comes after each of some ids, at most a context of them. Raises RunError where its weights
        are no numbers any more."""
        with self.lock:
            logits_TV = self.model(torch.tensor([list(ids)], device=self.model.tok_emb.weight.device))[0]
            log_probs_TV = torch.log_softmax(logits_TV.float(), -1).cpu()
        if log_probs_TV.isnan().any():
            raise RunError("The model's weights are no longer numbers.", "Take an earlier checkpoint.")
        return log_probs_TV


class Engine:
    """Holds models, and the rows in which requests wait for one, or for files."""

    def __init__(self, device: str, model_dir: str = MODEL_DIR) -> None:
        self.device, self.model_dir = device, Path(model_dir)
        self.models, self.files = Row(), Row()
        self._loaded: dict[tuple[Path, int], Loaded] = {}  # the last used at the end
        self._tokenizers: dict[tuple[Path, int], Tokenizer] = {}
        self._loading = threading.Lock()

    def names(self) -> list[str]:
        """Of all runs; one that is no text cannot be asked for."""
        found = (path.parent.name for path in self.model_dir.glob("[!.]*/run.json"))
        return sorted(name for name in found if name.isprintable())

    def run(self, name: str) -> Run:
        """A run by its name: never a path. Raises RunError where there is none."""
        if name not in self.names():
            raise RunError(f"There is no run {name[:80]!r}.", "Take one of the list.")
        return read_run(self.model_dir / name)

    def find(self, name: str, checkpoint: str = "latest") -> tuple[Run, Path]:
        """A run and the folder of one of its checkpoints: latest, best, a step or its folder's name. Raises RunError where
        there is none."""
        run = self.run(name)
        folder = _folder(run, checkpoint)
        if not (folder / "state.json").is_file():
            raise RunError(f"The run {name} has no checkpoint {checkpoint!r}.", "Take one of the list.")
        return run, folder

    def tokenizer(self, run: Run) -> Tokenizer:
        """Of a run, without its model."""
        path = run.path / "tokenizer" / tokenizers.TOKENIZER
        key = (path, path.stat().st_mtime_ns if path.exists() else 0)
        if key not in self._tokenizers:
            self._tokenizers = {**dict(list(self._tokenizers.items())[-KEPT:]), key: tokenizers.load(path)}
        return self._tokenizers[key]

    def load(self, run: Run, folder: Path) -> Loaded:
        """A checkpoint, ready to be asked. Raises RunError where it is damaged, OSError where it has gone meanwhile."""
        key = (folder, (folder / "state.json").stat().st_mtime_ns)
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
