"""Weights to begin with: of a run of ours, an exported folder, or OpenAI's GPT-2, on this machine or on the hub.

--init_from NAME ──> a run, or a folder with config.json and safetensors, or USER/NAME on the hub ──> Pretrained
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wikigpt import tokenizer as tokenizers
from wikigpt.checkpoint import WEIGHTS, find_checkpoint
from wikigpt.config import HUB, ModelConfig, hub_token
from wikigpt.data.shards import file_hash
from wikigpt.errors import ConfigError, DataError, HubError, RunError
from wikigpt.export.gpt2_names import from_gpt2
from wikigpt.export.qwen3_names import from_qwen3
from wikigpt.export.trained import ORIGIN, read_origin, without_padding
from wikigpt.runs import read_run, run_path
from wikigpt.tokenizer import TOKENIZER

INDEX = f"{WEIGHTS}.index.json"
WANTED = ["config.json", "*.safetensors", INDEX, TOKENIZER, ORIGIN]  # of a repository on the hub


@dataclass(frozen=True)
class Pretrained:
    """Weights to begin with, and what they are of."""

    name: str
    path: str
    config: ModelConfig
    weights: dict[str, Tensor]
    tokenizer: Path | None  # None where the folder has none
    hash: str  # SHA-256 of the first file of weights
    source: list[dict[str, Any]] = field(default_factory=list)  # the text that they were trained on, where it is known

    def __getstate__(self) -> dict[str, Any]:
        """What other ranks are told: not the weights, of which each gets its part (checkpoint.fill)."""
        return self.__dict__ | {"weights": {}}

    def check_tokenizer(self, folder: Path) -> None:
        """Raises DataError where the data was prepared with another tokenizer."""
        if self.tokenizer is not None:
            mine, datas = tokenizers.load(self.tokenizer), tokenizers.load(folder)
            if not mine.gives_the_ids_of(datas):
                problem = f"{folder.parent} was prepared with another tokenizer than {self.path} was trained with."
                raise DataError(problem, f"Prepare it as before, but with: --tokenizer {self.tokenizer} --fresh")

    def check_shape(self, config: ModelConfig) -> None:
        """Raises ConfigError naming every field in which a model of these weights must differ."""
        ours, asked = asdict(self.config), asdict(config)
        free = {"drop_rate"} if self.config.arch == "gpt2" else {"context_length"}  # RoPE has no weights for positions
        wrong = [f"{k} {ours[k]}, not {asked[k]}" for k in ours if k not in free and ours[k] != asked[k]]
        if wrong:
            raise ConfigError(f"The model in {self.path} has {', '.join(wrong)}.", "Leave out what asks for another.")


def read_pretrained(model_dir: str, source: str) -> Pretrained:
    """The weights of a run (its newest checkpoint), or of a GPT-2 as Hugging Face has it: a folder, or a repository of the
    hub. Raises RunError where there are none, HubError where the hub does not give them."""
    run = run_path(model_dir, source)
    if (run / "run.json").exists():
        config, file = read_run(run).config, find_checkpoint(run, "latest") / WEIGHTS
        texts = config.source + config.init_source
        return Pretrained(run.name, str(run), config.model, load_file(file), run / "tokenizer", file_hash(file), texts)
    path, name = Path(source), source.removeprefix(HUB)
    if not path.exists() and re.fullmatch(r"(gpt2(-medium|-large|-xl)?|[\w.-]+/[\w.-]+)(@[\w.-]+)?", name):
        name, _, revision = (name if "/" in name else f"openai-community/{name}").partition("@")
        path = _download(name, revision or None)
        source = f"{HUB}{name}@{path.name}"  # the commit: a name alone can come to mean something else
    if not (path / "config.json").exists():
        problem = f"{source} is neither a run nor a folder with a config.json."
        raise RunError(problem, "Name a run, the folder of a GPT-2 or Qwen3, or one on the hub (gpt2, USER/NAME).")
    return _read_folder(path, source)


def _read_folder(path: Path, source: str) -> Pretrained:
    try:
        record = json.loads((path / "config.json").read_text(encoding="utf-8"))
        config = _model_config(path, record)
        files = _weight_files(path)
        theirs = {name: tensor for file in files for name, tensor in load_file(file).items()}
        numbered = re.compile(r"(?:transformer\.h|h|model\.layers)\.(\d+)\.")
        blocks = {int(found[1]) for name in theirs if (found := numbered.match(name))}
        if len(blocks) != config.n_layers:
            raise ValueError(f"{len(blocks)} blocks, where config.json has {config.n_layers}")
        ours = (from_gpt2 if config.arch == "gpt2" else from_qwen3)(theirs, config)
        weights = {name: tensor.float() for name, tensor in ours.items()}
        tokenizer = path / TOKENIZER if (path / TOKENIZER).exists() else None
        if tokenizer is not None and (ids := tokenizers.load(tokenizer).vocab_size) < config.vocab_size:
            weights = without_padding(weights, ids)
            config = ModelConfig(**asdict(config) | {"vocab_size": ids})
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        raise RunError(f"{path} holds no readable model ({type(error).__name__}: {error}).", "Get it again.") from error
    name = source.rpartition("/")[2].partition("@")[0] if source.startswith(HUB) else path.resolve().name
    return Pretrained(name, source, config, weights, tokenizer, file_hash(files[0]), read_origin(path))


def _weight_files(path: Path) -> list[Path]:
    """All files of weights: one, or those that an index names."""
    if (path / INDEX).exists() and not (path / WEIGHTS).exists():
        names = json.loads((path / INDEX).read_text(encoding="utf-8"))["weight_map"].values()
        return [path / name for name in dict.fromkeys(sorted(names))]
    return [path / WEIGHTS]


def _download(repository: str, revision: str | None) -> Path:
    """A repository of the hub, in the cache that all Hugging Face libraries share: the folder of a commit."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
    except ImportError as error:
        problem = "Reading from the hub needs huggingface_hub."
        raise ConfigError(problem, "Run: pip install -r requirements.txt") from error
    missing = f"{repository} is no run or folder here"
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=WANTED, token=hub_token()))
    except RepositoryNotFoundError:
        why = "the hub has none of that name, or it is private"
        raise HubError(f"{missing}, and {why}.", "Check the name; a private one needs HF_TOKEN.") from None
    except RevisionNotFoundError:
        raise HubError(f"{repository} has no revision {revision}.", "Name a branch or commit that it has.") from None
    except LocalEntryNotFoundError:
        problem = f"{missing}, and the hub is out of reach."
        raise HubError(problem, "Check the name and the network, or name a folder that holds it.") from None
    except Exception as error:  # whatever the hub's client and the network raise
        problem = f"{missing}, and the hub does not give it ({type(error).__name__}: {' '.join(str(error).split())})."
        raise HubError(problem, "Check the name, or name a folder that holds it.") from None


