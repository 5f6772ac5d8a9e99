"""`wikigpt train`"""

import dataclasses
import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from loguru import logger

from wikigpt.config import ModelConfig, RunConfig, TrainingSettings, from_preset, modern, remove_folder
from wikigpt.errors import ConfigError, DataError, RunError, WikiGPTError
from wikigpt.verbs.common import Common, Outcome, Settings, check_name

if TYPE_CHECKING:
    from wikigpt.data.shards import Data
    from wikigpt.export.pretrained import Pretrained
    from wikigpt.hardware import Machine
    from wikigpt.parallel import World
    from wikigpt.settle import Request


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
    run: Annotated[str | None, tyro.conf.arg(aliases=["--run_name"])] = None
    """name of the run; <data>-<model_config> unless given. (torchrun takes a --run for its own: there it is --run_name)"""
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
    parallel: str | None = None
    """how several processes (torchrun) share the model: ddp, each has it whole, or fsdp, each a part of it; ddp unless it
    does not fit on a card"""
    activation_checkpointing: bool | None = None
    """keep less for the way back and calculate it again: half the memory or less, a third more work; where nothing fits
    without unless given"""
    log_to: Literal["tensorboard", "wandb", "none"] | None = None
    """also send the metrics there: models/<run>/tensorboard, or Weights & Biases (WANDB_MODE=offline works)"""
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
        from wikigpt.parallel import joined

        hardware.keep_freed_memory()
        if hasattr(signal, "SIGUSR1"):  # before and after the loop there is nothing to save, and no reason to die
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        if self.depth is not None and self.model_config is not None:
            raise ConfigError("--depth and --model_config were given together.", "Give one of them.")
        if self.like is not None and self.run is None:
            raise ConfigError("--like needs a name for the new run.", "Give it with --run NAME.")
        if any(int(os.environ.get(name, 0)) for name in ("TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT")):
            self.fresh = False  # started anew after a failure: go on from what was saved
        device = hardware.choose_device(self.device)
        with joined(device) as world:
            return self._with(world, device, settings)

    def _with(self, world: "World", device: str, settings: Settings) -> Outcome:
        """All ranks come along here together. The first finds out what is to be done and tells the others."""
        from wikigpt.data.shards import find_data
        from wikigpt.runs import locked, make_folder, read_run, run_path
        from wikigpt.settle import settle

        early: list[str] = []  # what is said before there is a folder for train.log
        sink = logger.add(early.append, format=LOG_FORMAT, level="DEBUG")

        def look() -> tuple[Path | None, RunConfig | None, str]:
            named = self._named(settings)
            like = self._own(named) if self.like is None else read_run(run_path(settings.MODEL_DIR, self.like)).config
            data = find_data(settings.DATAFOLDER, self.data or (like.data if like else None))
            return named, like, data.spec

        def check(spec: str) -> "Data":
            data = find_data(settings.DATAFOLDER, spec)
            if world.local_rank == 0:  # once on each machine
                data.verify()
            return data

        named, like, spec = world.from_first(look)
        data = world.together(lambda: check(spec))
        _check_same_data(world, data)

        def choose() -> tuple[Path, Presets]:
            presets = self._presets(device, data, settings, like)
            folder = named or Path(settings.MODEL_DIR) / f"{data.name}-{presets.model_config}"
            if presets.pretrained is not None and Path(presets.pretrained.path).resolve() == folder.resolve():
                problem = f"The run {folder} cannot begin with its own weights."
                raise ConfigError(problem, "Give the new run another name with --run NAME.")
            return folder, presets

        folder, presets = world.from_first(choose)
        problem = f"Another process is training {folder}."
        busy = RunError(problem, "Wait for it, stop it, or give another name with --run.")
        with ExitStack() as stack:
            world.from_first(lambda: stack.enter_context(locked(folder, busy)))
            old = world.from_first(lambda: self._old(folder))
            machine = self._machine(device, old or like, world)
            pretrained = world.from_first(lambda: self._beginning(presets, settings, data, old, folder))
            request = self._request(presets, pretrained, machine.device, data)
            given = presets.models, presets.trainings, data, machine, old
            settled = world.together(lambda: settle(request, *given))
            config = world.from_first(lambda: settled)
            if pretrained is not None:
                world.together(lambda: pretrained.check_shape(config.model))
            if old is not None and world.from_first(lambda: _nothing_left(folder, old, config)):
                logger.info(f"finished already: {folder}; --fresh starts over, more --max_steps or --num_epochs go on")
                return Outcome(_record(folder) if world.first else {})

            def begin() -> None:
                if self.fresh and (folder / "run.json").exists():
                    remove_folder(folder)
                make_folder(folder, config, data.path / "tokenizer")

            world.from_first(begin)
            logger.remove(sink)
            with _logged(folder / "train.log", early) if world.first else nullcontext():
                return self._train(config, data, folder, machine, pretrained.weights if pretrained else None)

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

    def _machine(self, device: str, like: RunConfig | None, world: "World") -> "Machine":
        """Precision, threads and backend change the sums: a run that goes on, or is like another, has the same. All ranks
        have what the first has."""
        import torch

        from wikigpt import hardware
        from wikigpt.backend import choose_backend

        usual = like if like is not None and like.device == device else None
        shared = usual is None or usual.world_size != world.size

        def look() -> "Machine":
            cores = max(1, hardware.physical_cores() // world.local_size)
            dtype, threads = usual.dtype if usual else None, cores if shared or usual is None else usual.threads
            machine = hardware.detect(
                device, self.dtype or dtype, self.threads if self.threads is not None else threads
            )
            backend, problem = choose_backend(device, self.backend, (usual.backend or "plain") if usual else None)
            if problem:
                logger.warning(problem)
            return dataclasses.replace(machine, backend=backend)

        machine = world.from_first(look)
        if not world.first:
            torch.set_num_threads(machine.threads)
        world.together(lambda: None if world.first else choose_backend(device, machine.backend))
        own = hardware.device_memory(device) // (world.local_size if device == "cpu" else 1)
        memory = world.least(own)
        machine = dataclasses.replace(machine, world=world, memory=memory)
        logger.info(f"machine: {machine}")
        cards = torch.cuda.device_count() if device == "cuda" else 0
        if world.size == 1 and cards > 1:
            start = f"torchrun --standalone --nproc_per_node={cards} -m wikigpt train"
            logger.info(f"one of {cards} cards is used; for all of them: {start} ...")
        return machine

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

    def _beginning(
        self, presets: "Presets", settings: Settings, data: "Data", old: RunConfig | None, folder: Path
    ) -> "Pretrained | None":
        """The weights that the run begins with, where they come from elsewhere."""
        from wikigpt.runs import checkpoints

        if presets.pretrained is None and old is not None and old.init_from is not None and not checkpoints(folder):
            return self._pretrained(settings, data, old.init_from)  # killed before its first checkpoint
        return presets.pretrained

    def _request(self, presets: "Presets", pretrained: "Pretrained | None", device: str, data: "Data") -> "Request":
        from wikigpt.settle import Request

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
            log_to=like.log_to if own and like is not None and self.log_to is None else self.log_to,
            auto_batch=self.auto_batch,
            parallel=self.parallel,
            activation_checkpointing=self.activation_checkpointing,
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
        from wikigpt.hardware import forget_used_memory
        from wikigpt.report import write_report
        from wikigpt.runs import checkpoints
        from wikigpt.train import train
        from wikigpt.trial import Trial

        logger.info(
            f"{'continuing' if checkpoints(folder) else 'training'} {folder}: {config.model.n_parameters:,} parameters, "
            f"{config.total_steps:,} steps ({config.length}) of {config.training.windows_per_step} x "
            f"{config.model.context_length} tokens"
        )
        if self.profile:
            batches = TrainingBatches(data, config.model.context_length, config.training.windows_per_step, config.seed)
            how = config.parallel, config.activation_checkpointing
            given = config.model, config.training, batches, machine
            table = machine.world.together(lambda: Trial(*given, *how).profile(folder / "trace.json"))
            forget_used_memory(machine.device)
            logger.info(f"{table}\ntrace: {folder / 'trace.json'}, to open in https://ui.perfetto.dev")
        finished = train(config, data, folder, machine, weights)
        if not machine.world.first:
            return Outcome({}, code=0 if finished else 130)
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


def _check_same_data(world: "World", data: "Data") -> None:
    """Raises DataError where another machine has other text."""
    expected = world.from_first(lambda: data.hash)

    def compare() -> None:
        if data.hash != expected:
            raise DataError(f"{data.path} is not the data that the first rank has.", "Copy the folder from there.")

    world.together(compare)


def _nothing_left(folder: Path, old: RunConfig, config: RunConfig) -> bool:
    """Checks that a run may go on with these settings, and takes it back where that needs it; whether it is at its end."""
    from wikigpt.checkpoint import newest_checkpoint, rewind
    from wikigpt.metrics import read_metrics
    from wikigpt.runs import step_of
    from wikigpt.settle import check_same_run

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
