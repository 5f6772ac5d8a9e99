"""What is published of a run: one checkpoint's weights and the tokenizer that goes with them, checked.

models/<run>/ ──> Trained ──> huggingface.py, gguf.py, html.py, card.py
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from wikigpt import tokenizer as tokenizers
from wikigpt.checkpoint import WEIGHTS, find_checkpoint
from wikigpt.config import ModelConfig, write_json
from wikigpt.errors import RunError
from wikigpt.runs import Run, checkpoints
from wikigpt.tokenizer import Tokenizer
from wikigpt.transformer import GPTModel


@dataclass(frozen=True)
class Trained:
    """A trained model, under our names and in float32. `config` and `weights` have exactly one row for each of the
    tokenizer's ids: what was padded for speed is cut off, so that no runtime can ever draw it."""

    run: Run
    checkpoint: Path
    config: ModelConfig
    weights: dict[str, Tensor]
    tokenizer: Tokenizer

    @property
    def step(self) -> int:
        return int(self.checkpoint.name.rpartition("_")[2])

    @property
    def name(self) -> str:
        """wikigpt-<lang>-<size>: wikigpt-pt-124M"""
        languages = list(dict.fromkeys(part["wiki"] for part in self.run.config.source if part["wiki"]))
        words = ["wikigpt", *(languages or [_word(self.run.config.data_name)]), size(self.config.n_parameters)]
        return "-".join(words)[:96]


Dtype = Literal["float32", "bfloat16", "float16"]
GGUF = Literal["f32", "f16", "q8_0"]


@dataclass(frozen=True)
class Form:
    """What is written beside the card: weights in this dtype, in files of at most this size; GGUF files; a page."""

    dtype: Dtype = "float32"
    max_shard_size: str = "5GB"
    gguf: tuple[GGUF, ...] = ()
    html: bool = False

    @property
    def flags(self) -> list[str]:
        """What the command needs for it."""
        words = ["--dtype", self.dtype] if self.dtype != "float32" else []
        words += ["--max_shard_size", self.max_shard_size] if self.max_shard_size != "5GB" else []
        words += ["--gguf", *self.gguf] if self.gguf else []
        return words + (["--html"] if self.html else [])


def read_trained(run: Run, checkpoint: str = "latest") -> Trained:
    """A checkpoint of a run. Raises RunError where there is none, where it is damaged, where its weights are not those of
    its run.json, or where the run's tokenizer is not the one that it was trained with."""
    path = find_checkpoint(run.path, checkpoint)
    if path.name.startswith("aside_"):
        problem = f"{path} is of a run that has since gone on otherwise: its figures are no longer known."
        raise RunError(
            problem, f"Take a checkpoint of the run as it is: {', '.join(c.name for c in checkpoints(run.path))}."
        )
    tokenizer = tokenizers.load(run.path / "tokenizer")
    rows, ids = run.config.model.vocab_size, tokenizer.vocab_size
    if ids > rows or run.config.tokenizer_hash not in ("", tokenizer.sha256):
        problem = f"{run.path / 'tokenizer'} is not the tokenizer that {run.name} was trained with"
        why = f" ({ids:,} ids, the model has {rows:,})" if ids != rows else ""
        raise RunError(f"{problem}{why}.", f"Copy that of its data ({run.config.data}/tokenizer) back.")
    weights = load_file(path / WEIGHTS)
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in GPTModel(run.config.model).state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} != wanted:
        problem = f"The weights in {path} are of another model than its run.json."
        raise RunError(problem, "Restore run.json, or export another run.")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise RunError(f"The weights in {path} are no longer numbers.", "Take an earlier --checkpoint.")
    return Trained(run, path, replace(run.config.model, vocab_size=ids), without_padding(weights, ids), tokenizer)


ORIGIN = "wikigpt.json"


def write_origin(trained: Trained, folder: Path) -> None:
    """Writes wikigpt.json: from which run and text the weights are, for whoever begins with them."""
    run = trained.run.config
    record = {"run": trained.run.name, "step": trained.step, "tokens": trained.step * run.tokens_per_step}
    record |= {"wikigpt_version": run.wikigpt_version, "wikigpt_commit": run.wikigpt_commit}
    write_json(folder / ORIGIN, record | {"source": [*run.source, *run.init_source]})


def read_origin(folder: Path) -> list[dict[str, Any]]:
    """The text that the weights in an exported folder were trained on; nothing where it does not say."""
    try:
        return list(json.loads((folder / ORIGIN).read_text(encoding="utf-8"))["source"])
    except (OSError, ValueError, LookupError, TypeError):
        return []


def without_padding(weights: dict[str, Tensor], vocab_size: int) -> dict[str, Tensor]:
    """The same weights with a row of the token embedding and of the output head for each id and no more."""
    rows = ("tok_emb.weight", "out_head.weight")
    return weights | {name: weights[name][:vocab_size].contiguous() for name in rows if name in weights}


def size(n_parameters: int) -> str:
    """A number of parameters as names of models have it: 0.7M, 124M, 1.6B."""
    number, unit = (n_parameters / 1e9, "B") if n_parameters >= 999.5e6 else (n_parameters / 1e6, "M")
    return f"{number:.1f}{unit}" if number < 9.95 else f"{number:.0f}{unit}"


def _word(text: str) -> str:
    """What a repository on the hub can be called."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "text"