def _model_config(path: Path, record: Mapping[str, Any]) -> ModelConfig:
    """Our name for each field of a GPT2Config or Qwen3Config."""
    return (_qwen3 if record.get("model_type") == "qwen3" else _gpt2)(path, record)


def _qwen3(path: Path, record: Mapping[str, Any]) -> ModelConfig:
    rope = record.get("rope_parameters") or record.get("rope_scaling") or {}
    plain = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "attention_bias": False, "use_sliding_window": False}
    odd = [f"{key} {record[key]}" for key, value in plain.items() if record.get(key, value) != value]
    if (kind := rope.get("rope_type", rope.get("type", "default"))) != "default":
        odd.append(f"rope_type {kind}")
    if others := set(record.get("layer_types") or ()) - {"full_attention"}:
        odd.append(f"layer_types {', '.join(sorted(others))}")
    if odd:
        raise RunError(f"{path} is no plain Qwen3 ({', '.join(odd)}).", "Take a GPT-2, a Qwen3, or a run of ours.")
    return ModelConfig(
        vocab_size=record["vocab_size"],
        context_length=record["max_position_embeddings"],
        emb_dim=record["hidden_size"],
        n_heads=record["num_attention_heads"],
        n_layers=record["num_hidden_layers"],
        drop_rate=0.0,
        qkv_bias=False,
        arch="qwen3",
        n_kv_heads=record["num_key_value_heads"],
        head_dim=record["head_dim"],
        ffn_dim=record["intermediate_size"],
        rope_theta=float(rope.get("rope_theta") or record["rope_theta"]),
        tie_embeddings=record.get("tie_word_embeddings", False),
    )


def _gpt2(path: Path, record: Mapping[str, Any]) -> ModelConfig:
    plain = {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True}
    plain |= {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}
    odd = [f"{key} {record[key]}" for key, value in plain.items() if record.get(key, value) != value]
    if record.get("model_type") != "gpt2":
        odd = [f"model_type {record.get('model_type')}"]
    if odd or record.get("n_inner") not in (None, 4 * record["n_embd"]):
        raise RunError(
            f"{path} is no plain GPT-2 ({', '.join(odd) or 'n_inner'}).", "Take a GPT-2, a Qwen3, or a run of ours."
        )
    return ModelConfig(
        vocab_size=record["vocab_size"],
        context_length=record["n_positions"],
        emb_dim=record["n_embd"],
        n_heads=record["n_head"],
        n_layers=record["n_layer"],
        drop_rate=record.get("resid_pdrop", 0.1),
        qkv_bias=True,
    )
