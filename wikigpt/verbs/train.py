"""`wikigpt train`"""

import dataclasses
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from loguru import logger

from wikigpt.config import ModelConfig, RunConfig, TrainingSettings, from_preset, modern, remove_folder
from wikigpt.errors import ConfigError, RunError, WikiGPTError
from wikigpt.verbs.common import Common, Outcome, Settings, check_name

if TYPE_CHECKING:
    from wikigpt.data.shards import Data
    from wikigpt.export.pretrained import Pretrained
    from wikigpt.hardware import Machine
    from wikigpt.plan import Request


def _flags(kind: type) -> Any:
    """A dataclass with the same fields as `kind`, all optional: what is given changes the preset."""
    made = [
        (f.name, Annotated[f.type | None, tyro.conf.arg(help=f.metadata["help"])], field(default=None))  # type: ignore[operator]
        for f in dataclasses.fields(kind)
    ]
    return dataclasses.make_dataclass(f"{kind.__name__}Flags", made)


def _given(flags: Any) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(flags).items() if value is not None}


ModelFlags: Any = _flags(ModelConfig)
TrainingFlags: Any = _flags(TrainingSettings)


@dataclass
class Train:
    """Train a GPT: models/<run>/. The same command again continues an unfinished run; so does --run NAME alone."""

    model_config: str | None = None
    """preset of the model; what fits the machine unless given"""
    depth: int | None = None
    """instead of both presets: a modern model of so many layers, and all that goes with it"""
    training_setting: str | None = None
    """preset of the training; what goes with the model unless given"""
    data: str | None = None
    """data folder, by name or path; may be left out where there is only one. Several with shares: en:0.7,pt:0.3"""
    run: str | None = None
    """name of the run; <data>-<model_config> unless given"""
    like: str | None = None
    """take model, training settings, length and data of this run, where nothing else is given"""
    init_from: str | None = None
    """begin with the weights of this run, exported folder, or GPT-2 or Qwen3 on the hub (gpt2, USER/NAME), with fresh
    schedules"""
    max_steps: int | None = None
    """optimiser steps, instead of epochs"""
    hours: float | None = None
    """train about so long: a short timing at the start turns it into a fixed number of steps"""
    seed: int | None = None
    """of the first weights, dropout and the order of batches; 0 unless given"""
    eval_every: int | None = None
    """steps between evaluations; a twentieth of all unless given, 1,000 at the most"""
    eval_tokens: int | None = None
    """tokens of the validation split at each evaluation"""
    save_every: int | None = None
    """steps between checkpoints, of which the newest two and the best stay; as eval_every unless given"""
    keep_every: int | None = None
    """steps between checkpoints that stay for good; none unless given"""
    device: str | None = None
    """cpu, cuda or mps; the best there is unless given"""
    dtype: str | None = None
    """float32, bfloat16 or float16 for matrix products; what is fast here unless given"""
    threads: int | None = None
    """of the CPU; one per physical core unless given"""
    backend: str | None = None
    """plain PyTorch, kernels (in C, on a CPU) or compiled (on an NVIDIA card); the fastest here unless given"""
    auto_batch: bool = True
    """where batch_size is not given: the largest parts of a step that fit into memory; the step stays the same"""
    profile: bool = False
    """first write a torch trace of a few steps: models/<run>/trace.json"""
    fresh: bool = False
    """start over, even if the run is there"""
    model: tyro.conf.OmitArgPrefixes[ModelFlags] = field(default_factory=ModelFlags)
    """fields of the model's preset"""
    training: tyro.conf.OmitArgPrefixes[TrainingFlags] = field(default_factory=TrainingFlags)
    """fields of the training preset"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt import hardware
        from wikigpt.data.shards import find_data
        from wikigpt.runs import locked, make_folder, read_run, run_path

        hardware.keep_freed_memory()
        if hasattr(signal, "SIGUSR1"):  # before and after the loop there is nothing to save, and no reason to die
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        early: list[str] = []  # what is said before there is a folder for train.log
        sink = logger.add(early.append, format=LOG_FORMAT, level="DEBUG")
        if self.depth is not None and self.model_config is not None:
            raise ConfigError("--depth and --model_config were given together.", "Give one of them.")
        if self.like is not None and self.run is None:
            raise ConfigError("--like needs a name for the new run.", "Give it with --run NAME.")
        named = self._named(settings)
        like = self._own(named) if self.like is None else read_run(run_path(settings.MODEL_DIR, self.like)).config
        data = find_data(settings.DATAFOLDER, self.data or (like.data if like else None))
        data.verify()
        device = hardware.choose_device(self.device)
        presets = self._presets(device, data, settings, like)
        folder = named or Path(settings.MODEL_DIR) / f"{data.name}-{presets.model_config}"
        if presets.pretrained is not None and Path(presets.pretrained.path).resolve() == folder.resolve():
            problem = f"The run {folder} cannot begin with its own weights."
            raise ConfigError(problem, "Give the new run another name with --run NAME.")
        problem = f"Another process is training {folder}."
        with locked(folder, RunError(problem, "Wait for it, stop it, or give another name with --run.")):
            old = self._old(folder)
            machine = self._machine(device, old or like)
            logger.info(f"machine: {machine}")
            config, weights = self._settle(presets, settings, data, machine, old, folder)
            if old is not None and _nothing_left(folder, old, config):
                logger.info(f"finished already: {folder}; --fresh starts over, more --max_steps or --num_epochs go on")
                return Outcome(_record(folder))
            if self.fresh and (folder / "run.json").exists():
                remove_folder(folder)
            make_folder(folder, config, data.path / "tokenizer")
            logger.remove(sink)
            with _logged(folder / "train.log", early):
                return self._train(config, data, folder, machine, weights)

    def _named(self, settings: Settings) -> Path | None:
        """The folder of the run that --run names, by name or path."""
        from wikigpt.runs import run_path

        if self.run is None:
            return None
        folder = run_path(settings.MODEL_DIR, self.run.strip())
        if not (folder / "run.json").exists():
            check_name(self.run.strip(), "--run")
        return folder

    def _own(self, folder: Path | None) -> RunConfig | None:
        """The settings of the run that --run names, which go on where no preset is named."""
        named = self.model_config or self.training_setting or self.depth is not None
        if folder is None or named or not (folder / "run.json").exists():
            return None
        try:
            return RunConfig.load(folder / "run.json")
        except ConfigError:
            if self.fresh:  # it goes anyway
                return None
            raise

    def _old(self, folder: Path) -> RunConfig | None:
        path = folder / "run.json"
        return RunConfig.load(path) if path.exists() and not self.fresh else None

    def _machine(self, device: str, like: RunConfig | None) -> "Machine":
        """Precision, threads and backend change the sums: a run that goes on, or is like another, has the same."""
        from wikigpt import hardware
        from wikigpt.backend import choose_backend

        usual = like if like is not None and like.device == device else None
        dtype, threads = (usual.dtype, usual.threads) if usual else (None, None)
        machine = hardware.detect(device, self.dtype or dtype, self.threads or threads)
        backend, problem = choose_backend(device, self.backend, (usual.backend or "plain") if usual else None)
        if problem:
            logger.warning(problem)
        return dataclasses.replace(machine, backend=backend)

    def _presets(self, device: str, data: "Data", settings: Settings, like: RunConfig | None) -> "Presets":
        """The presets asked for; those of the run that this one is like, or what suits the machine and the data where none
        was, with the reason."""
        from wikigpt.hardware import device_memory
        from wikigpt.plan import choose_model, choose_training

        models, trainings = dict(settings.MODEL_CONFIGS), dict(settings.TRAINING_SETTINGS)
        own = like if self.like is None and self.fresh else None
        source = self.init_from or (own.init_from if own is not None else None)
        pretrained = self._pretrained(settings, data, source) if source is not None else None
        name, setting = self.model_config, self.training_setting
        if self.depth is not None:
            name = f"depth_{self.depth}"
            models[name], trainings[name] = modern(self.depth, data.vocab_size)
            setting = setting or name
        if name is None and pretrained is not None:
            name = pretrained.name
            models[name] = pretrained.config.preset()
        elif name is None and like is not None:
            name = like.model_config
            models[name] = like.model.preset()
        elif name is None:
            name, why = choose_model(device, device_memory(device), data.training_tokens)
            logger.info(f"model: {name}, since {why}; --model_config names another")
        if setting is None and like is not None:
            setting = like.training_setting
            trainings[setting] = dataclasses.asdict(like.training)
        elif setting is None:
            model = from_preset(ModelConfig, models, name, _given(self.model))
            setting, why = choose_training(name, model, device, data.training_tokens)
            logger.info(f"training setting: {setting}, since {why}; --training_setting names another")
        return Presets(models, trainings, name, setting, like, pretrained)

    def _settle(
        self,
        presets: "Presets",
        settings: Settings,
        data: "Data",
        machine: "Machine",
        old: RunConfig | None,
        folder: Path,
    ) -> tuple[RunConfig, dict[str, Any] | None]:
        """The settings of the run, and the weights that it begins with where they come from elsewhere."""
        from wikigpt.plan import settle
        from wikigpt.runs import checkpoints

        pretrained = presets.pretrained
        if pretrained is None and old is not None and old.init_from is not None and not checkpoints(folder):
            pretrained = self._pretrained(settings, data, old.init_from)  # killed before its first checkpoint
        request = self._request(presets, pretrained, machine.device, data)
        config = settle(request, presets.models, presets.trainings, data, machine, old)
        if pretrained is None:
            return config, None
        pretrained.check_shape(config.model)
        return config, pretrained.weights

    def _request(self, presets: "Presets", pretrained: "Pretrained | None", device: str, data: "Data") -> "Request":
        from wikigpt.plan import Request

        like = presets.like
        settled = None
        own = self.like is None
        counted = (
            "epochs",
            "per parameter",
        )  # --like takes these as such: other text or models have more or less of them
        if like is not None and self.max_steps is self.hours is None and (own or not like.length.endswith(counted)):
            settled = like.total_steps, like.length
        pace = {name: getattr(self, name) for name in ("eval_every", "eval_tokens", "save_every", "keep_every")}
        if own and self.fresh and settled is not None and like is not None:  # the same run from its beginning
            pace = {name: getattr(like, name) if value is None else value for name, value in pace.items()}
        return Request(
            presets.model_config,
            presets.training_setting,
            _given(self.model),
            _given(self.training),
            self.max_steps,
            self._hours(device, data.training_tokens, settled is not None),
            settled,
            self.seed if self.seed is not None or like is None else like.seed,
            **pace,
            auto_batch=self.auto_batch,
            init_from=pretrained.path if pretrained else None,
            init_hash=pretrained.hash if pretrained else None,
            init_source=pretrained.source if pretrained else [],
        )

    def _hours(self, device: str, tokens: int, settled: bool) -> float | None:
        """The hours asked for; one where nothing was said about the length and an epoch would take days."""
        changes = _given(self.training)
        asked = [self.hours, self.max_steps, self.training_setting, self.depth]
        asked += [changes.get(name) for name in ("num_epochs", "tokens_per_parameter")]
        if all(value is None for value in asked) and not settled and device == "cpu" and tokens > 20e6:
            logger.info("length: one hour, since an epoch would take a CPU days; --hours or --num_epochs is another")
            return 1.0
        return self.hours

    def _pretrained(self, settings: Settings, data: "Data", source: str) -> "Pretrained":
        from wikigpt.export.pretrained import read_pretrained

        pretrained = read_pretrained(settings.MODEL_DIR, source)
        pretrained.check_tokenizer(data.path / "tokenizer")
        logger.info(f"weights: {pretrained.path}")
        return pretrained

    def _train(
        self, config: RunConfig, data: "Data", folder: Path, machine: "Machine", weights: dict[str, Any] | None
    ) -> Outcome:
        from wikigpt.data.loader import TrainingBatches
        from wikigpt.plan import Trial
        from wikigpt.report import write_report
        from wikigpt.runs import checkpoints
        from wikigpt.train import train

        logger.info(
            f"{'continuing' if checkpoints(folder) else 'training'} {folder}: {config.model.n_parameters:,} parameters, "
            f"{config.total_steps:,} steps ({config.length}) of {config.training.windows_per_step} x "
            f"{config.model.context_length} tokens"
        )
        if self.profile:
            batches = TrainingBatches(data, config.model.context_length, config.training.windows_per_step, config.seed)
            table = Trial(config.model, config.training, batches, machine).profile(folder / "trace.json")
            logger.info(f"{table}\ntrace: {folder / 'trace.json'}, to open in https://ui.perfetto.dev")
        finished = train(config, data, folder, machine, weights)
        report = write_report(folder)
        if finished:
            logger.info(f"finished: {folder}; its report: {report}")
            return Outcome(_record(folder))
        saved = "saved" if (folder / "latest").exists() else "stopped"
        logger.info(
            f"{saved}: {folder}; the same command (without --fresh) or --run {shlex.quote(folder.name)} continues it"
        )
        return Outcome(_record(folder), code=130)


@dataclass(frozen=True)
class Presets:
    """The dicts that settings are made from, and which of them."""

    models: dict[str, Any]
    trainings: dict[str, Any]
    model_config: str
    training_setting: str
    like: RunConfig | None
    pretrained: "Pretrained | None"


LOG_FORMAT = "{time:YYYY-MM-DD HH:mm:ss} {level} {message}"


@contextmanager
def _logged(path: Path, early: list[str]) -> Iterator[None]:
    """Writes all that is said into train.log. A log that cannot be written stops no training."""

    def write(line: str) -> None:
        with suppress(OSError), open(path, "a", encoding="utf-8") as file:
            file.write(line)

    write("".join(early))
    sink = logger.add(write, format=LOG_FORMAT, level="DEBUG")
    try:
        yield
    except WikiGPTError as error:
        logger.debug(str(error))
        raise
    finally:
        logger.remove(sink)


def _nothing_left(folder: Path, old: RunConfig, config: RunConfig) -> bool:
    """Checks that a run may go on with these settings, and takes it back where that needs it; whether it is at its end."""
    from wikigpt.checkpoint import newest_checkpoint, rewind
    from wikigpt.metrics import read_metrics
    from wikigpt.plan import check_same_run
    from wikigpt.runs import step_of

    newest = newest_checkpoint(folder)
    step = step_of(newest) if newest else 0
    check_same_run(old, config, folder, step)
    if told := rewind(folder, old, config):
        logger.info(told)
    told_all = bool(read_metrics(folder, "final")) and (folder / "report.html").exists()
    return step == config.total_steps == old.total_steps and told_all


def _record(folder: Path) -> dict[str, Any]:
    """What --json says about a run."""
    from wikigpt.metrics import read_metrics
    from wikigpt.runs import read_run

    run = read_run(folder)
    final = read_metrics(folder, "final")
    record = {"run": run.name, "folder": str(folder), "finished": run.finished, "step": run.step}
    return record | {"total_steps": run.config.total_steps, "final": final[-1] if final else None}
