"""The ladder: from what only compresses to what was trained, in bits per byte on the same articles.

    xz, zstd ─┐
    1, 2, 5-gram ─┼──> Rung(name, bits per byte, interval) ──> table, picture, evaluation/ladder_<split>.json
    checkpoints ─┤
    --hf models ─┘

All are asked for the same text. A model has to write down the end of each article too, a compressor need not; it learns
from one article for the next, where a model sees each alone.
"""

import lzma
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wikigpt.data.shards import Data
from wikigpt.evaluate.articles import ArticleScore, Text, interval
from wikigpt.evaluate.counting import COUNTED, COUNTED_FAR, count
from wikigpt.metrics import picture
from wikigpt.tokenizer import Tokenizer

DICTIONARY = 2**26  # bytes of training text, the last ones, that a compressor is given: xz takes a minute for so many
WINDOW = 2**27  # bytes that a compressor looks back: the dictionary, and as much again


@dataclass(frozen=True)
class Rung:
    """`kind`: compressor, counting, model, other. `how`: what it knows, in words."""

    name: str
    kind: str
    how: str
    bits_per_byte: float
    interval: tuple[float, float] | None  # None where articles cannot be told apart

    @classmethod
    def of(cls, name: str, kind: str, how: str, nats: Sequence[float], sizes: Sequence[int]) -> "Rung":
        """From the cost of each article and its bytes."""
        bits = np.asarray(nats) / np.log(2)
        return cls(name, kind, how, float(bits.sum() / sum(sizes)), interval(bits.tolist(), sizes))


def compressors(data: Data, texts: Sequence[Text], tokenizer: Tokenizer) -> list[Rung]:
    """What xz and zstd need for the articles behind the training text: the size of both together less that of the training
    text alone. Both look back over all of it; of more articles than fit behind it, a part after the other.

    Source: Delétang et al. 2024, "Language Modeling Is Compression" (a compressor is a model of text; table 1 has gzip and
    LZMA beside transformers).
    """
    known = _training_text(data, tokenizer)
    new = "".join(text.text for text in texts).encode()
    step = WINDOW - DICTIONARY
    parts = [new[start : start + step] for start in range(0, len(new), step)]

    def needed(compress: Callable[[bytes], int]) -> int:
        alone = compress(known)
        return sum(compress(known + part) - alone for part in parts)

    with ThreadPoolExecutor() as pool:  # both let go of Python's lock
        both = pool.map(needed, (_xz, _zstd))
    how = f"after {len(known) / 1e6:,.1f} MB of training text"
    return [
        Rung(name, "compressor", how, 8 * size / len(new), None)
        for name, size in zip(("xz -9e", "zstd -22"), both, strict=True)
    ]


def _training_text(data: Data, tokenizer: Tokenizer) -> bytes:
    """The last DICTIONARY bytes of the training text, of each folder its share."""
    parts = []
    for folder, share in data.parts:
        stream, size = folder.stream("train"), int(DICTIONARY * share)
        tokens = min(len(stream), size)  # a token is a byte or more
        ids = stream.read(len(stream) - tokens, tokens)
        parts.append(tokenizer.decode_bytes(ids[ids != data.end_of_text])[-size:])
    return b"".join(parts)


def _xz(text: bytes) -> int:
    lzma2 = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": min(WINDOW, max(4096, len(text)))}
    return len(lzma.compress(text, lzma.FORMAT_RAW, filters=[lzma2]))


def _zstd(text: bytes) -> int:
    """Level 22 looks back 128 MB."""
    return len(pa.Codec("zstd", compression_level=22).compress(text, asbytes=True))


COUNTERS = {
    "unigram": (1, False, "how frequent each token is"),
    "bigram": (2, False, "one token back (Kneser-Ney)"),
    "5-gram": (5, True, "four tokens back (modified Kneser-Ney)"),
}


