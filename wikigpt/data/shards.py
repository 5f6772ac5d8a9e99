"""Tokens on disk, and the folder they lie in.

    dataset/<name>/train_00000.bin          token ids, little-endian uint16 (uint32 above 65,535 ids), no header
                   train_00000.bin.index    where each document ends, in tokens, uint64
                   articles.parquet         one row per article: where it comes from, where its tokens lie
                   tokenizer/               tokenizer.json and the same as tiktoken ranks
                   manifest.json            what all of this is, with the SHA-256 of every file

One set of shards per input file and split. Concatenated, a split's shards are nanoGPT's `train.bin`; each is datatrove's
tokenised file (`.ds`, `.ds.index`) under another name.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wikigpt.config import write_json
from wikigpt.errors import DataError

MANIFEST = "manifest.json"


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest of the two types that holds every id."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ShardWriter:
    """Appends documents to one shard; `close` writes its index."""

    def __init__(self, folder: Path, split: str, number: int, dtype: np.dtype[Any]) -> None:
        self.name = f"{split}_{number:05d}.bin"
        self.dtype = dtype
        self.tokens = 0
        self._ends: list[int] = []
        self._folder = folder
        self._file = open(folder / self.name, "wb")  # noqa: SIM115 - closed in close()

    def append(self, ids: np.ndarray) -> int:
        """Writes one document and returns the position of its first token in the shard."""
        start = self.tokens
        self._file.write(ids.astype(self.dtype).tobytes())
        self.tokens += len(ids)
        self._ends.append(self.tokens)
        return start

    def close(self) -> None:
        self._file.close()
        np.asarray(self._ends, dtype="<u8").tofile(self._folder / f"{self.name}.index")


class TokenStream:
    """Several shards read as one long row of tokens, without loading them."""

    def __init__(self, paths: Sequence[Path], dtype: np.dtype[Any]) -> None:
        self._shards = [np.memmap(path, dtype=dtype, mode="r") for path in paths if path.stat().st_size > 0]
        self._ends = np.cumsum([len(shard) for shard in self._shards], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, start: int, length: int) -> np.ndarray:
        """Tokens start to start + length as int64; fewer where the stream ends."""
        parts, number = [], int(np.searchsorted(self._ends, start, side="right"))
        while length > 0 and number < len(self._shards):
            offset = start - (int(self._ends[number]) - len(self._shards[number]))
            part = self._shards[number][offset : offset + length]
            parts.append(part)
            start, length, number = start + len(part), length - len(part), number + 1
        return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)


class DataFolder:
    """A prepared data folder. Raises DataError where it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} is not a prepared data folder.", "Make one with: wikigpt prepare") from error

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def wiki(self) -> str:
        """Language code."""
        return str(self.manifest["wiki"])

    @property
    def vocab_size(self) -> int:
        return int(self.manifest["tokenizer"]["vocab_size"])

    @property
    def end_of_text(self) -> int:
        return int(self.manifest["tokenizer"]["end_of_text"])

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the manifest, which holds the SHA-256 of every file: it stands for all of the data."""
        return file_hash(self.path / MANIFEST)

    def stream(self, split: str) -> TokenStream:
        names = sorted(
            name for name in self.manifest["files"] if name.startswith(f"{split}_") and name.endswith(".bin")
        )
        return TokenStream([self.path / name for name in names], np.dtype(self.manifest["dtype"]))

    def verify(self) -> None:
        """Reads every file and compares its checksum. Raises DataError naming the first that differs."""
        for name, record in self.manifest["files"].items():
            path = self.path / name
            if not path.exists() or path.stat().st_size != record["bytes"] or file_hash(path) != record["sha256"]:
                problem = f"{path} is missing or differs from its checksum in {MANIFEST}."
                raise DataError(problem, "Make the data again with: wikigpt prepare --fresh")


def write_manifest(folder: Path, record: dict[str, Any]) -> None:
    """Adds the size and SHA-256 of every file in the folder, and writes the manifest last of all."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_hash(path)} for path in paths
    }
    write_json(folder / MANIFEST, {**record, "files": files})


def find_data(datafolder: str, data: str | None) -> DataFolder:
    """The data folder called `data` (a name under `datafolder`, or a path); the only one there is where it is None."""
    if data is not None:
        return DataFolder(Path(data) if (Path(data) / MANIFEST).exists() else Path(datafolder) / data)
    folders = sorted(path.parent for path in Path(datafolder).glob(f"*/{MANIFEST}"))
    found = [path for path in folders if path.suffix not in (".partial", ".old")]  # left by a kill while renaming
    if not found:
        raise DataError(f"There is no prepared data in {datafolder}/.", "Make some with: wikigpt prepare")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"There are several data folders in {datafolder}/: {names}.", "Choose one with --data NAME.")
    return DataFolder(found[0])
