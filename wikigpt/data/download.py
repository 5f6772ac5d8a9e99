"""Official dumps: which there are, and how they come here.

    find("pt")  ──> the newest complete dump: its files, sizes and sums ──> fetch() ──> dataset/dumps/ptwiki/…

Wikimedia publishes two kinds, and both will do: the "legacy" pages-articles-multistream, articles only, twice a month while
it lasts; and MediaWiki Content File Exports, all namespaces, monthly. Rules of the house: three connections at the most, and
a name that says who calls. A file that is cut short goes on where it stopped, and none is used before its sum is right.
Source: dumps.wikimedia.org and the code behind it (operations/dumps, analytics/refinery).
"""

import hashlib
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from wikigpt import __version__
from wikigpt.data.wikitext.registry import hidden_prefixes
from wikigpt.errors import DataError

DUMPS = "https://dumps.wikimedia.org"
STATISTICS = "https://{}.wikipedia.org/w/api.php?action=query&meta=siteinfo&siprop=statistics&format=json"
AGENT = f"WikiGPT/{__version__} (pre-training on Wikipedia; https://pypi.org/project/wikigpt)"
CONNECTIONS = 3
CHUNK = 2**16  # what is lost where a line breaks, and how soon Ctrl-C is heard
TRIES = 5  # without a byte more
TIMEOUT = (15, 60)  # seconds to connect, and between two parts of an answer
OFFLINE = "Without a network: --source sample, or --path with a dump or text of your own."


@dataclass(frozen=True)
class RemoteFile:
    """One file of a dump."""

    name: str
    url: str
    bytes: int
    hashes: dict[str, str]  # sha256 or sha1, as published


