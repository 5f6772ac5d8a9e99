"""The verbs, one dataclass each: its fields are the flags, its docstrings the help, calling it does it.

What is heavy (torch above all) is imported when a verb runs, so that --help answers at once.
"""

import dataclasses
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from loguru import logger

from wikigpt.config import ModelConfig, RunConfig, TrainingSettings, from_preset
from wikigpt.errors import ConfigError, RunError, WikiGPTError

LOG_FORMAT = "{time:YYYY-MM-DD HH:mm:ss} {level} {message}"
Settings = Any  # a module or namespace with MODEL_CONFIGS, TRAINING_SETTINGS, DATAFOLDER and MODEL_DIR


def _flags(kind: type) -> Any:
    """A dataclass with the same fields as `kind`, all optional: what is given changes the preset."""
    made = [
        (f.name, Annotated[f.type | None, tyro.conf.arg(help=f.metadata["help"])], field(default=None))  # type: ignore[operator]
        for f in dataclasses.fields(kind)
    ]
    return dataclasses.make_dataclass(f"{kind.__name__}Flags", made)


def _given(flags: Any) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(flags).items() if value is not None}


ModelFlags = _flags(ModelConfig)
TrainingFlags = _flags(TrainingSettings)


@dataclass
class Prepare:
    """Turn Wikipedia into tokens: dataset/<name>/."""

    wiki: str = "en"
    """language code; the bundled sample has en, es, fr"""
    name: str | None = None
    """name of the data folder; the language code unless given"""
    source: Literal["sample"] = "sample"
    """sample: the first paragraphs of the most vital articles, which a package carries"""
    tokenizer: Literal["gpt2", "bpe"] | None = None
    """gpt2: its 50,257 tokens; bpe: train one on this text. Unless given, bpe for the sample, and gpt2 for English"""
    vocab_size: int | None = None
    """size of a bpe; 8,192, or what suits --model_config"""
    model_config: str | None = None
    """the model that this data is for: a bpe has 8,192 tokens below 30 million parameters, 32,768 above"""
    held_out: float | None = None
    """share of articles for validation, and as many again for test; 0.01, of the sample 0.03"""
    workers: int | None = None
    """threads that encode; all cores unless given. The result is the same"""
    fresh: bool = False
    """make the folder anew even if it is there"""

    def __call__(self, settings: Settings) -> int:
        from wikigpt.data import sources
        from wikigpt.data.prepare import (
            PrepareSettings,
            bpe_vocab_size,
            default_held_out,
            default_tokenizer,
            default_workers,
            prepare,
        )

        vocab_size = self.vocab_size or 8192
        if self.model_config is not None and self.vocab_size is None:
            vocab_size = bpe_vocab_size(from_preset(ModelConfig, settings.MODEL_CONFIGS, self.model_config, {}))
        tokenizer = self.tokenizer or default_tokenizer(self.wiki, self.source)
        if tokenizer == "gpt2":
            if self.vocab_size not in (None, 50257):
                raise ConfigError(
                    "gpt2 has 50,257 tokens, no other number.", "Leave out --vocab_size, or take --tokenizer bpe."
                )
            vocab_size = 50257
        held_out = default_held_out(self.source) if self.held_out is None else self.held_out
        if not 0 < held_out < 0.5:
            raise ConfigError(f"held_out is {held_out}.", "Give a share above 0 and below 0.5.")
        workers = default_workers() if self.workers is None else self.workers
        if workers < 1:
            raise ConfigError(f"workers is {workers}.", "Give 1 or more.")
        wanted = PrepareSettings(tokenizer, vocab_size, held_out)
        folder = Path(settings.DATAFOLDER) / (self.name or self.wiki)
        data = prepare(sources.sample(self.wiki), wanted, folder, workers, self.fresh)
        for split, counts in data.manifest["splits"].items():
            logger.info(f"{split:10} {counts['articles']:>9,} articles {counts['tokens']:>12,} tokens")
        logger.info(f"prepared: {folder} ({data.manifest['source']['licence']})")
        return 0


