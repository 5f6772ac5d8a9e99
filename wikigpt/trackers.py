"""The rows of metrics.jsonl sent on to TensorBoard or Weights & Biases, for those who follow many runs there.

MetricsLog.write(kind, row) ──> train/loss, validation/bits_per_byte, ... against the step

metrics.jsonl stays the record: nothing here reads back. Neither library is imported unless it is asked for.
"""

import os
import secrets
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from wikigpt.config import write_text
from wikigpt.errors import ConfigError, RunError

INSTALL = {"tensorboard": "pip install 'tensorboard>=2.16'", "wandb": "pip install 'wandb>=0.18'"}


class Tracker(Protocol):
    """Where rows go."""

    def write(self, kind: str, row: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


def check_tracker(kind: str) -> None:
    """Raises ConfigError for one that there is not, or that is not installed."""
    if kind not in INSTALL:
        raise ConfigError(f"There is no --log_to {kind}.", f"Take {' or '.join(INSTALL)}.")
    if find_spec(kind) is None:
        raise ConfigError(f"--log_to {kind} needs a package that is not here.", f"Run: {INSTALL[kind]}")


def open_tracker(kind: str, run: Path, settings: Mapping[str, Any], step: int) -> Tracker:
    """Opens one for a run that goes on from `step`; what an earlier attempt has sent is gone on with. Raises RunError where
    it does not open."""
    try:
        return TensorBoard(run, settings, step) if kind == "tensorboard" else WandB(run, settings)
    except Exception as error:  # wandb without a login, without a network, ...
        said = " ".join(str(error).split())[:160]
        login = "Log in (wandb login), set WANDB_MODE=offline, or train" if kind == "wandb" else "Train"
        fix = f"{login} with --log_to none."
        raise RunError(f"{kind} does not open ({type(error).__name__}: {said}).", fix) from error


def numbers(kind: str, row: Mapping[str, Any]) -> dict[str, float]:
    """train/loss and so on: what of a row is a number."""
    return {f"{kind}/{name}": value for name, value in row.items() if name != "step" and isinstance(value, int | float)}


class TensorBoard:
    """Event files in models/<run>/tensorboard: `tensorboard --logdir models` shows all runs."""

    def __init__(self, run: Path, settings: Mapping[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What came after that step, before a kill, is shown no more.
        self.writer = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1 if step else None)
        self.writer.add_text("run.json", "\n".join(f"    {name}: {value}" for name, value in settings.items()))

    def write(self, kind: str, row: Mapping[str, Any]) -> None:
        for name, value in numbers(kind, row).items():
            self.writer.add_scalar(name, value, row["step"])
        if kind != "train":
            self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WandB:
    """A run of the project `wikigpt` (WANDB_PROJECT names another); WANDB_MODE=offline keeps it in models/<run>/wandb."""

    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        import wandb

        known = run / "wandb_id"  # a resumed run is the same run there
        if not known.exists():
            write_text(known, secrets.token_hex(8))
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "wikigpt"),
            name=run.name,
            id=known.read_text(encoding="utf-8").strip(),
            resume="allow",
            dir=str(run),
            config=dict(settings),
            settings=wandb.Settings(quiet=True, console="off"),
        )
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")  # after a kill some steps come again

    def write(self, kind: str, row: Mapping[str, Any]) -> None:
        self.run.log({"step": row["step"], **numbers(kind, row)})

    def close(self) -> None:
        self.run.finish()