@dataclass(frozen=True)
class Dump:
    """A complete dump of a wiki."""

    wiki: str  # ptwiki
    date: str  # 20261101
    files: tuple[RemoteFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def database(wiki: str) -> str:
    """ptwiki, of pt or ptwiki. Raises DataError where that cannot be the name of a Wikipedia."""
    code = wiki.strip().lower().removesuffix("wiki").replace("_", "-")
    if not re.fullmatch(r"[a-z]{2,}(-[a-z]+)*", code):
        raise unknown(wiki)
    return code.replace("-", "_") + "wiki"


def unknown(wiki: str) -> DataError:
    """What is said of a Wikipedia that there is not."""
    near = sorted(code for code in hidden_prefixes() if code.isascii() and code.startswith(wiki[:1]) and len(code) < 4)
    some = ", ".join(near[:12]) or "en, pt, simple"
    return DataError(f"There is no Wikipedia {wiki!r}.", f"Give a language code such as {some}.")


# ── finding ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def find(wiki: str, date: str = "latest", mirror: str = DUMPS) -> Dump:
    """The dump of a Wikipedia of that date (YYYYMMDD), or the newest that is complete. Raises DataError where there is
    none, or nobody answers."""
    name, plain = database(wiki), date.replace("-", "")
    if date != "latest" and not re.fullmatch("[0-9]{8}", plain):
        raise DataError(f"{date!r} is no date of a dump.", "Give it as YYYYMMDD, or leave out --date.")
    with session() as web:
        for list_, files in ((_legacy_dates, _legacy_files), (_content_dates, _content_files)):
            dates = [day for day in list_(web, mirror, name) if date == "latest" or day.replace("-", "") == plain]
            for day in sorted(dates, reverse=True):
                if found := files(web, mirror, name, day):
                    return Dump(name, day.replace("-", ""), tuple(found))
        there = _legacy_dates(web, mirror, name) or _content_dates(web, mirror, name)
        if not there:
            raise unknown(wiki)
    if date == "latest":
        raise DataError(f"{mirror} has no complete dump of {name}.", "Try again later, or name another --mirror.")
    raise DataError(f"There is no complete dump of {name} of {date}.", "Leave out --date for the newest.")


def session() -> requests.Session:
    """Asks as the house wants it: by name, and again after a while where it is busy."""
    web = requests.Session()
    web.headers["User-Agent"] = AGENT
    again = Retry(total=6, connect=2, backoff_factor=0.5, status_forcelist=(429, 500, 502, 503, 504))
    for scheme in ("http://", "https://"):
        web.mount(scheme, HTTPAdapter(max_retries=again))
    return web


def _get(web: requests.Session, url: str) -> requests.Response | None:
    """The answer, or None where there is no such page."""
    try:
        answer = web.get(url, timeout=TIMEOUT)
    except requests.RequestException as error:
        raise DataError(f"{url} cannot be reached ({_reason(error)}).", OFFLINE) from error
    if answer.status_code == 404:
        return None
    if not answer.ok:
        raise DataError(f"{url} answers {answer.status_code} {answer.reason}.", "Try again later, or name a --mirror.")
    return answer


def _reason(error: BaseException) -> str:
    """The innermost cause, for the outer ones repeat it."""
    while (inner := error.__cause__ or getattr(error, "reason", None) or error.__context__) and isinstance(
        inner, BaseException
    ):
        error = inner
    return f"{type(error).__name__}: {error}".split("\n")[0][:200]


def _legacy_dates(web: requests.Session, mirror: str, wiki: str) -> list[str]:
    answer = _get(web, f"{mirror}/{wiki}/")
    return re.findall(r'href="([0-9]{8})/?"', answer.text) if answer else []


def _legacy_files(web: requests.Session, mirror: str, wiki: str, date: str) -> list[RemoteFile]:
    answer = _get(web, f"{mirror}/{wiki}/{date}/dumpstatus.json")
    try:
        return _complete(answer.json()["jobs"] if answer else {}, f"{mirror}/{wiki}/{date}")
    except (requests.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        problem = f"{mirror}/{wiki}/{date}/dumpstatus.json is not what dumps have ({_reason(error)})."
        raise DataError(problem, "Check --mirror.") from error


def _complete(jobs: dict[str, Any], folder: str) -> list[RemoteFile]:
    for name in ("articlesmultistreamdump", "articlesdump"):
        job = jobs.get(name, {})
        if job.get("status") == "done":
            return [
                RemoteFile(_safe(file), f"{folder}/{file}", int(about["size"]), {"sha1": about["sha1"]})
                for file, about in sorted(job["files"].items())
                if ".xml" in file and file.endswith(".bz2")
            ]
    return []


def _content_dates(web: requests.Session, mirror: str, wiki: str) -> list[str]:
    answer = _get(web, f"{mirror}/other/mediawiki_content_current/{wiki}/")
    return re.findall(r'href="([0-9]{4}-[0-9]{2}-[0-9]{2})/?"', answer.text) if answer else []


def _content_files(web: requests.Session, mirror: str, wiki: str, date: str) -> list[RemoteFile]:
    folder = f"{mirror}/other/mediawiki_content_current/{wiki}/{date}/xml/bzip2"
    answer = _get(web, f"{folder}/SHA256SUMS")  # is written last
    files = []
    for line in answer.text.splitlines() if answer else []:
        found = re.fullmatch(r"([0-9a-f]{64})[ *]+(\S+\.xml\.bz2)", line.strip())
        if found:
            url = f"{folder}/{_safe(found[2])}"
            try:
                size = int(
                    web.head(url, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}).headers["Content-Length"]
                )
            except (requests.RequestException, KeyError, ValueError) as error:
                raise DataError(f"{url} does not say how long it is ({_reason(error)}).", "Try again later.") from error
            files.append(RemoteFile(found[2], url, size, {"sha256": found[1]}))
    return files


def _safe(name: str) -> str:
    """The name of a file that a server gives must be one."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise DataError(f"The server names a file {name!r}.", "That is no dump of a wiki; check --mirror.")
    return name


def articles(wiki: str) -> int | None:
    """How many articles a Wikipedia says that it has; None where it does not answer."""
    code = database(wiki).removesuffix("wiki").replace("_", "-")
    try:
        with session() as web:
            answer = web.get(STATISTICS.format(code), timeout=(5, 15))
            return int(answer.json()["query"]["statistics"]["articles"])
    except (requests.RequestException, KeyError, ValueError):
        return None


# ── fetching ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def fetch(dump: Dump, folder: Path, watch: Callable[[int], None]) -> list[Path]:
    """Brings the files of a dump into a folder and returns where they are; those that are there are left alone. `watch` is
    told of bytes that came. Raises DataError where a file does not come or is not what was published."""
    folder.mkdir(parents=True, exist_ok=True)
    stop = Event()
    with session() as web, ThreadPoolExecutor(CONNECTIONS) as pool:
        try:
            return list(pool.map(lambda file: _fetch(web, file, folder / file.name, watch, stop), dump.files))
        finally:
            stop.set()  # also when the first of them failed, or with Ctrl-C


def _fetch(web: requests.Session, file: RemoteFile, path: Path, watch: Callable[[int], None], stop: Event) -> Path:
    if path.exists() and path.stat().st_size == file.bytes:  # it got its name when its sum was right
        watch(file.bytes)
        return path
    partial = path.with_name(path.name + ".part")
    tries, before = 0, -1
    have = partial.stat().st_size if partial.exists() else 0
    if have > file.bytes:
        partial.unlink()
        have = 0
    watch(have)
    while have < file.bytes:
        if stop.is_set():
            raise DataError("The download was stopped.", "The same command goes on with it.")
        try:
            have = _more(web, file, partial, have, watch, stop)
            if have < file.bytes and not stop.is_set():
                raise requests.ConnectionError(f"only {have:,} of {file.bytes:,} bytes came")
        except requests.RequestException as error:
            have = partial.stat().st_size if partial.exists() else 0
            tries = tries + 1 if have == before else 0
            before = have
            if tries == TRIES:
                fix = "The same command goes on with what has come. " + OFFLINE
                raise DataError(f"{file.url} does not come ({_reason(error)}).", fix) from error
            time.sleep(min(0.2 * 2**tries, 10))
    _check(file, partial)
    partial.replace(path)
    return path


def _more(
    web: requests.Session, file: RemoteFile, partial: Path, have: int, watch: Callable[[int], None], stop: Event
) -> int:
    """Asks for what is missing, and returns how much is there."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with web.get(file.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code not in (200, 206):
            raise DataError(f"{file.url} answers {answer.status_code} {answer.reason}.", "Try again later.")
        if have and answer.status_code == 200:  # it does not know how to go on
            watch(-have)
            have = 0
        with open(partial, "r+b" if have else "wb") as out:
            out.seek(have)
            for block in answer.iter_content(CHUNK):
                out.write(block)
                have += len(block)
                watch(len(block))
                if stop.is_set():
                    break
    return have


def _check(file: RemoteFile, partial: Path) -> None:
    for name, wanted in file.hashes.items():
        with open(partial, "rb") as data:
            found = hashlib.file_digest(data, name).hexdigest()
        if found != wanted or partial.stat().st_size != file.bytes:
            partial.unlink()
            problem = f"{file.url} is not what was published: its {name} is {found[:12]}…, not {wanted[:12]}…."
            raise DataError(problem, "It was removed; the same command fetches it again.")


# ── beforehand ─────────────────────────────────────────────────────────────────────────────────────────────────────────

# Bytes for each compressed byte of a dump of articles, measured on the excerpt that gensim carries (benchmarks/prepare.py):
# clean text while it is prepared, and tokens, which are kept. And the compressed bytes that one core prepares in a second.
TEXT, TOKENS, RATE = 1.8, 0.9, 0.8e6
DOWNLOAD = 15e6  # bytes a second, which is what three connections are given


@dataclass(frozen=True)
class Need:
    """What preparing a Wikipedia will take; bytes and minutes are estimates."""

    articles: int | None
    download: int  # bytes that are still to come
    peak: int  # bytes on the disk, of which
    kept: int  # stay
    minutes: float

    def __str__(self) -> str:
        number = "an unknown number of" if self.articles is None else f"{self.articles:,}"
        return (
            f"{number} articles, {self.download / 1e9:,.2f} GB to download, about {self.peak / 1e9:,.2f} GB of disk at the "
            f"peak and {self.kept / 1e9:,.2f} GB kept, about {self.minutes:,.0f} minutes"
        )


def need(compressed: int, here: int, stays: bool, articles: int | None, workers: int) -> Need:
    """What so many compressed bytes will take, of which some are here already; `stays` if the download does."""
    download = max(0, compressed - here)
    seconds = download / DOWNLOAD + compressed / RATE / workers
    kept = download * stays + int(compressed * TOKENS)
    return Need(articles, download, kept + int(compressed * TEXT), kept, seconds / 60)


def present(dump: Dump, folder: Path) -> int:
    """Bytes of a dump that are in a folder, unfinished downloads too."""
    places = [folder / (file.name + end) for file in dump.files for end in ("", ".part")]
    return sum(place.stat().st_size for place in places if place.exists())


def check_space(need: Need, folder: Path) -> None:
    """Raises DataError where it will not fit."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if need.peak > free:
        problem = f"That needs {need.peak / 1e9:,.1f} GB of disk, and {there.resolve()} has {free / 1e9:,.1f} GB."
        raise DataError(problem, "Free some, or put DATAFOLDER on a larger disk.")