@dataclass
class Train:
    """Train a GPT: models/<run>/. The same command again continues an unfinished run."""

    model_config: str | None = None
    """preset of the model; what fits the machine unless given"""
    training_setting: str | None = None
    """preset of the training; what goes with the model unless given"""
    data: str | None = None
    """data folder, by name or path; may be left out where there is only one"""
    run: str | None = None
    """name of the run; <data>-<model_config> unless given"""
    max_steps: int | None = None
    """optimiser steps, instead of epochs"""
    hours: float | None = None
    """train about so long: a short timing at the start turns it into a fixed number of steps"""
    seed: int = 0
    """of the first weights, dropout and the order of batches"""
    eval_every: int | None = None
    """steps between evaluations; a twentieth of all unless given, 1,000 at the most"""
    eval_tokens: int | None = None
    """tokens of the validation split at each evaluation"""
    save_every: int | None = None
    """steps between checkpoints; as eval_every unless given"""
    device: str | None = None
    """cpu, cuda or mps; the best there is unless given"""
    dtype: str | None = None
    """float32, bfloat16 or float16 for matrix products; what is fast here unless given"""
    threads: int | None = None
    """of the CPU; one per physical core unless given"""
    fresh: bool = False
    """start over, even if the run is there"""
    model: tyro.conf.OmitArgPrefixes[ModelFlags] = field(default_factory=ModelFlags)  # type: ignore[valid-type]
    training: tyro.conf.OmitArgPrefixes[TrainingFlags] = field(default_factory=TrainingFlags)  # type: ignore[valid-type]

    def __call__(self, settings: Settings) -> int:
        from wikigpt import hardware
        from wikigpt.data.shards import find_data
        from wikigpt.metrics import read_metrics
        from wikigpt.plan import Request, check_same_run, settle
        from wikigpt.runs import read_run
        from wikigpt.train import train

        hardware.keep_freed_memory()
        early: list[str] = []  # what is said before there is a folder for train.log
        sink = logger.add(early.append, format=LOG_FORMAT, level="DEBUG")
        data = find_data(settings.DATAFOLDER, self.data)
        data.verify()
        device = hardware.choose_device(self.device)
        tokens = int(data.manifest["splits"]["train"]["tokens"])
        model_config, training_setting = self._presets(device, tokens, settings)
        folder = Path(settings.MODEL_DIR) / (self.run or f"{data.name}-{model_config}")
        old = RunConfig.load(folder / "run.json") if (folder / "run.json").exists() and not self.fresh else None
        dtype, threads = (old.dtype, old.threads) if old and old.device == device else (None, None)
        machine = hardware.detect(device, self.dtype or dtype, self.threads or threads)
        logger.info(f"machine: {machine}")
        request = Request(
            model_config, training_setting, _given(self.model), _given(self.training), self.max_steps,
            self._hours(device, tokens), self.seed, self.eval_every, self.eval_tokens, self.save_every,
        )  # fmt: skip
        config = settle(request, settings.MODEL_CONFIGS, settings.TRAINING_SETTINGS, data, machine, old)
        if old is not None:
            check_same_run(old, config, folder)
            if read_run(folder).finished and read_metrics(folder, "final"):
                logger.info(f"finished already: {folder}; --fresh starts over")
                return 0
        elif (folder / "run.json").exists():
            shutil.rmtree(folder)
        elif folder.exists():
            raise RunError(f"{folder} is there and is no run.", "Move it away, or give another name with --run.")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(data.path / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
        config.save(folder / "run.json")
        logger.remove(sink)
        with open(folder / "train.log", "a", encoding="utf-8") as file:
            file.writelines(early)
        sink = logger.add(folder / "train.log", format=LOG_FORMAT, level="DEBUG", encoding="utf-8")
        begin = "continuing" if (folder / "latest").exists() else "training"
        size, length = f"{config.model.n_parameters:,} parameters", f"{config.total_steps:,} steps ({config.length})"
        logger.info(f"{begin} {folder}: {size}, {length}")
        try:
            finished = train(config, data, folder, machine)
        except WikiGPTError as error:
            logger.debug(str(error))
            raise
        finally:
            logger.remove(sink)
        if finished:
            logger.info(f"finished: {folder}")
            return 0
        logger.info(
            f"{'saved' if (folder / 'latest').exists() else 'stopped'}: {folder}; the same command continues it"
        )
        return 130

    def _hours(self, device: str, tokens: int) -> float | None:
        """The hours asked for; one where nothing was said about the length and an epoch would take days."""
        asked = (self.hours, self.max_steps, self.training_setting, _given(self.training).get("num_epochs"))
        if all(value is None for value in asked) and device == "cpu" and tokens > 20e6:
            logger.info("length: one hour, since an epoch would take a CPU days; --hours or --num_epochs is another")
            return 1.0
        return self.hours

    def _presets(self, device: str, tokens: int, settings: Settings) -> tuple[str, str]:
        """The presets asked for; what suits the machine and the data where none was, with the reason."""
        from wikigpt.hardware import device_memory
        from wikigpt.plan import choose_model, choose_training

        model_config, training_setting = self.model_config, self.training_setting
        if model_config is None:
            model_config, why = choose_model(device, device_memory(device), tokens)
            logger.info(f"model: {model_config}, since {why}; --model_config names another")
        if training_setting is None:
            model = from_preset(ModelConfig, settings.MODEL_CONFIGS, model_config, _given(self.model))
            training_setting, why = choose_training(model, device, tokens)
            logger.info(f"training setting: {training_setting}, since {why}; --training_setting names another")
        return model_config, training_setting


@dataclass
class Evaluate:
    """Score a run on a whole split: loss, perplexity, bits per byte, beside a Kneser-Ney bigram."""

    run: str | None = None
    """name or path of the run; the newest finished one unless given"""
    model_config: str | None = None
    """the newest finished run of this preset"""
    split: Literal["validation", "test"] = "validation"
    """which articles"""
    device: str | None = None
    """cpu, cuda or mps; the best there is unless given"""

    def __call__(self, settings: Settings) -> int:
        from wikigpt import hardware
        from wikigpt.data.shards import DataFolder
        from wikigpt.evaluate import bigram_score, evaluate_split, words
        from wikigpt.generate import load_model
        from wikigpt.runs import choose_run

        hardware.keep_freed_memory()
        device = hardware.choose_device(self.device)
        run = choose_run(settings.MODEL_DIR, self.run, self.model_config)
        logger.info(f"run: {run}")
        data = DataFolder(Path(run.config.data))
        if data.hash != run.config.data_hash:
            problem = f"{data.path} is not the data that {run.name} was trained on."
            raise ConfigError(problem, "Prepare that data again, or train on this.")
        machine = hardware.detect(device, run.config.dtype if device == run.config.device else None)
        model, tokenizer = load_model(run, device)
        score = evaluate_split(model, data, self.split, tokenizer.token_bytes, machine)
        logger.info(f"{self.split}: {words(score, bigram_score(data, self.split, tokenizer.token_bytes))}")
        return 0


@dataclass
class Generate:
    """Write text with a trained model. A base model continues text; it does not answer questions."""

    input: str | None = None
    """text to continue"""
    title: str | None = None
    """write the article of this title"""
    run: str | None = None
    """name or path of the run; the newest finished one unless given"""
    model_config: str | None = None
    """the newest finished run of this preset"""
    max_gen: int = 200
    """tokens at the most; an article may end before"""
    temperature: float = 0.8
    """0 takes the likeliest token always; above 1 is bolder than the model itself"""
    top_k: int | None = None
    """draw from the k likeliest tokens only"""
    top_p: float | None = None
    """draw from the likeliest tokens that together have this probability"""
    seed: int | None = None
    """the same seed gives the same text; drawn and shown unless given"""
    num_samples: int = 1
    """how many texts"""
    stream: bool = False
    """print the text while it is written"""
    device: str | None = None
    """cpu, cuda or mps; the best there is unless given"""

    def __call__(self, settings: Settings) -> int:
        from wikigpt import hardware
        from wikigpt.data.article import prompt
        from wikigpt.generate import Sampling, generate_text, load_model
        from wikigpt.runs import choose_run

        if (self.input is None) == (self.title is None):
            raise ConfigError("Nothing or too much to write about.", "Give one of --input TEXT and --title TITLE.")
        start = self.input if self.input is not None else prompt(self.title or "")
        seed = self.seed if self.seed is not None else secrets.randbelow(10_000)
        Sampling(self.max_gen, self.temperature, self.top_k, self.top_p, seed)  # a wrong flag is said before loading
        device = hardware.choose_device(self.device)
        run = choose_run(settings.MODEL_DIR, self.run, self.model_config)
        logger.info(f"run: {run}, seed {seed}")
        model, tokenizer = load_model(run, device)
        for number in range(self.num_samples):
            if number:
                print("\n---")
            sampling = Sampling(self.max_gen, self.temperature, self.top_k, self.top_p, seed + number)
            pieces = generate_text(model, tokenizer, start, sampling)
            if self.stream:
                print(start, end="", flush=True)
                for piece in pieces:
                    print(piece, end="", flush=True)
                print()
            else:
                print(start + "".join(pieces), flush=True)
        return 0