def counter(name: str, data: Data, texts: Sequence[Text], tokenizer: Tokenizer) -> Rung:
    """What counts of the training text's rows of tokens know."""
    order, modified, how = COUNTERS[name]
    same = tokenizer.sha256 == data.tokenizer_hash
    rows = [
        text.ids if same and text.data.tokenizer_hash == data.tokenizer_hash
        else np.array([*tokenizer.encode(text.text), data.end_of_text])
        for text in texts
    ]  # fmt: skip
    most = COUNTED if order <= 2 else COUNTED_FAR
    counted = f" of {most / 1e6:,.0f} million tokens" if data.training_tokens > most else ""
    nats = count(data, order, modified).nats(np.concatenate(rows))
    begins = np.cumsum([0, *(len(row) for row in rows[:-1])])
    by_article = np.add.reduceat(nats, begins).tolist()
    return Rung.of(name, "counting", how + counted, by_article, [text.bytes for text in texts])


def model_rung(name: str, context: int, stride: int, articles: Sequence[ArticleScore], kind: str) -> Rung:
    """From its score of each article. `kind`: model for one of the run's, other for one of somebody else."""
    how = f"context {context:,}, stride {stride:,}"
    return Rung.of(name, kind, how, [a.nats for a in articles], [a.bytes for a in articles])


def climbed(rungs: Iterable[Rung], before: dict[str, Any], **what: Any) -> dict[str, Any]:
    """As written to evaluation/ladder_<split>.json, the worst first. Rungs of `before` stay where it is of the same
    articles."""
    same = all(before.get(name) == value for name, value in what.items())
    kept = {rung["name"]: rung for rung in before.get("rungs", ())} if same else {}
    kept |= {rung.name: asdict(rung) for rung in rungs}
    return what | {"rungs": sorted(kept.values(), key=lambda rung: -rung["bits_per_byte"])}


def table(found: dict[str, Any]) -> str:
    """A ladder in Markdown."""
    lines = ["| | knows | bits per byte | 95% |", "|---|---|---|---|"]
    for rung in found["rungs"]:
        bits = f"{rung['bits_per_byte']:.3f}"
        spread = "" if rung["interval"] is None else "{:.3f} to {:.3f}".format(*rung["interval"])
        own = rung["kind"] == "model"
        name = f"**{rung['name']}**" if own else rung["name"]
        lines.append(f"| {name} | {rung['how']} | {f'**{bits}**' if own else bits} | {spread} |")
    if found.get("trained_on"):
        lines.append(f"\n{found['trained_on']:,} of these {found['articles']:,} articles were TRAINED ON.")
    return "\n".join(lines)


COLOURS = {"compressor": "#999999", "counting": "#8fb58f", "model": "#d1495b", "other": "#1f6fb4"}


def draw_ladder(axes: Any, found: dict[str, Any]) -> None:
    """Bars from the worst at the top to the best, each with its interval."""
    rungs = found["rungs"]
    names = [rung["name"] for rung in rungs]
    bits = [rung["bits_per_byte"] for rung in rungs]
    axes.barh(range(len(rungs)), bits, color=[COLOURS[rung["kind"]] for rung in rungs], height=0.7)
    for place, rung in enumerate(rungs):
        if rung["interval"] is not None:
            axes.plot(rung["interval"], [place, place], color="#444444", linewidth=1.5, solid_capstyle="butt")
        right = max(rung["bits_per_byte"], rung["interval"][1] if rung["interval"] else 0.0)
        axes.annotate(
            f"{rung['bits_per_byte']:.2f}", (right, place), xytext=(4, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(rungs)), names, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel="bits per byte (lower is better)", xlim=(0, max(bits) * 1.12))
    axes.grid(alpha=0.25, axis="x")
    axes.set_axisbelow(True)


def plot_ladder(path: Path, found: dict[str, Any]) -> Path:
    """The picture, as a PNG file."""
    title = f"{found['run']}: {found['articles']:,} {found['split']} articles of {found['data']}"
    title += f", {found['trained_on']:,} of them TRAINED ON" if found.get("trained_on") else ""
    return picture(draw_ladder, found, path, title, height(found))


def height(found: dict[str, Any]) -> float:
    """Inches that a ladder needs."""
    return 1.2 + 0.34 * len(found["rungs"])
