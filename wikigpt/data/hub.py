"""Wikipedia as others have cleaned it, from the Hugging Face Hub: parquet files, read where they lie, several at a time.

wikimedia/wikipedia     20231101.<lang>/*.parquet     id, url, title, text
HuggingFaceFW/finewiki  data/<lang>wiki/*.parquet     the same and more: revision, wikitext, ...
"""

from functools import partial
from pathlib import Path
from typing import Any

from wikigpt.config import hub_token
from wikigpt.data.article import Article, Found, InputFile, Piece
from wikigpt.data.download import OFFLINE
from wikigpt.data.sources import LICENCE, Source, parquet_records
from wikigpt.errors import ConfigError, DataError, HubError, WikiGPTError

DATASETS = ("wikimedia/wikipedia", "HuggingFaceFW/finewiki")
DATE = "20231101"  # the newest that wikimedia/wikipedia has


def hub(wiki: str, dataset: str, date: str) -> Source:
    """A Wikipedia of one of the two datasets. Raises HubError where the hub is out of reach, DataError where it has no such
    Wikipedia. HF_TOKEN is used where it is set (or in .env), and not needed."""
    from huggingface_hub import HfApi, RepoFile
    from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

    if dataset not in DATASETS:
        raise DataError(f"The dataset {dataset!r} is none that is known.", f"Take {' or '.join(DATASETS)}.")
    folder = f"{date}.{wiki}" if dataset == DATASETS[0] else f"data/{wiki.replace('-', '_')}wiki"
    try:
        api = HfApi(token=hub_token())
        revision = api.dataset_info(dataset).sha or "main"
        tree = list(api.list_repo_tree(dataset, folder, repo_type="dataset", revision=revision))
    except (EntryNotFoundError, RepositoryNotFoundError) as error:
        problem = f"{dataset} has no {folder!r}."
        raise DataError(problem, "Give a language code with --wiki, and for another snapshot --date.") from error
    except ConfigError:
        raise
    except Exception as error:
        raise unreachable(error) from error
    files = [
        InputFile(Path(each.path), each.size, {"sha256": each.lfs.sha256} if each.lfs else {"blob": each.blob_id})
        for each in sorted(tree, key=lambda each: each.path)
        if isinstance(each, RepoFile) and each.path.endswith(".parquet")
    ]
    if not files:
        raise DataError(f"{dataset} has nothing in {folder!r}.", "Give another language code with --wiki.")
    return Source(
        name="hf",
        wiki=wiki,
        origin=f"{dataset}, {folder}, revision {revision}",
        licence=LICENCE,
        attribution=f"Text: Wikipedia ({wiki}.wikipedia.org) and its contributors; changed: cleaned by {dataset}.",
        cleaner=dataset,
        files=tuple(files),
        read=partial(_read, dataset=dataset, revision=revision),
    )


def unreachable(error: Exception) -> HubError:
    """One line for whatever the hub's client raised."""
    said = " ".join(str(error).split())[:160] or type(error).__name__
    return HubError(f"The Hugging Face Hub is out of reach ({said}).", OFFLINE)


def _read(piece: Piece, dataset: str, revision: str) -> Found:
    from huggingface_hub import HfFileSystem

    place = f"datasets/{dataset}@{revision}/{piece.path.as_posix()}"
    columns = ("id", "page_id", "version", "title", "url", "text")
    try:
        with HfFileSystem(token=hub_token()).open(place, block_size=2**20, cache_type="blockcache") as file:
            for position, record in parquet_records(file, piece.bytes, columns):
                yield position, _article(record)
    except WikiGPTError:
        raise
    except Exception as error:
        raise unreachable(error) from error


def _article(record: dict[str, Any]) -> Article:
    page = record.get("page_id", record.get("id"))
    version = record.get("version")
    return Article(
        id="" if page is None else str(page),
        revision="" if version is None else str(version),
        title=" ".join(str(record.get("title") or "").split()),
        url=str(record.get("url") or ""),
        text=str(record.get("text") or "").strip(),
    )
