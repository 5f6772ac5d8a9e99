"""`wikigpt prepare`"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from loguru import logger
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from wikigpt.config import ModelConfig, from_preset
from wikigpt.errors import ConfigError, HubError
from wikigpt.verbs.common import Common, Outcome, Settings, check_name, expanded

if TYPE_CHECKING:
    from wikigpt.data.download import Need
    from wikigpt.data.prepare import PrepareSettings
    from wikigpt.data.sources import Source


DUMPS = (".xml", ".xml.bz2", ".bz2")


@dataclass
class Prepare:
    """Turn text into tokens: dataset/<name>/. The same command again continues an interrupted preparation."""

    wiki: str | None = None
    """language code (pt), several (pt,es), each a folder of its own, or the wiki's name (ptwiki). Simple English unless
    given"""
    name: str | None = None
    """name of the data folder; the language code, or the first file's name, unless given"""
    source: Literal["dump", "hf", "sample", "files"] | None = None
    """dump: official dumps (for --wiki, unless given). hf: the Hugging Face Hub (without flags; the sample where it is out
    of reach). sample: 10,000 articles, mostly their beginnings, which packages carry (en, es, fr). files: those of --path"""
    path: tuple[str, ...] = ()
    """dumps of your own (.xml, .xml.bz2, wildcards too), or text: .txt, .jsonl, .parquet (the first two also .gz), or
    folders of it. One article per record; in .txt per block between blank lines"""
    date: str = "latest"
    """of the dump, YYYYMMDD"""
    mirror: str = "https://dumps.wikimedia.org"
    """where dumps come from"""
    dataset: Literal["wikimedia/wikipedia", "HuggingFaceFW/finewiki"] = "wikimedia/wikipedia"
    """of the hub"""
    max_articles: int | None = None
    """the first so many; all unless given"""
    hold_out: Path | None = None
    """a file of titles, one a line, that are kept out altogether: articles that a benchmark was made of"""
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
    given, gpt2 for English, and bpe otherwise and for the sample"""
    vocab_size: int | None = None
    """size of a bpe; 8,192, of the sample 2,048, or what suits --model_config"""
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
        from wikigpt.data.prepare import default_workers

        workers = default_workers() if self.workers is None else self.workers
        if workers < 1:
            raise ConfigError(f"workers is {workers}.", "Give 1 or more.")
        if self.max_articles is not None and self.max_articles < 1:
            raise ConfigError(f"max_articles is {self.max_articles}.", "Give 1 or more, or leave it out for all.")
        named = [wiki for wiki in (self.wiki or "").split(",") if wiki.strip()]
        if self.wiki is not None and not named:
            raise ConfigError("--wiki names no Wikipedia.", "Give a language code, such as pt.")
        wikis: list[str | None] = [*named] or [None]
        if len(wikis) == 1:
            return Outcome(self._prepare(wikis[0], settings, workers))
        if self.name or self.path:
            raise ConfigError(
                "--wiki names several Wikipedias.", "Leave out --name and --path, or prepare one at a time."
            )
        return Outcome({"data": [self._prepare(wiki, settings, workers) for wiki in wikis]})

    def _prepare(self, wiki: str | None, settings: Settings, workers: int) -> dict[str, Any]:
        from wikigpt.data.prepare import prepare
        from wikigpt.report_data import write_data_report

        one = replace(self, wiki=code_of(wiki) if wiki else None)
        one.make_settings(settings, one.wiki or "", one.kind())  # what is wrong is said before anything is fetched
        one.folder(settings, one.wiki or "", one.kind())
        try:
            source = one.make_source(settings, workers)
        except HubError as error:
            if self.source or self.wiki or self.date != "latest" or self.dataset != Prepare.dataset:
                raise
            logger.warning(f"{error.problem} Taking the bundled sample.")
            one = replace(one, source="sample")
            source = one.make_source(settings, workers)
        made_of = one.make_settings(settings, source.wiki, source.name)
        data = prepare(source, made_of, one.folder(settings, source.wiki, source.name), workers, self.fresh)
        manifest = data.manifest
        for split, counts in manifest["splits"].items():
            logger.info(f"{split:10} {counts['articles']:>9,} articles {counts['tokens']:>12,} tokens")
        if manifest["dropped"]:
            logger.info("dropped    " + ", ".join(f"{n:,} {reason}" for reason, n in manifest["dropped"].items()))
        write_data_report(data)
        logger.info(f"prepared: {data.path} (licence: {manifest['source']['licence']}; report.html shows more)")
        kept = ("wiki", "tokenizer", "splits", "dropped")
        return {"data": data.name, "folder": str(data.path)} | {key: manifest[key] for key in kept}

    def folder(self, settings: Settings, wiki: str, kind: str) -> Path:
        """Where the data goes."""
        own = Path(self.path[0]).name.split(".")[0] if self.path and kind == "files" else ""
        name = self.name or self.wiki or own or wiki or "simple"
        check_name(name, "--name", without=",:")  # which part a mixture
        return Path(settings.DATAFOLDER) / name

    def kind(self) -> str:
        """Which source the flags name."""
        if self.path and self.source in ("sample", "hf"):
            raise ConfigError("--path is for --source files and --source dump.", "Leave out one of them.")
        if self.path and not self.source:
            return "dump" if any(path.name.endswith(DUMPS) for path in expanded(self.path, DUMPS)) else "files"
        if self.source == "files" and not self.path:
            raise ConfigError("--source files needs files.", "Name them with --path FILE_OR_FOLDER.")
        return self.source or ("dump" if self.wiki else "hf")

    def make_source(self, settings: Settings, workers: int) -> "Source":
        """The source that the flags name. An official dump is downloaded here."""
        from wikigpt.data import sources

        kind = self.kind()
        paths = expanded(self.path, DUMPS if kind == "dump" else ())
        if kind == "dump" and paths:
            if other := [path for path in paths if not path.name.endswith(DUMPS)]:
                raise ConfigError(
                    f"{other[0]} is no dump.", "Dumps are .xml or .xml.bz2; prepare other text by itself."
                )
            return sources.dump(paths, self.wiki or "")
        if kind == "dump":
            return self._download(settings, workers)
        if kind == "hf":
            return self._hub(settings, workers)
        if kind == "sample":
            return sources.sample(self.wiki or "en")
        fields = sources.Fields(self.text_field, self.title_field, self.id_field, self.url_field)
        return sources.files(paths, self.wiki or "", fields, self.licence)

    def _hub(self, settings: Settings, workers: int) -> "Source":
        from wikigpt.data import download, hub

        wiki = self.wiki or "simple"
        source = hub.hub(wiki, self.dataset, hub.DATE if self.date == "latest" else self.date)
        need = download.need(sum(file.bytes for file in source.files), 0, False, download.articles(wiki), workers)
        self._announce(source.origin, need, settings)
        return source

    def _download(self, settings: Settings, workers: int) -> "Source":
        from wikigpt.data import download, sources

        wiki = self.wiki or "simple"
        dump = download.find(wiki, self.date, self.mirror.rstrip("/"))
        folder = Path(settings.DATAFOLDER) / "dumps" / dump.wiki / dump.date
        need = download.need(dump.bytes, download.present(dump, folder), True, download.articles(wiki), workers)
        self._announce(f"{dump.wiki}, dump of {dump.date}", need, settings)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("downloading", total=dump.bytes)
            paths = download.fetch(dump, folder, lambda more: progress.advance(task, more))
        return sources.dump(paths, wiki, {file.name: file.hashes for file in dump.files})

    def _announce(self, what: str, need: "Need", settings: Settings) -> None:
        from wikigpt.data.download import check_space

        logger.info(f"{what}: {need}")
        if self.max_articles is not None:  # of a dump all comes, however few are kept; of the hub's files nothing stays
            need = replace(need, peak=need.download if self.kind() == "dump" else 0)
        if need.peak:
            check_space(need, Path(settings.DATAFOLDER))

    def make_settings(self, settings: Settings, wiki: str, kind: str) -> "PrepareSettings":
        """The settings that the flags and the kind of source give."""
        from wikigpt.data import prepare as preparing
        from wikigpt.data.filters import read_titles

        tokenizer = self.tokenizer or preparing.default_tokenizer(wiki, kind)
        vocab_size = self.vocab_size or preparing.default_vocab_size(kind)
        if self.model_config is not None and self.vocab_size is None:
            vocab_size = preparing.bpe_vocab_size(
                from_preset(ModelConfig, settings.MODEL_CONFIGS, self.model_config, {})
            )
        if tokenizer != "bpe":
            if self.vocab_size is not None and (tokenizer, self.vocab_size) != ("gpt2", 50257):
                size = "50,257 tokens, no other number" if tokenizer == "gpt2" else "a size of its own"
                raise ConfigError(f"{tokenizer} has {size}.", "Leave out --vocab_size, or take --tokenizer bpe.")
            vocab_size = 50257 if tokenizer == "gpt2" else 0
        if tokenizer not in ("gpt2", "bpe") and not Path(tokenizer).exists():
            problem = f"There is no tokenizer {tokenizer!r}."
            raise ConfigError(problem, "Take gpt2, bpe, or the path of a tokenizer.json.")
        held_out = preparing.default_held_out(kind) if self.held_out is None else self.held_out
        if not 0 < held_out < 0.5:
            raise ConfigError(f"held_out is {held_out}.", "Give a share above 0 and below 0.5.")
        if self.hold_out:
            read_titles(self.hold_out)
        return preparing.PrepareSettings(tokenizer, vocab_size, held_out, self.hold_out, self.max_articles)


def code_of(wiki: str) -> str:
    """pt, of pt or ptwiki."""
    return wiki.strip().lower().removesuffix("wiki").replace("_", "-") or wiki
