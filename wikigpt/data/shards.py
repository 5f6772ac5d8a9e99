"""Tokens on disk, and the folder they lie in.

    dataset/<name>/train_00000.bin          token ids, little-endian uint16 (uint32 above 65,535 ids), no header
                   train_00000.bin.index    where each document ends, in tokens, uint64
                   articles.parquet         one row per article: where it comes from, where its tokens lie
                   tokenizer/               tokenizer.json and the same as tiktoken ranks
                   manifest.json            what all of this is, with the SHA-256 of every file

One set of shards per input file (small files share one) and split. Concatenated, a split's shards are nanoGPT's
`train.bin`; each is datatrove's tokenised file (`.ds`, `.ds.index`) under another name.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from wikigpt.config import write_json
from wikigpt.errors import DataError

MANIFEST = "manifest.json"
MOST_FILES = 100  # input files that a run remembers by name; the manifest has all


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest of the two types that holds every id."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ShardWriter:
    """Appends documents to one shard and their ends to its index. One that was interrupted goes on after its first
    `documents`; what was written behind them is cut off."""

    def __init__(self, folder: Path, split: str, number: int, dtype: np.dtype[Any], documents: int = 0) -> None:
        self.name = f"{split}_{number:05d}.bin"
        self.dtype = dtype
        self.documents = documents
        path, index = folder / self.name, folder / f"{self.name}.index"
        ends = np.fromfile(index, "<u8", documents) if documents else np.empty(0)
        self.tokens = int(ends[-1]) if documents else 0
        self._files = []
        for file, size in ((path, self.tokens * dtype.itemsize), (index, documents * 8)):
            file.touch()
            os.truncate(file, size)
            self._files.append(open(file, "ab"))  # noqa: SIM115 - closed in close()

    def append(self, ids: np.ndarray) -> int:
        """Writes one document and returns the position of its first token in the shard."""
        start = self.tokens
        self.tokens += len(ids)
        self.documents += 1
        tokens, index = self._files
        tokens.write(ids.astype(self.dtype).tobytes())
        index.write(np.asarray([self.tokens], "<u8").tobytes())
        return start

    def extend(self, path: Path, lengths: np.ndarray) -> None:
        """Takes in documents of so many tokens each, whose ids stand in a file one behind the other."""
        tokens, index = self._files
        with open(path, "rb") as ids:
            shutil.copyfileobj(ids, tokens, 2**20)
        ends = self.tokens + np.cumsum(lengths)
        index.write(ends.astype("<u8").tobytes())
        self.tokens = int(ends[-1]) if len(ends) else self.tokens
        self.documents += len(ends)

    def flush(self) -> None:
        """Returns when all that was appended is on the disk."""
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        for file in self._files:
            file.close()


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
    def spec(self) -> str:
        """How to name it again: `find_data(..., data.spec)`."""
        return str(self.path)

    @property
    def parts(self) -> list[tuple["DataFolder", Fraction]]:
        """Folders and their shares of the training text."""
        return [(self, Fraction(1))]

    @property
    def training_tokens(self) -> int:
        return int(self.manifest["splits"]["train"]["tokens"])

    @property
    def source(self) -> dict[str, Any]:
        """Whose text this is and how it was prepared, for what is made of it."""
        source, counts = self.manifest["source"], self.manifest["splits"]["train"]
        kept = {key: source.get(key, "") for key in ("origin", "licence", "attribution", "cleaner")}
        return {
            "name": self.name,
            "wiki": self.wiki,
            **kept,
            "articles": counts["articles"],
            "tokens": counts["tokens"],
            "kind": source.get("name", ""),
            "files": source.get("files", [])[:MOST_FILES],
            "settings": self.manifest.get("settings", {}),
            "dropped": self.manifest.get("dropped", {}),
            "tokenizer": self.manifest["tokenizer"]["name"],
            "manifest_sha256": self.hash,
        }

    @property
    def tokenizer_hash(self) -> str:
        return str(self.manifest["tokenizer"]["sha256"])

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

    def shards(self, split: str) -> list[str]:
        """Names of a split's shards, in order."""
        names = self.manifest["files"]
        return sorted(name for name in names if name.startswith(f"{split}_") and name.endswith(".bin"))

    def stream(self, split: str) -> TokenStream:
        return TokenStream([self.path / name for name in self.shards(split)], np.dtype(self.manifest["dtype"]))

    def verify(self) -> None:
        """Reads every file and compares its checksum. Raises DataError naming the first that differs."""
        for name, record in self.manifest["files"].items():
            path = self.path / name
            if not path.exists() or path.stat().st_size != record["bytes"] or file_hash(path) != record["sha256"]:
                problem = f"{path} is missing or differs from its checksum in {MANIFEST}."
                raise DataError(problem, "Make the data again with: wikigpt prepare --fresh")


