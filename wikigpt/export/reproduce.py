"""The commands that make a run again.

run.json ──> wikigpt prepare ..., wikigpt train ...
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wikigpt.config import HUB, MODEL_CONFIGS, TRAINING_SETTINGS, ModelConfig, RunConfig, TrainingSettings, modern
from wikigpt.data.shards import MOST_FILES


def commands(config: RunConfig, run: str, steps: int, flags: Sequence[str]) -> list[str]:
    """One command for each data folder, one that trains, and one that exports, with flags of its own."""
    export = ["wikigpt", "export", "--run", run]
    export += ["--checkpoint", str(steps)] if steps < config.total_steps else []
    prepare = [prepare_command(part) for part in config.source]
    return [*prepare, train_command(config, run, steps), shlex.join([*export, *flags])]


def prepare_command(part: dict[str, Any]) -> str:
    """How a data folder was made. What only its maker has stands in capitals: files of one's own."""
    settings, kind = part.get("settings", {}), part.get("kind", "")
    if not kind:
        return f"# how {part['name']} was prepared was not recorded yet by the version that trained on it"
    words = ["wikigpt", "prepare", *_source_flags(part, kind), "--name", part["name"]]
    tokenizer = str(settings.get("tokenizer", ""))
    words += ["--tokenizer", "TOKENIZER.json" if tokenizer.startswith("sha256") else tokenizer] if tokenizer else []
    words += ["--vocab_size", str(settings["vocab_size"])] if tokenizer == "bpe" else []
    for name in ("held_out", "max_articles"):
        words += [f"--{name}", str(settings[name])] if settings.get(name) is not None else []
    words += ["--hold_out", "TITLES.txt"] if settings.get("hold_out") else []
    if kind == "files":  # its cleaner names the fields that were read
        for name, value in re.findall(r"(\w+)=(.*?)(?=, \w+=|\)$)", part.get("cleaner", "")):
            words += [f"--{name}_field", value]
        words += ["--licence", part["licence"]]
    return shlex.join(words)


def _source_flags(part: dict[str, Any], kind: str) -> list[str]:
    names = [file["name"] for file in part.get("files", [])]
    names = names if len(names) < MOST_FILES else []
    wiki = ["--wiki", part["wiki"]] if part["wiki"] else []
    if kind == "sample":
        return ["--source", "sample", *wiki]
    if kind == "hf":
        dataset, folder = f"{part['origin']}, , ".split(", ")[:2]
        date = ["--date", folder.split(".")[0]] if re.match(r"\d{8}\.", folder) else []
        return ["--source", "hf", *wiki, "--dataset", dataset, *date]
    if kind == "dump" and (official := re.match(r"\w+wiki-([\d-]{8,10})-p", names[0] if names else "")):
        return [*wiki, "--date", official[1].replace("-", "")]
    return ["--path", *(names or ["FILES"]), *wiki]


def train_command(config: RunConfig, run: str, steps: int) -> str:
    """How a run was trained: its presets, and each setting in which it differs from them. A checkpoint that is not the last
    one is kept."""
    models, trainings = dict(MODEL_CONFIGS), dict(TRAINING_SETTINGS)
    if depth := re.fullmatch(r"depth_(\d+)", config.model_config):
        models[config.model_config], trainings[config.model_config] = modern(int(depth[1]), config.model.vocab_size)
    training = config.training_setting if config.training_setting in trainings else "fast"
    words = ["wikigpt", "train", "--data", data_names(config), "--run", run]
    words += ["--depth", depth[1]] if depth else []
    if config.init_from and not depth:  # the shape is that of the weights
        differing = {"drop_rate": config.model.drop_rate, "context_length": config.model.context_length}
    else:
        model = config.model_config if config.model_config in models else "tiny"
        words += [] if depth else ["--model_config", model]
        preset = asdict(ModelConfig(**models[model]))
        kept = config.model.preset().keys() | models[model].keys()
        follows = [name for name in preset if name not in kept]
        differing = _other(asdict(config.model), preset, leave_out=("vocab_size", *follows))
    words += ["--init_from", _beginning(config)] if config.init_from else []
    words += ["--training_setting", training] if not depth or training != config.model_config else []
    words += ["--max_steps", str(config.total_steps), "--seed", str(config.seed)]
    preset = asdict(TrainingSettings(**trainings[training]))
    differing |= _other(asdict(config.training), preset, leave_out=("num_epochs", "tokens_per_parameter"))
    # Said even where the preset has the same: without them another machine would cut its steps into other parts.
    for name in ("batch_size", "gradient_accumulation_steps"):
        differing[name] = getattr(config.training, name)
    for name, value in differing.items():
        words += [f"--{name}", str(value)]
    words += ["--device", config.device, "--dtype", config.dtype]
    words += ["--threads", str(config.threads)] if config.device == "cpu" else []
    words += ["--backend", config.backend] if config.backend else []
    words += ["--keep_every", str(steps)] if steps < config.total_steps else []
    return shlex.join(words)


def _beginning(config: RunConfig) -> str:
    """Where the first weights are: on the hub at a commit, in a run or an export, or elsewhere on its maker's disk."""
    named = config.init_from or ""
    elsewhere = not named.startswith(HUB) and (Path(named).is_absolute() or named.startswith("..") or ":" in named)
    return f"PATH/TO/{config.init_name}" if elsewhere else named


def _other(values: dict[str, Any], preset: dict[str, Any], leave_out: tuple[str, ...]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k not in leave_out and (k not in preset or preset[k] != v)}


def data_names(config: RunConfig) -> str:
    """The names of the folders, without where they lay."""
    if "," not in config.data:
        return Path(config.data).name
    parts = [item.rpartition(":") for item in config.data.split(",")]
    return ",".join(f"{Path(path).name}:{share}" for path, _, share in parts)
