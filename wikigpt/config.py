"""Every setting there is, with its name, its presets and its record.

    preset dict ──> flag ──> frozen dataclass ──> run.json

`MODEL_CONFIGS` and `TRAINING_SETTINGS` are plain dicts that a learner edits in the root's `config.py`; the dataclasses
are made straight from them: `ModelConfig(**MODEL_CONFIGS["gpt2_original"])`. A run's settings are kept in its run.json.
"""

import difflib
import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from wikigpt.errors import ConfigError

DATAFOLDER = "dataset"
MODEL_DIR = "models"


MODEL_CONFIGS: dict[str, dict[str, Any]] = {
    # For CPUs. A model's vocab_size follows the tokenizer of its data: the one here is that of our own small BPE.
    "tiny": {
        "vocab_size": 8192,
        "context_length": 128,
        "emb_dim": 128,
        "n_heads": 4,
        "n_layers": 2,
        "drop_rate": 0.0,
        "qkv_bias": True,
    },
    "small": {
        "vocab_size": 8192,
        "context_length": 256,
        "emb_dim": 256,
        "n_heads": 4,
        "n_layers": 4,
        "drop_rate": 0.0,
        "qkv_bias": True,
    },
    # The four sizes of GPT-2: 124, 355, 774 and 1,558 million parameters.
    "gpt2_original": {
        "vocab_size": 50257,
        "context_length": 1024,
        "emb_dim": 768,
        "n_heads": 12,
        "n_layers": 12,
        "drop_rate": 0.1,
        "qkv_bias": True,
    },
    "gpt2_medium": {
        "vocab_size": 50257,
        "context_length": 1024,
        "emb_dim": 1024,
        "n_heads": 16,
        "n_layers": 24,
        "drop_rate": 0.1,
        "qkv_bias": True,
    },
    "gpt2_large": {
        "vocab_size": 50257,
        "context_length": 1024,
        "emb_dim": 1280,
        "n_heads": 20,
        "n_layers": 36,
        "drop_rate": 0.1,
        "qkv_bias": True,
    },
    "gpt2_xl": {
        "vocab_size": 50257,
        "context_length": 1024,
        "emb_dim": 1600,
        "n_heads": 25,
        "n_layers": 48,
        "drop_rate": 0.1,
        "qkv_bias": True,
    },
}

TRAINING_SETTINGS: dict[str, dict[str, Any]] = {
    "Foundation better_quality": {
        "learning_rate": 2e-4,
        "num_epochs": 50,
        "batch_size": 4,
        "weight_decay": 0.01,
        "warmup_steps": 2000,
        "gradient_accumulation_steps": 8,
        "max_grad_norm": 1.0,
    },
    "fast": {
        "learning_rate": 1e-3,
        "num_epochs": 2,
        "batch_size": 4,
        "weight_decay": 0.1,
        "warmup_steps": 100,
        "gradient_accumulation_steps": 1,
        "max_grad_norm": 1.0,
    },
    # For models below 30 million parameters, from the grid in benchmarks/records.md.
    "small_models": {
        "optimizer": "muon",
        "learning_rate": 8e-3,
        "matrix_learning_rate": 0.014,
        "momentum": 0.9,
        "num_epochs": 3,
        "batch_size": 16,
        "weight_decay": 0.1,
        "warmup_steps": 25,
        "gradient_accumulation_steps": 1,
        "max_grad_norm": 1.0,
        "schedule": "wsd",
        "decay_share": 0.6,
    },
    # Half a million tokens a step, as GPT-3's small models were trained (Brown et al. 2020, table 2.1).
    "large_models": {
        "learning_rate": 6e-4,
        "num_epochs": 1,
        "batch_size": 16,
        "weight_decay": 0.1,
        "warmup_steps": 700,
        "gradient_accumulation_steps": 32,
        "max_grad_norm": 1.0,
    },
}


def _field(description: str, default: Any = ...) -> Any:
    metadata = {"help": description}
    return field(metadata=metadata) if default is ... else field(default=default, metadata=metadata)


def _require(condition: bool, problem: str, fix: str) -> None:
    if not condition:
        raise ConfigError(problem, fix)


