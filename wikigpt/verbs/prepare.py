"""`wikigpt prepare`"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from loguru import logger

from wikigpt.config import ModelConfig, from_preset
from wikigpt.errors import ConfigError
from wikigpt.verbs.common import Common, Outcome, Settings, check_name

if TYPE_CHECKING:
    from wikigpt.data.prepare import PrepareSettings
    from wikigpt.data.sources import Source


@dataclass
class Prepare:
    """Turn text into tokens: dataset/<name>/. The same command again continues an interrupted preparation."""

    wiki: str | None = None
    """language code; the bundled sample has en (unless given), es, fr. With --source files: text of that Wikipedia"""
    name: str | None = None
    """name of the data folder; the language code, or the first file's name, unless given"""
    source: Literal["sample", "files"] | None = None
    """sample: the first paragraphs of the most vital articles, which a package carries. files: those of --path"""
    path: tuple[Path, ...] = ()
    """.txt, .jsonl, .parquet (the first two also .gz), or folders of them. One article per record; in .txt per block
    between blank lines"""
    text_field: str = "text"
    """field of a record that holds the text"""
    title_field: str | None = None
    """field with the title; "title", where there is one, unless given"""
    id_field: str | None = None
    """field with the id; "id", where there is one, unless given"""
    url_field: str | None = None
    """field with the address; "url", where there is one, unless given"""
    licence: str = "not stated"
    """licence of your files, for the manifest and the report"""
    tokenizer: str | None = None
    """gpt2: its 50,257 tokens; bpe: train one on this text; or the path of a byte-level BPE's tokenizer.json. Unless
    given, gpt2 for --wiki en, and bpe otherwise and for the sample"""
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
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt.data.prepare import default_workers, prepare

        workers = default_workers() if self.workers is None else self.workers
        if workers < 1:
            raise ConfigError(f"workers is {workers}.", "Give 1 or more.")
        source = self.make_source()
        name = self.name or self.wiki or (self.path[0].name.split(".")[0] if self.path else "en")
        check_name(name, "--name", without=",:")  # which part a mixture
        folder = Path(settings.DATAFOLDER) / name
        data = prepare(source, self.make_settings(settings, source), folder, workers, self.fresh)
        manifest = data.manifest
        for split, counts in manifest["splits"].items():
            logger.info(f"{split:10} {counts['articles']:>9,} articles {counts['tokens']:>12,} tokens")
        if manifest["dropped"]:
            logger.info("dropped    " + ", ".join(f"{n:,} {reason}" for reason, n in manifest["dropped"].items()))
        logger.info(f"prepared: {folder} (licence: {manifest['source']['licence']})")
        kept = ("wiki", "tokenizer", "splits", "dropped")
        return Outcome({"data": data.name, "folder": str(folder)} | {key: manifest[key] for key in kept})

    def make_source(self) -> "Source":
        """The source that the flags name."""
        from wikigpt.data import sources

        if self.path and self.source == "sample":
            raise ConfigError("--path is for --source files.", "Leave out one of them.")
        if self.path:
            fields = sources.Fields(self.text_field, self.title_field, self.id_field, self.url_field)
            return sources.files(self.path, self.wiki or "", fields, self.licence)
        if self.source == "files":
            raise ConfigError("--source files needs files.", "Name them with --path FILE_OR_FOLDER.")
        return sources.sample(self.wiki or "en")

    def make_settings(self, settings: Settings, source: "Source") -> "PrepareSettings":
        """The settings that the flags and the source give."""
        from wikigpt.data.prepare import PrepareSettings, bpe_vocab_size, default_held_out, default_tokenizer

        tokenizer = self.tokenizer or default_tokenizer(source.wiki, source.name)
        vocab_size = self.vocab_size or 8192
        if self.model_config is not None and self.vocab_size is None:
            vocab_size = bpe_vocab_size(from_preset(ModelConfig, settings.MODEL_CONFIGS, self.model_config, {}))
        if tokenizer != "bpe":
            if self.vocab_size is not None and (tokenizer, self.vocab_size) != ("gpt2", 50257):
                size = "50,257 tokens, no other number" if tokenizer == "gpt2" else "a size of its own"
                raise ConfigError(f"{tokenizer} has {size}.", "Leave out --vocab_size, or take --tokenizer bpe.")
            vocab_size = 50257 if tokenizer == "gpt2" else 0
        if tokenizer not in ("gpt2", "bpe") and not Path(tokenizer).exists():
            problem = f"There is no tokenizer {tokenizer!r}."
            raise ConfigError(problem, "Take gpt2, bpe, or the path of a tokenizer.json.")
        held_out = default_held_out(source.name) if self.held_out is None else self.held_out
        if not 0 < held_out < 0.5:
            raise ConfigError(f"held_out is {held_out}.", "Give a share above 0 and below 0.5.")
        return PrepareSettings(tokenizer, vocab_size, held_out)
