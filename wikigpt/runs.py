"""Run folders: `models/<run>/`. Everything that shows, resumes or uses a run reads its folder and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from loguru import logger

from wikigpt.config import RunConfig, write_text
from wikigpt.errors import ConfigError, RunError, WikiGPTError


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

    @property
    def tokens(self) -> int:
        """How many it has been trained on."""
        return self.step * self.config.tokens_per_step

    @property
    def state(self) -> str:
        if self.finished:
            return "finished"
        if is_locked(self.path):
            return f"training, saved at step {self.step:,} of {self.config.total_steps:,}"
        return f"stopped at step {self.step:,} of {self.config.total_steps:,}"

    def __str__(self) -> str:
        return f"{self.name} ({self.config.model_config}, {self.state})"


def read_run(path: Path) -> Run:
    """Raises RunError where the folder holds no run."""
    if not (path / "run.json").exists():
        raise RunError(f"There is no run in {path}.", "List the runs with: wikigpt runs")
    try:
        config = RunConfig.load(path / "run.json")
    except ConfigError as error:
        raise RunError(error.problem, error.fix) from error
    saved = checkpoints(path)
    return Run(path, config, step_of(saved[0]) if saved else 0)


def checkpoints(run: Path) -> list[Path]:
    """Folders of finished saves, the newest first."""
    return sorted((run / "checkpoints").glob("step_" + "[0-9]" * 8), reverse=True)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step_"))


def list_runs(model_dir: str) -> list[Run]:
    """All runs, the newest first (by the time of their last checkpoint). One that cannot be read is said and left out."""

    def age(path: Path) -> float:
        latest = path.with_name("latest")
        return -(latest if latest.exists() else path).stat().st_mtime

    runs = []
    for path in sorted(Path(model_dir).glob("[!.]*/run.json"), key=age):
        try:
            runs.append(read_run(path.parent))
        except RunError as error:
            logger.warning(f"left out: {error.problem}")
    return runs


def run_path(model_dir: str, name: str) -> Path:
    """The folder of the run called `name`, or at that path, whether or not there is one."""
    return Path(name) if (Path(name) / "run.json").exists() else Path(model_dir) / name


def choose_run(model_dir: str, name: str | None, model_config: str | None) -> Run:
    """The run called `name` (or at that path), finished or not; else the newest finished one of that configuration.
    Raises RunError naming what there is and what would make one."""
    if name is not None:
        run = read_run(run_path(model_dir, name))
        if model_config is not None and run.config.model_config != model_config:
            problem = f"The run {run.name} is of {run.config.model_config!r}, not {model_config!r}."
            raise RunError(problem, "Leave out --model_config or name another --run.")
        return run
    runs = list_runs(model_dir)
    for run in runs:
        if run.finished and model_config in (None, run.config.model_config):
            return run
    wanted = f" of {model_config!r}" if model_config else ""
    there = f"There are: {', '.join(map(str, runs))}. Name one with --run" if runs else f"{model_dir}/ has no runs yet"
    make = "wikigpt train" + (f" --model_config {model_config}" if model_config else "")
    make = make.replace("--model_config depth_", "--depth ")
    raise RunError(f"There is no finished run{wanted}.", f"{there}, or make one with: {make}")


def make_folder(folder: Path, config: RunConfig, tokenizer: Path) -> None:
    """Writes what a run begins or goes on with into its folder, which is made where it is not there. Raises RunError where
    something else is there."""
    left = {"run.json.partial"}  # by a kill
    if folder.exists() and not (folder / "run.json").exists() and {path.name for path in folder.iterdir()} - left:
        raise RunError(f"{folder} is there and is no run.", "Move it away, or give another name with --run.")
    folder.mkdir(parents=True, exist_ok=True)
    config.save(folder / "run.json")
    (folder / "tokenizer").mkdir(exist_ok=True)
    for path in tokenizer.iterdir():
        copy = folder / "tokenizer" / path.name
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            write_text(copy, path.read_text(encoding="utf-8"))


@contextmanager
def locked(folder: Path, busy: WikiGPTError) -> Iterator[None]:
    """Keeps every other process that asks for the same folder out, which gets `busy`; a killed process lets go. The lock is
    a file beside the folder, so that the folder can be moved and made anew, and goes away with it."""
    lock = _lock(folder)
    made = not folder.parent.exists()
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0.1, poll_interval=0.01)  # who only looks (`is_locked`) has it for less
    except Timeout:
        raise busy from None
    try:
        yield
    finally:
        lock.release()
        if not folder.exists():  # nothing came of it: leave nothing
            with suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
        if made and not any(folder.parent.iterdir()):
            folder.parent.rmdir()


def is_locked(folder: Path) -> bool:
    """Whether a process is at work in a folder."""
    lock = _lock(folder)
    if not Path(lock.lock_file).exists():
        return False
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # a folder that may only be read: nobody trains there
        return False
    lock.release()
    return False


def _lock(folder: Path) -> FileLock:
    folder = folder.resolve()  # whatever it is called
    return FileLock(folder.with_name(f".{folder.name}.lock"))