def _check_types(settings: Any) -> None:
    """A preset is edited by hand: "1e-3" in quotes is no number, and 2.0 no whole one."""
    kinds = {int: "a whole number", float: "a number", bool: "True or False", str: "a word"}
    for f in fields(settings):
        value, fits = getattr(settings, f.name), int | float if f.type is float else f.type
        right = isinstance(value, fits) and (f.type is bool or not isinstance(value, bool))  # type: ignore[arg-type]
        _require(right, f"{f.name} is {value!r}.", f"Give {kinds[f.type]}.")  # type: ignore[index]
        _require(not isinstance(value, float) or math.isfinite(value), f"{f.name} is {value}.", "Give a finite number.")


ARCHS = ("gpt2", "qwen3")
ROPE_THETA = 10_000.0


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a GPT. Raises ConfigError where it cannot be."""

    vocab_size: int = _field("how many different tokens there are; follows the data's tokenizer unless given")
    context_length: int = _field("tokens that the model sees at once")
    emb_dim: int = _field("width of the stream that runs through the model")
    n_heads: int = _field("attention heads; must divide emb_dim where head_dim is not given")
    n_layers: int = _field("transformer blocks")
    drop_rate: float = _field("dropout probability while training")
    qkv_bias: bool = _field("whether query, key and value projections have a bias; only gpt2 can")
    arch: str = _field("gpt2, or qwen3: the modern one", "gpt2")
    n_kv_heads: int = _field("heads of keys and values, shared by the n_heads; as many unless given", 0)
    head_dim: int = _field("size of a head; emb_dim / n_heads unless given", 0)
    ffn_dim: int = _field("width inside the feed-forward; 4 times emb_dim unless given, with qwen3 3 times", 0)
    rope_theta: float = _field("how slowly the slowest pair of a head turns; qwen3 only", ROPE_THETA)
    tie_embeddings: bool = _field("whether the output head is the token embedding; gpt2's always is", True)

    def __post_init__(self) -> None:
        _check_types(self)
        for name in ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers"):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}.", "Give a whole number above 0.")
        if self.arch == "gpt2" or not self.head_dim:
            _require(
                self.emb_dim % self.n_heads == 0,
                f"emb_dim {self.emb_dim} cannot be shared out over n_heads {self.n_heads}.",
                f"Take a multiple of {self.n_heads} for --emb_dim, or another --n_heads.",
            )
        for name, value in self._follows().items():
            if not getattr(self, name):
                object.__setattr__(self, name, value)
        for name in ("n_kv_heads", "head_dim", "ffn_dim", "rope_theta"):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}.", "Give a number above 0.")
        _require(0 <= self.drop_rate < 1, f"drop_rate is {self.drop_rate}.", "Give a number from 0 to below 1.")
        _require(self.arch in ARCHS, f"There is no arch {self.arch!r}.", f"Take one of {', '.join(ARCHS)}.")
        if self.arch == "gpt2":
            self._check_gpt2()
        else:
            self._check_qwen3()

    def _follows(self) -> dict[str, int]:
        """What follows from the other fields, where it is not given."""
        wide = 4 if self.arch == "gpt2" else 3
        return {
            "n_kv_heads": self.n_heads,
            "head_dim": self.emb_dim // self.n_heads,
            "ffn_dim": wide * self.emb_dim,
        }

    def preset(self) -> dict[str, Any]:
        """The fields as a preset has them: without what follows from the others, so that these can be changed alone."""
        follows = self._follows()
        return {name: value for name, value in asdict(self).items() if follows.get(name) != value}

    def _check_gpt2(self) -> None:
        for name, value in (self._follows() | {"tie_embeddings": True, "rope_theta": ROPE_THETA}).items():
            fix = f"Give --{name} {value}, or take --arch qwen3."
            _require(getattr(self, name) == value, f"{name} is {getattr(self, name)}, and a GPT-2 has {value}.", fix)

    def _check_qwen3(self) -> None:
        _require(
            self.n_heads % self.n_kv_heads == 0,
            f"n_heads {self.n_heads} cannot be shared out over n_kv_heads {self.n_kv_heads}.",
            "Take a multiple of --n_kv_heads for --n_heads.",
        )
        _require(self.head_dim % 2 == 0, f"head_dim is {self.head_dim}.", "Give an even number: RoPE turns pairs.")
        _require(not self.qkv_bias, "qwen3 has no biases.", "Take --qkv_bias False.")
        _require(self.drop_rate == 0, "qwen3 has no dropout.", "Take --drop_rate 0.")

    @property
    def n_parameters(self) -> int:
        """How many numbers are learned. A tied output head is the token embedding and counts once; what only pads the
        vocabulary is not counted."""
        D, F, K = self.emb_dim, self.ffn_dim, self.head_dim
        head = 0 if self.tie_embeddings else self.vocab_size * D
        if self.arch == "qwen3":
            block = 2 * D + D * K * (2 * self.n_heads + 2 * self.n_kv_heads) + 2 * K + 3 * D * F
            return self.vocab_size * D + head + self.n_layers * block + D
        norms = 2 * 2 * D
        attention = 3 * D * D + 3 * D * self.qkv_bias + D * D + D
        feed_forward = D * F + F + F * D + D
        return (self.vocab_size + self.context_length) * D + self.n_layers * (norms + attention + feed_forward) + 2 * D

    @property
    def n_matrix_parameters(self) -> int:
        """How many of them stand in matrices that every token is multiplied with, the output head among them."""
        block = self.emb_dim * (2 * self.head_dim * (self.n_heads + self.n_kv_heads))
        block += self.emb_dim * self.ffn_dim * (2 if self.arch == "gpt2" else 3)
        return self.n_layers * block + self.vocab_size * self.emb_dim


HUB = "hf://"  # before USER/NAME@COMMIT, in `init_from`: weights that came from the hub

BACKENDS = ("plain", "kernels", "compiled")
PARALLEL = ("ddp", "fsdp")
SCHEDULES = ("cosine", "wsd", "constant")
OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained. Raises ConfigError where it cannot be."""

    learning_rate: float = _field("the highest learning rate, reached after the warm-up")
    num_epochs: float = _field("how often the whole training split is read, unless --max_steps or --hours is given")
    batch_size: int = _field("windows of context_length tokens per forward pass")
    weight_decay: float = _field("how strongly matrices are pulled towards zero")
    warmup_steps: int = _field("steps over which the learning rate rises from 0")
    gradient_accumulation_steps: int = _field("forward passes per optimiser step; the same as a larger batch")
    max_grad_norm: float = _field("gradients longer than this are shortened to it; 0 turns clipping off")
    schedule: str = _field("after the warm-up: cosine, wsd (stay, then fall to zero), constant", "cosine")
    decay_share: float = _field("of all steps, over which wsd falls", 0.2)
    tokens_per_parameter: float = _field(
        "end after so many tokens for each parameter, if that is before num_epochs; 0: never", 0.0
    )
    optimizer: str = _field("adamw, or muon for the matrices of the blocks and adamw for the rest", "adamw")
    matrix_learning_rate: float = _field("learning_rate of muon's matrices", 0.02)
    momentum: float = _field(
        "of muon: how much of the running mean of gradients stays at each step; less for short runs", 0.95
    )
    zero_init: bool = _field("begin with blocks that do nothing", False)

    def __post_init__(self) -> None:
        _check_types(self)
        for name in (
            "learning_rate",
            "matrix_learning_rate",
            "num_epochs",
            "batch_size",
            "gradient_accumulation_steps",
        ):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}.", "Give a number above 0.")
        _require(0 <= self.momentum < 1, f"momentum is {self.momentum}.", "Give a number from 0 to below 1.")
        for name in ("weight_decay", "warmup_steps", "max_grad_norm", "tokens_per_parameter"):
            _require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}.", "Give 0 or more.")
        known = ", ".join(SCHEDULES)
        _require(self.schedule in SCHEDULES, f"There is no schedule {self.schedule!r}.", f"Take one of {known}.")
        _require(0 < self.decay_share <= 1, f"decay_share is {self.decay_share}.", "Give a number above 0, up to 1.")
        known = ", ".join(OPTIMIZERS)
        _require(self.optimizer in OPTIMIZERS, f"There is no optimizer {self.optimizer!r}.", f"Take one of {known}.")

    @property
    def windows_per_step(self) -> int:
        """Windows whose gradients make one optimiser step: the global batch."""
        return self.batch_size * self.gradient_accumulation_steps

    def in_parts_of(self, batch_size: int) -> "TrainingSettings":
        """The same step in parts of so many windows, which must divide it."""
        return replace(self, batch_size=batch_size, gradient_accumulation_steps=self.windows_per_step // batch_size)


def modern(depth: int, vocab_size: int = 50257) -> tuple[dict[str, Any], dict[str, Any]]:
    """The modern model of so many layers, and how to train it on about as many tokens as its compute is best spent on: two
    presets. One number sets all the rest:

    - 64 numbers of width and one head of 64 per layer, a feed-forward three times as wide, and where the depth is even pairs
      of heads that share keys and values: 12 * D * D weights a layer, as in a GPT-2 (13 where it is odd). Width in step
      with depth: Kaplan et al. 2020, figure 5.
    - A small model (less than 8 layers) has an output head of its own, which costs no time and helped it most of all after
      Muon (benchmarks/records.md); a larger one's is tied, as those of the smaller Qwen3 are.
    - 20 tokens per parameter (Hoffmann et al. 2022, "Chinchilla", table 3), at the most 4 epochs: up to there text that
      comes again is worth nearly as much as new text (Muennighoff et al. 2023, figure 1).
    - 0.292 * C ** 0.3271 tokens a step for C FLOPs of training (Bi et al. 2024, "DeepSeek LLM", figure 3).
    - Muon's rate does not depend on the shape; AdamW's falls with the root of the width (Yang et al. 2022, "Tensor
      Programs V", between its input and output layers' rules, since the tied embedding is both). Small models gave the
      rates themselves: benchmarks/records.md.
    """
    _require(depth > 0, f"--depth is {depth}.", "Give 1 or more.")
    width, context = 64 * depth, 256 if depth < 8 else 1024
    model: dict[str, Any] = {
        "arch": "qwen3",
        "vocab_size": vocab_size,
        "context_length": context,
        "emb_dim": width,
        "n_heads": depth,
        "n_kv_heads": depth // 2 if depth % 2 == 0 else depth,
        "n_layers": depth,
        "drop_rate": 0.0,
        "qkv_bias": False,
        "tie_embeddings": depth >= 8,
    }
    parameters = ModelConfig(**model).n_parameters
    tokens = TOKENS_PER_PARAMETER * parameters
    windows = 0.292 * (6.0 * parameters * tokens) ** 0.3271 / context
    batch_size = 2 ** max(0, round(math.log2(windows)))
    training = {
        "optimizer": "muon",
        "learning_rate": float(f"{4e-3 * math.sqrt(768 / width):.1e}"),
        "matrix_learning_rate": 0.02,
        "num_epochs": 4,
        "tokens_per_parameter": TOKENS_PER_PARAMETER,
        "batch_size": batch_size,
        "weight_decay": 0.1,
        "warmup_steps": max(1, round(0.02 * tokens / batch_size / context)),
        "gradient_accumulation_steps": 1,
        "max_grad_norm": 1.0,
        "schedule": "wsd",
        "decay_share": 0.6,
    }
    return model, training


TOKENS_PER_PARAMETER = 20.0
MODERN = {"modern_tiny": (4, 8192), "modern_small": (6, 8192), "modern_124m": (12, 50257), "modern_350m": (18, 50257)}
MODERN |= {"modern_1b": (26, 50257)}

for _name, (_depth, _vocab_size) in MODERN.items():
    MODEL_CONFIGS[_name], _training = modern(_depth, _vocab_size)
    if _depth >= 12:  # smaller ones are trained in minutes, not on all that their size would bear: `small_models`
        TRAINING_SETTINGS[_name] = _training


@dataclass(frozen=True)
class RunConfig:
    """All that decides a run, as kept in its run.json. What is not here cannot have changed the result."""

    model_config: str  # name of the preset that `model` was made from
    training_setting: str
    model: ModelConfig
    training: TrainingSettings
    data: str  # path of the data folder
    data_hash: str  # SHA-256 of its manifest
    total_steps: int
    length: str  # where total_steps comes from, in words: "3 epochs", "0.05 hours", "500 steps"
    seed: int
    eval_every: int
    eval_tokens: int  # of the validation split, from its beginning, at every evaluation but the last
    save_every: int
    device: str
    dtype: str
    threads: int
    wikigpt_version: str
    torch_version: str
    tokenizer_hash: str = ""  # SHA-256 of its tokenizer.json
    keep_every: int | None = None  # steps between checkpoints that are kept for good
    init_from: str | None = None  # whose weights it began with, and the SHA-256 of these
    init_hash: str | None = None
    source: list[dict[str, Any]] = field(
        default_factory=list
    )  # of each data folder: whose text, and how it was prepared
    init_source: list[dict[str, Any]] = field(default_factory=list)  # the same of the run whose weights it began with
    hardware: str = ""  # what it runs on, in words
    backend: str = ""  # wikigpt/backend.py; "" of runs from before there was a choice, which were plain
    world_size: int = 1  # processes that share each step
    parallel: str = ""  # how: wikigpt/parallel.py; "" of a single process
    activation_checkpointing: bool = False
    log_to: str = ""  # where its metrics also go: wikigpt/trackers.py
    wikigpt_commit: str = ""  # of the clone that it was trained with; "" where that is not known

    @property
    def tokens_per_step(self) -> int:
        return self.training.windows_per_step * self.model.context_length

    @property
    def data_name(self) -> str:
        """Names of the data folders, without where they lie."""
        paths = [part.rpartition(":")[0] for part in self.data.split(",")] if "," in self.data else [self.data]
        return "+".join(Path(path).name for path in paths)

    @property
    def init_name(self) -> str | None:
        """Whose weights it began with, without where they lay: the name of a run or folder, or USER/NAME on the hub."""
        if self.init_from is None:
            return None
        on_hub = self.init_from.startswith(HUB)
        return (
            self.init_from.removeprefix(HUB).partition("@")[0]
            if on_hub
            else Path(self.init_from.replace("\\", "/")).name
        )

    def save(self, path: Path) -> None:
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> "RunConfig":
        """Reads a run.json. Raises ConfigError where it is not one."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            model, training = ModelConfig(**record.pop("model")), TrainingSettings(**record.pop("training"))
            loaded = cls(model=model, training=training, **record)
            if not all(
                isinstance(n, int) for n in (loaded.total_steps, loaded.seed, loaded.eval_every, loaded.save_every)
            ):
                raise TypeError("a number of steps is no whole number")
            return loaded
        except (OSError, ValueError, TypeError, KeyError, AttributeError, ConfigError) as error:
            raise ConfigError(f"{path} is not a readable run.json ({error}).", "Name another run.") from error


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Every field in which two runs differ, each as "name: old -> new"."""
    before, after = flat(asdict(old)), flat(asdict(new))
    return [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of model and training beside those of the run; no name stands in two of them."""
    found: dict[str, Any] = {}
    for name, value in record.items():
        found |= flat(value) if isinstance(value, Mapping) else {name: value}
    return found


Settings = TypeVar("Settings", ModelConfig, TrainingSettings)


def from_preset(
    kind: type[Settings], presets: Mapping[str, Mapping[str, Any]], name: str, changes: Mapping[str, Any]
) -> Settings:
    """The preset called `name` with `changes` laid over it. Raises ConfigError for an unknown preset or key."""
    if name not in presets:
        near = difflib.get_close_matches(name, presets, n=1, cutoff=0.3)
        meant = f"Did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"There is no preset {name!r}.", f"{meant}Known: {', '.join(repr(p) for p in presets)}.")
    values = {**presets[name], **changes}
    known = {f.name for f in fields(kind)}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise ConfigError(f"Preset {name!r} has an unknown key {key!r}.", f"Did you mean {near[0]!r}?")
    missing = {f.name for f in fields(kind) if f.name not in values and f.default is MISSING}
    if missing:
        raise ConfigError(f"Preset {name!r} lacks {', '.join(sorted(missing))}.", "Add it in config.py.")
    return kind(**values)


def remove_folder(path: Path) -> None:
    """Removes a folder under another name: a kill in between leaves nothing that looks whole."""
    if path.exists():
        going = path.with_name(f".{path.name}.old")
        shutil.rmtree(going, ignore_errors=True)
        path.rename(going)
        shutil.rmtree(going)


def write_json(path: Path, record: Any) -> None:
    """Writes JSON so that a reader sees the old file or the whole new one, never half of it."""
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes text so that a reader sees the old file or the whole new one, never half of it."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def hub_token() -> str | None:
    """HF_TOKEN of the environment, or of the .env in the working folder. Never written or shown anywhere. Raises ConfigError
    where it cannot be one."""
    from dotenv import dotenv_values

    try:
        found = os.environ.get("HF_TOKEN") or dotenv_values(".env").get("HF_TOKEN") or ""
    except UnicodeDecodeError:
        raise ConfigError(".env is not UTF-8.", "Write it again with an editor, as: HF_TOKEN=...") from None
    token = found.strip()
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigError("HF_TOKEN is no token: it holds spaces or other signs.", "Copy it again.")
    return token or None
