"""Run folders: `models/<run>/`. Everything that shows, resumes or uses a run reads its folder and nothing else."""

from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from wikigpt.config import RunConfig
from wikigpt.errors import ConfigError, RunError


@dataclass(frozen=True)
class Run:
    """A run folder as found on disk; `step` is that of its newest checkpoint, 0 where it has none."""

    path: Path
    config: RunConfig
    step: int

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def finished(self) -> bool:
        return self.step >= self.config.total_steps

    def __str__(self) -> str:
        state = "finished" if self.finished else f"stopped at step {self.step:,} of {self.config.total_steps:,}"
        return f"{self.name} ({self.config.model_config}, {state})"


def read_run(path: Path) -> Run:
    """Raises RunError where the folder holds no run."""
    if not (path / "run.json").exists():
        raise RunError(f"There is no run in {path}.", "List the runs with: ls " + str(path.parent))
    try:
        config = RunConfig.load(path / "run.json")
    except ConfigError as error:
        raise RunError(error.problem, error.fix) from error
    latest = path / "latest"
    step = latest.read_text().strip().removeprefix("step_") if latest.exists() else ""
    return Run(path, config, int(step) if step.isdigit() else 0)


def list_runs(model_dir: str) -> list[Run]:
    """All runs, the newest first (by the time of their last checkpoint). One that cannot be read is said and left out."""

    def age(path: Path) -> float:
        latest = path.with_name("latest")
        return -(latest if latest.exists() else path).stat().st_mtime

    runs = []
    for path in sorted(Path(model_dir).glob("*/run.json"), key=age):
        try:
            runs.append(read_run(path.parent))
        except RunError as error:
            logger.warning(f"left out: {error.problem}")
    return runs


def choose_run(model_dir: str, name: str | None, model_config: str | None) -> Run:
    """The run called `name` (or at that path), finished or not; else the newest finished one of that configuration.
    Raises RunError naming what there is and what would make one."""
    if name is not None:
        path = Path(name) if (Path(name) / "run.json").exists() else Path(model_dir) / name
        run = read_run(path)
        if model_config is not None and run.config.model_config != model_config:
            problem = f"The run {run.name} is of {run.config.model_config!r}, not {model_config!r}."
            raise RunError(problem, "Leave out --model_config or name another --run.")
        if run.step == 0 and not (path / "latest").exists():
            raise RunError(f"The run {run.name} has no checkpoint yet.", "Wait, or continue it with: wikigpt train")
        return run
    runs = list_runs(model_dir)
    for run in runs:
        if run.finished and model_config in (None, run.config.model_config):
            return run
    wanted = f" of {model_config!r}" if model_config else ""
    there = f"There are: {', '.join(map(str, runs))}. Name one with --run" if runs else f"{model_dir}/ has no runs yet"
    make = "wikigpt train" + (f" --model_config {model_config}" if model_config else "")
    raise RunError(f"There is no finished run{wanted}.", f"{there}, or make one with: {make}")