class Mixture:
    """Several folders read as one, each with a share of the training text. Raises DataError where their tokenizers differ:
    a token must mean the same in all of them."""

    def __init__(self, parts: Sequence[tuple[DataFolder, Fraction]]) -> None:
        total = sum(weight for _, weight in parts)
        self.parts = [(folder, weight / total) for folder, weight in parts]
        self.path = parts[0][0].path  # where the tokenizer lies
        first = parts[0][0]
        self.wiki, self.vocab_size, self.end_of_text = first.wiki, first.vocab_size, first.end_of_text
        self.tokenizer_hash = first.tokenizer_hash
        self.name = "+".join(folder.name for folder, _ in parts)
        self.spec = ",".join(f"{folder.path}:{weight}" for folder, weight in parts)
        self.training_tokens = sum(folder.training_tokens for folder, _ in parts)
        for folder, _ in parts[1:]:
            if folder.tokenizer_hash != first.tokenizer_hash:
                tokenizer = first.path / "tokenizer"
                raise DataError(
                    f"{first.path} and {folder.path} have different tokenizers.",
                    f"Prepare one again with the other's, for example with: --tokenizer {tokenizer}",
                )

    @cached_property
    def hash(self) -> str:
        """Stands for all data and all shares."""
        shares = ",".join(f"{folder.hash}:{share}" for folder, share in self.parts)
        return hashlib.sha256(shares.encode()).hexdigest()

    def verify(self) -> None:
        for folder, _ in self.parts:
            folder.verify()


Data = DataFolder | Mixture


def write_manifest(folder: Path, record: dict[str, Any], leave_out: str = "") -> None:
    """Adds the size and SHA-256 of every file in the folder (but for the inner folder `leave_out`), and writes the manifest
    last of all."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {
        name: {"bytes": path.stat().st_size, "sha256": file_hash(path)}
        for name, path in paths.items()
        if name.split("/")[0] not in (MANIFEST, leave_out) and not name.endswith(".partial")  # left by a kill
    }
    write_json(folder / MANIFEST, {**record, "files": files})


def find_data(datafolder: str, data: str | None) -> Data:
    """The data called `data`: a folder's name under `datafolder`, its path, or several with shares ("en:0.7,pt:0.3"); the
    only folder there is where it is None. Raises DataError where there is none."""
    if data is not None:
        return _open_data(datafolder, data)
    found = sorted(path.parent for path in Path(datafolder).glob(f"[!.]*/{MANIFEST}"))  # .name.partial is not finished
    if not found:
        raise DataError(f"There is no prepared data in {datafolder}/.", "Make some with: wikigpt prepare")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"There are several data folders in {datafolder}/: {names}.", "Choose one with --data NAME.")
    return DataFolder(found[0])


def _open_data(datafolder: str, data: str) -> Data:
    def folder(name: str) -> DataFolder:
        is_path = (Path(name) / MANIFEST).exists() or len(Path(name).parts) > 1
        return DataFolder(Path(name) if is_path else Path(datafolder) / name)

    if "," not in data:
        return folder(data)
    parts = []
    for item in data.split(","):
        name, colon, weight = item.strip().rpartition(":")
        try:
            parts.append((folder(name if colon else weight), Fraction(weight) if colon else Fraction(1)))
        except (ValueError, ZeroDivisionError):
            raise DataError(f"{weight!r} in --data {data} is no number.", "Write it as en:0.7,pt:0.3") from None
    if bad := [f"{f.name}:{float(weight):g}" for f, weight in parts if weight <= 0]:
        raise DataError(f"A share in --data must be above 0, not {bad[0]}.", "Leave that folder out.")
    if len({f.path for f, _ in parts}) < len(parts):
        raise DataError(f"A folder stands twice in --data {data}.", "Name each once, with its share.")
    return Mixture(parts)
