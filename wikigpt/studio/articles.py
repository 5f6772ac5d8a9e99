"""Data folders: their articles and tokens, what was left out and why, and the cleaner at work.

dataset/<name>/ ──> manifest, articles.parquet, shards ──> /api/data          wikitext ──> cleaner ──> /api/clean
"""

import threading
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from fastapi import APIRouter, Query
from pydantic import Field

from wikigpt import tokenizer as tokenizers
from wikigpt.data.lookup import look_up
from wikigpt.data.shards import MANIFEST, DataFolder
from wikigpt.data.stats import stats
from wikigpt.data.wikitext import clean_wikitext
from wikigpt.data.wikitext.site import site_of
from wikigpt.errors import DataError
from wikigpt.studio.asked import LONGEST, Asked, Reader
from wikigpt.studio.engine import Engine

PAGE = 50  # articles of a page
TOKENS = 5_000  # of an article that are shown
SPLIT = Literal["train", "validation", "test"]
COLUMNS = ["id", "title", "split", "length"]


class Wikitext(Asked):
    """A page as its authors wrote it."""

    wikitext: str = Field(max_length=LONGEST)
    title: str = Field("", max_length=300)
    wiki: str = Field("en", max_length=20, pattern="^[a-z][a-z_-]*$")


class Folders:
    """Data folders, and the titles of the last one that was looked through."""

    def __init__(self, datafolder: str) -> None:
        self.path, self._lock = Path(datafolder), threading.Lock()
        self._titles: tuple[str, pa.Table] = ("", None)

    def names(self) -> list[str]:
        """Of all prepared folders."""
        return sorted(path.parent.name for path in self.path.glob(f"[!.]*/{MANIFEST}"))

    def folder(self, name: str) -> DataFolder:
        """By its name: never a path. Raises DataError where there is none."""
        if name not in self.names():
            raise DataError(f"There is no data called {name!r}.", "Take one of the list.")
        return DataFolder(self.path / name)

    def titles(self, data: DataFolder) -> pa.Table:
        """id, title, split and length of every article."""
        with self._lock:
            if self._titles[0] != data.hash:
                self._titles = (data.hash, pq.read_table(data.path / "articles.parquet", columns=COLUMNS))
            return self._titles[1]


def router(engine: Engine, datafolder: str) -> APIRouter:
    """What the page "Data" asks for."""
    api, folders = APIRouter(prefix="/api", tags=["data"]), Folders(datafolder)

    @api.get("/data")
    def names() -> dict[str, Any]:
        """The prepared data folders."""
        return {"data": folders.names(), "folder": str(folders.path)}

    @api.get("/data/{name}")
    async def folder(name: str) -> dict[str, Any]:
        """Figures of a folder, what was left out and why, and articles before and after cleaning."""
        return await engine.files.work(_figures, folders, name)

    @api.get("/data/{name}/articles")
    async def articles(
        name: str, query: str = Query("", max_length=300), split: SPLIT | None = None, offset: int = Query(0, ge=0)
    ) -> dict[str, Any]:
        """A page of articles whose title contains the query: the one that is called so first, then those that begin so."""
        return await engine.files.work(_search, folders, name, query.strip(), split, offset)

    @api.get("/data/{name}/article")
    async def article(name: str, what: str = Query(max_length=300)) -> dict[str, Any]:
        """An article by its title, page id or the place of one of its tokens (train:12345): its row, text and tokens."""
        return await engine.files.work(_article, folders, name, what)

    @api.post("/clean")
    async def clean(given: Wikitext) -> dict[str, str]:
        """Wikitext as the cleaner leaves it."""
        site = site_of(given.wiki if given.wiki.endswith("wiki") else f"{given.wiki}wiki")
        return {"text": await engine.files.work(clean_wikitext, given.wikitext, given.title, site)}

    return api


def _figures(folders: Folders, name: str) -> dict[str, Any]:
    data = folders.folder(name)
    manifest = data.manifest
    return {
        "name": data.name,
        "stats": stats(data).record(),
        "tokenizer": manifest["tokenizer"],
        "wiki": data.wiki,
        "source": {key: manifest["source"].get(key, "") for key in ("origin", "licence", "attribution", "cleaner")},
        "settings": manifest.get("settings", {}),
        "dropped": manifest.get("dropped", {}),
        "examples": manifest.get("examples", {}),
        "before_and_after": manifest.get("before_and_after", []),
    }


def _search(folders: Folders, name: str, query: str, split: str | None, offset: int) -> dict[str, Any]:
    table = folders.titles(folders.folder(name))
    if split is not None:
        table = table.filter(pc.equal(table["split"], split))
    if query:
        table = table.filter(pc.match_substring(table["title"], query, ignore_case=True))
        lower, wanted = pc.utf8_lower(table["title"]), query.lower()
        likeness = pc.add(
            pc.cast(pc.starts_with(lower, wanted), pa.int8()), pc.cast(pc.equal(lower, wanted), pa.int8())
        )
        order = pc.array_sort_indices(pc.negate(likeness))  # stable: within these in the order of the data
        table = table.take(order.slice(offset, PAGE))
        return {"articles": table.to_pylist(), "found": len(order), "offset": offset, "page": PAGE}
    return {"articles": table.slice(offset, PAGE).to_pylist(), "found": len(table), "offset": offset, "page": PAGE}


def _article(folders: Folders, name: str, what: str) -> dict[str, Any]:
    data = folders.folder(name)
    tokenizer = tokenizers.load(data.path / "tokenizer")
    found = look_up(data, what)
    ids = found.ids[:-1].tolist()
    reader = Reader(tokenizer)
    tokens = [[token, reader.text(token)] for token in ids[:TOKENS]]
    return {"row": found.row, "tokens": tokens, "all_tokens": len(ids), "marked": found.token}
