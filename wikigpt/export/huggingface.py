"""A model as the Hugging Face libraries know it, both ways.

a run          ──>  a folder that AutoModelForCausalLM and AutoTokenizer load without code of ours
such a folder  ──>  Pretrained, for --init_from
"""

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wikigpt import tokenizer as tokenizers
from wikigpt import transformer
from wikigpt.checkpoint import WEIGHTS, find_checkpoint, save_tensors
from wikigpt.config import ModelConfig, write_json, write_text
from wikigpt.data.shards import file_hash
from wikigpt.errors import ConfigError, DataError, RunError
from wikigpt.export.card import model_card
from wikigpt.export.gpt2_names import from_gpt2, to_gpt2
from wikigpt.runs import Run, read_run, run_path
from wikigpt.tokenizer import TOKENIZER, Tokenizer


def gpt2_config(config: ModelConfig, end_of_text: int) -> dict[str, Any]:
    """The fields of transformers' GPT2Config that say the same as ours."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_embd": config.emb_dim,
        "n_head": config.n_heads,
        "n_layer": config.n_layers,
        "embd_pdrop": config.drop_rate,
        "attn_pdrop": config.drop_rate,
        "resid_pdrop": config.drop_rate,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
    }


CUSTOM = "modeling_gpt2_custom.py"
FILES = {
    "README.md",
    "config.json",
    "generation_config.json",
    WEIGHTS,
    CUSTOM,
    TOKENIZER,
    "tokenizer_config.json",
}


def export(run: Run, checkpoint: str, folder: Path) -> list[str]:
    """Writes a run's checkpoint into a folder, whole or not at all, and returns the names of its files. An older export
    there is replaced. Raises RunError where something else is there."""
    folder = folder.resolve()
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if there - FILES:
        problem = f"{folder} is there and holds what is no export ({', '.join(sorted(there - FILES)[:3])})."
        raise RunError(problem, "Move that away, or name another folder with --folder.")
    weights = load_file(find_checkpoint(run.path, checkpoint) / WEIGHTS)
    tokenizer = tokenizers.load(run.path / "tokenizer")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    stock = to_gpt2(weights, run.config.model)
    del stock["lm_head.weight"]  # tied: the same tensor as the embedding
    save_tensors(stock, partial / WEIGHTS, metadata={"format": "pt"})
    config = gpt2_config(run.config.model, tokenizer.end_of_text)
    config |= {"dtype": "float32", "auto_map": {"AutoModelForCausalLM": "modeling_gpt2_custom.GPT2CustomLMHeadModel"}}
    write_json(partial / "config.json", config)
    end = {"bos_token_id": tokenizer.end_of_text, "eos_token_id": tokenizer.end_of_text}
    length = min(200, run.config.model.context_length // 2)  # what the stock class cannot read it cannot write
    sampling = {"do_sample": True, "temperature": 0.8, "top_k": 50, "max_new_tokens": length}
    write_json(partial / "generation_config.json", end | sampling)
    _write_tokenizer(tokenizer, run.config.model.context_length, partial)
    write_text(partial / CUSTOM, custom_code())
    write_text(partial / "README.md", model_card(run))
    if folder.exists():
        shutil.rmtree(folder)
    partial.rename(folder)
    return sorted(path.name for path in folder.iterdir())


def _write_tokenizer(tokenizer: Tokenizer, context_length: int, folder: Path) -> None:
    record = json.loads(tokenizer.json)  # without what another model wants before or behind its text
    record |= {"post_processor": record["decoder"], "truncation": None, "padding": None}
    write_text(folder / TOKENIZER, json.dumps(record, ensure_ascii=False, indent=1) + "\n")
    end = next(word for word, number in tokenizer.special.items() if number == tokenizer.end_of_text)
    record = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "bos_token": end,
        "eos_token": end,
        "unk_token": end,
        "split_special_tokens": True,  # "<|endoftext|>" in a text is thirteen characters
        "clean_up_tokenization_spaces": False,
    }
    write_json(folder / "tokenizer_config.json", record)


def custom_code() -> str:
    """The content of modeling_gpt2_custom.py: `wikigpt/transformer.py`, and behind it the two files that transformers
    wants, without their headers and what they import from us."""
    code = Path(transformer.__file__).read_text(encoding="utf-8")
    code += "\n\n# For transformers: the same model behind the interface of its Auto classes.\n"
    for name in ("gpt2_names.py", "modeling.py"):
        part = Path(__file__).with_name(name).read_text(encoding="utf-8")
        part = re.sub(r'\A""".*?"""\n', "", part, flags=re.DOTALL)
        code += re.sub(r"(?m)^from wikigpt\..*\n\n?", "", part)
    return code


@dataclass(frozen=True)
class Pretrained:
    """Weights to begin with, and what they are of."""

    name: str
    path: str
    config: ModelConfig
    weights: dict[str, Tensor]
    tokenizer: Path | None  # None where the folder has none
    hash: str  # SHA-256 of the file of weights

    def check_tokenizer(self, folder: Path) -> None:
        """Raises DataError where the data was prepared with another tokenizer."""
        if self.tokenizer is not None:
            mine, datas = tokenizers.load(self.tokenizer), tokenizers.load(folder)
            if not mine.gives_the_ids_of(datas):
                problem = f"{folder.parent} was prepared with another tokenizer than {self.path} was trained with."
                raise DataError(problem, f"Prepare it with: wikigpt prepare --tokenizer {self.tokenizer} --fresh")

    def check_shape(self, config: ModelConfig) -> None:
        """Raises ConfigError naming every field in which a model of these weights must differ."""
        ours, asked = asdict(self.config), asdict(config)
        wrong = [f"{k} {ours[k]}, not {asked[k]}" for k in ours if k != "drop_rate" and ours[k] != asked[k]]
        if wrong:
            raise ConfigError(f"The model in {self.path} has {', '.join(wrong)}.", "Leave out what asks for another.")


def read_pretrained(model_dir: str, source: str) -> Pretrained:
    """The weights of a run (its newest checkpoint) or of a Hugging Face folder of a GPT-2. Raises RunError where there are
    none."""
    path, run = Path(source), run_path(model_dir, source)
    if (run / "run.json").exists():
        found, file = read_run(run), find_checkpoint(run, "latest") / WEIGHTS
        return Pretrained(found.name, str(run), found.config.model, load_file(file), run / "tokenizer", file_hash(file))
    if not (path / "config.json").exists():
        problem = f"{source} is neither a run nor a folder with a config.json."
        raise RunError(problem, "Name a run, or the folder of a downloaded GPT-2.")
    try:
        record = json.loads((path / "config.json").read_text(encoding="utf-8"))
        config = _model_config(path, record)
        weights = from_gpt2(load_file(path / WEIGHTS), config)
        weights = {name: tensor.float() for name, tensor in weights.items()}
    except (OSError, ValueError, LookupError, SafetensorError) as error:
        raise RunError(f"{path} holds no readable GPT-2 ({type(error).__name__}: {error}).", "Get it again.") from error
    tokenizer = path / TOKENIZER if (path / TOKENIZER).exists() else None
    return Pretrained(path.resolve().name, source, config, weights, tokenizer, file_hash(path / WEIGHTS))


def _model_config(path: Path, record: Mapping[str, Any]) -> ModelConfig:
    """Our name for each field of a GPT2Config."""
    plain = {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True}
    odd = [f"{key} {record[key]}" for key, value in plain.items() if record.get(key, value) != value]
    if record.get("model_type") != "gpt2":
        odd = [f"model_type {record.get('model_type')}"]
    if odd or record.get("n_inner") not in (None, 4 * record["n_embd"]):
        raise RunError(f"{path} is no plain GPT-2 ({', '.join(odd) or 'n_inner'}).", "Take a GPT-2, or a run of ours.")
    return ModelConfig(
        vocab_size=record["vocab_size"],
        context_length=record["n_positions"],
        emb_dim=record["n_embd"],
        n_heads=record["n_head"],
        n_layers=record["n_layer"],
        drop_rate=record.get("resid_pdrop", 0.1),
        qkv_bias=True,
    )
