"""`wikigpt data extract | stats | show`"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from loguru import logger
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from wikigpt.errors import ConfigError, DataError
from wikigpt.verbs.common import Common, Outcome, Settings, colour_on, expanded
from wikigpt.verbs.prepare import DUMPS

COLOURS = (24, 54, 22, 94, 52)  # backgrounds that any text can be read on, of the 256 that terminals know


@dataclass
class DataExtract:
    """Turn a dump into clean articles: one JSON object a line, with id, revision, title, url and text."""

    dump: tyro.conf.Positional[tuple[str, ...]]
    """files of one wiki, .xml or .xml.bz2; wildcards too"""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("articles.jsonl")
    """the file to write; - for the standard output"""
    wiki: str | None = None
    """language code or name of the wiki, where the dump does not say it"""
    workers: int | None = None
    """processes; all cores unless given"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt.data.extract import extract
        from wikigpt.data.prepare import default_workers
        from wikigpt.data.sources import dump

        paths = expanded(self.dump, DUMPS)
        if self.out.is_dir():
            raise ConfigError(f"{self.out} is a folder.", "Name a file with --out.")
        if self.out.exists() and any(path.exists() and path.samefile(self.out) for path in paths):
            raise ConfigError(f"{self.out} is the dump itself.", "Name another file with --out.")
        workers = default_workers() if self.workers is None else self.workers
        if workers < 1:
            raise ConfigError(f"workers is {workers}.", "Give 1 or more.")
        source = dump(paths, self.wiki or "")
        standard = str(self.out) == "-"
        if standard and self.common.json:
            raise ConfigError("--json and --out - both want the standard output.", "Leave out one of them.")
        partial = self.out.with_name(self.out.name + ".part")
        columns = TextColumn("reading"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
        more = TextColumn("{task.fields[pages]}"), TimeRemainingColumn()
        total = 0
        with Progress(*columns, *more, console=Console(stderr=True)) as progress:
            task = progress.add_task("", total=sum(file.bytes for file in source.files), pages="")

            def watch(bytes_: int, pages: int) -> None:
                nonlocal total
                total += pages
                progress.update(task, advance=bytes_, pages=f"{total:,} pages")

            if standard:
                counts = extract(source, sys.stdout.buffer, workers, watch)
            else:
                try:
                    with open(partial, "wb") as file:
                        counts = extract(source, file, workers, watch)
                except DataError as error:
                    raise DataError(error.problem, f"{error.fix} What came before is in {partial}.") from error
                partial.replace(self.out)
        articles = counts.pop("articles", 0)
        left_out = ", ".join(f"{number:,} {reason}" for reason, number in sorted(counts.items()))
        logger.info(f"{articles:,} articles in {self.out}" + (f"; left out: {left_out}" if left_out else ""))
        return Outcome({"articles": articles, "left_out": dict(counts), "out": str(self.out)})


@dataclass
class DataStats:
    """Figures of prepared data: articles, tokens, lengths, what was left out; writes its report.html."""

    data: str | None = None
    """name or path of the data folder; the only one there is unless given"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt.data.stats import stats
        from wikigpt.report_data import write_data_report

        data = one_folder(settings, self.data)
        found = stats(data)
        if not self.common.json:
            for name, split in found.splits.items():
                print(
                    f"{name:11}{split['articles']:>10,} articles {split['tokens']:>14,} tokens {split['bytes']:>14,} bytes"
                )
            print(
                f"{found.bytes_per_token:.2f} bytes per token; articles of {found.median:,} tokens (median), "
                f"{found.mean:,.0f} (mean)"
            )
            most = max((count for *_, count in found.histogram), default=1) or 1
            for low, high, count in found.histogram:
                print(f"{low:>9,} to {high - 1:>9,} {'█' * round(40 * count / most):40} {count:,}")
            print("longest: " + ", ".join(f"{title} ({length:,})" for title, length in found.longest))
            print("left out: " + (", ".join(f"{n:,} {reason}" for reason, n in found.dropped.items()) or "nothing"))
        logger.info(f"report: {write_data_report(data)}")
        return Outcome({"data": data.name} | found.record())


@dataclass
class DataShow:
    """Print an article as text and as tokens, and where it came from; also the article that a training token is of."""

    what: tyro.conf.Positional[str]
    """a title, a page id, or a token's place: train:12345 (validation: and test: too, or a number that is no page's id)"""
    data: str | None = None
    """name or path of the data folder; the only one there is unless given"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt import tokenizer as tokenizers
        from wikigpt.data.lookup import look_up

        data = one_folder(settings, self.data)
        tokenizer = tokenizers.load(data.path / "tokenizer")
        found = look_up(data, self.what)
        pieces = [tokenizer.decode([token]) for token in found.ids[:-1].tolist()]
        text = tokenizer.decode(found.ids[:-1].tolist())
        record: dict[str, Any] = found.row | {"text": text, "tokens": found.ids.tolist()}
        if found.token is not None:
            at = min(found.token, len(pieces))
            record["token"] = {"number": found.token, "text": pieces[at] if at < len(pieces) else "(end of text)"}
        if not self.common.json:
            for name in ("title", "id", "revision", "url"):
                if found.row[name]:
                    print(f"{name:9}{found.row[name]}")
            row = found.row
            print(f"{'tokens':9}{row['length']:,} in {row['split']}: {row['shard']} from {row['offset']:,}")
            if found.token is not None:
                print(f"{'token':9}number {found.token:,} of it: {record['token']['text']!r}")
            print(f"\n{text}\n")
            print(_coloured(pieces, found.token))
        return Outcome(record)


def _coloured(pieces: list[str], marked: int | None) -> str:
    """Tokens on changing backgrounds; between bars where there are no colours."""
    if not colour_on(sys.stdout):
        return "|".join(f">>>{piece}<<<" if number == marked else piece for number, piece in enumerate(pieces))
    return "".join(
        f"\x1b[{'7' if number == marked else f'97;48;5;{COLOURS[number % len(COLOURS)]}'}m{piece}\x1b[0m"
        for number, piece in enumerate(pieces)
    )


def one_folder(settings: Settings, name: str | None) -> Any:
    """A single data folder. Raises ConfigError for a mixture."""
    from wikigpt.data.shards import DataFolder, find_data

    data = find_data(settings.DATAFOLDER, name)
    if not isinstance(data, DataFolder):
        raise ConfigError("--data names several folders.", "Look at one at a time.")
    return data
