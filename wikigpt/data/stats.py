"""What a data folder holds, in figures.

manifest.json, articles.parquet  ──>  counts, bytes per token, lengths, what was dropped
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from wikigpt.data.shards import DataFolder


@dataclass(frozen=True)
class Stats:
    """Figures of a data folder; lengths are in tokens, end-of-text included."""

    splits: dict[str, dict[str, int]]  # articles, tokens, bytes of each
    bytes_per_token: float
    median: int
    mean: float
    longest: list[tuple[str, int]]  # titles and their lengths
    histogram: list[tuple[int, int, int]]  # from, to (exclusive), articles
    dropped: dict[str, int]

    def record(self) -> dict[str, Any]:
        """For --json."""
        return dict(vars(self))


def stats(data: DataFolder) -> Stats:
    """Reads the article index of a folder."""
    splits = data.manifest["splits"]
    lengths, titles = [], []
    with pq.ParquetFile(data.path / "articles.parquet") as file:
        for batch in file.iter_batches(batch_size=65536, columns=["title", "length"]):
            column = batch.column("length").to_numpy()
            lengths.append(column)
            for number in np.argsort(column, kind="stable")[-5:][::-1]:
                titles.append((batch.column("title")[int(number)].as_py() or "(untitled)", int(column[number])))
    all_lengths = np.concatenate(lengths)
    top = int(all_lengths.max()).bit_length()
    edges = [2**power for power in range(top + 1)]
    counts = np.histogram(all_lengths, bins=edges)[0]
    tokens = sum(split["tokens"] for split in splits.values())
    return Stats(
        splits=splits,
        # end-of-text stands for no byte
        bytes_per_token=sum(split["bytes"] for split in splits.values()) / max(1, tokens - len(all_lengths)),
        median=int(np.median(all_lengths)),
        mean=float(all_lengths.mean()),
        longest=sorted(titles, key=lambda pair: -pair[1])[:5],
        histogram=[(edges[n], edges[n + 1], int(count)) for n, count in enumerate(counts) if counts[: n + 1].any()],
        dropped=data.manifest.get("dropped", {}),
    )
