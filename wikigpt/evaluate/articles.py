"""A split by article: every article is a text of its own, scored from its title to its end.

    articles.parquet, shards ──> Text ──> LanguageModel ──> ArticleScore ──> one figure and its interval, best and worst

An article begins with end-of-text before it and nothing else, so that its figure depends on no other article. All of its
tokens are predicted, its title's and the end-of-text behind it too.
"""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import regex

from wikigpt.config import write_text
from wikigpt.data.shards import Data, DataFolder, TokenStream
from wikigpt.errors import DataError
from wikigpt.evaluate.language_model import LanguageModel, predict
from wikigpt.evaluate.score import Score
from wikigpt.tokenizer import Tokenizer

RESAMPLES = 1000
SHOWN = 5  # best and worst articles
SHORT = 200  # bytes: a shorter article is neither best nor worst, its figure is chance
NO_SPACES = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]"


@dataclass(frozen=True)
class Text:
    """An article as it lies in the shards, and as text."""

    row: dict[str, Any]  # of articles.parquet: id, revision, title, url, split, shard, offset, length
    ids: np.ndarray  # end-of-text is the last
    text: str
    data: DataFolder
    trained_on: bool = False

    @property
    def bytes(self) -> int:
        return len(self.text.encode())


def read_texts(data: Data, split: str, tokenizer: Tokenizer) -> Iterator[Text]:
    """The articles of a split, in the order of the shards. Raises DataError where there are none."""
    none = True
    for folder, _ in data.parts:
        dtype = np.dtype(folder.manifest["dtype"])
        table = pq.read_table(folder.path / "articles.parquet", filters=[("split", "=", split)])
        streams: dict[str, TokenStream] = {}
        for batch in table.sort_by([("shard", "ascending"), ("offset", "ascending")]).to_batches(4096):
            for row in batch.to_pylist():
                none = False
                if row["shard"] not in streams:
                    streams = {row["shard"]: TokenStream([folder.path / row["shard"]], dtype)}
                ids = streams[row["shard"]].read(row["offset"], row["length"])
                yield Text(row, ids, tokenizer.decode(ids[:-1]), folder)
    if none:
        raise DataError(f"{data.spec} has no {split} articles.", "Prepare it with a larger --held_out.")


@dataclass(frozen=True)
class ArticleScore:
    """What an article costs: nats over tokens, bytes and words of its text (with its title)."""

    title: str
    id: str
    url: str
    folder: str
    tokens: int
    bytes: int
    words: int | None  # None where words are not set apart
    nats: float
    trained_on: bool = False

    @property
    def bits_per_byte(self) -> float:
        return self.score.bits_per_byte

    @property
    def score(self) -> Score:
        return Score(self.nats, self.tokens, self.bytes)

    def row(self) -> dict[str, Any]:
        record = asdict(self) | {"nats": round(self.nats, 4), "bits_per_byte": round(self.bits_per_byte, 4)}
        return record | {"words": "" if self.words is None else self.words}


def score_articles(
    model: LanguageModel, texts: Sequence[Text], tokenizer_hash: str, context: int, stride: int
) -> list[ArticleScore]:
    """Every article's cost. `tokenizer_hash` is that of the data."""
    same = model.tokenizer_hash == tokenizer_hash
    rows = ([model.start, *text.ids.tolist()] if same else model.whole(text.text) for text in texts)
    return [
        ArticleScore(
            title=text.row["title"],
            id=text.row["id"],
            url=text.row["url"],
            folder=text.data.name,
            tokens=len(predicted.nats),
            bytes=text.bytes,
            words=count_words(text.text),
            nats=float(predicted.nats.sum()),
            trained_on=text.trained_on,
        )
        for text, predicted in zip(texts, predict(model, rows, context, stride), strict=True)
    ]


def count_words(text: str) -> int | None:
    """Words as white space sets them apart; None in a script that does not (Chinese, Japanese, Thai, ...)."""
    beginning = text[:2000]
    letters = len(regex.findall(r"\p{L}", beginning))
    return None if 2 * len(regex.findall(NO_SPACES, beginning)) > letters else len(text.split())


def interval(tops: Sequence[float], bottoms: Sequence[float], resamples: int = RESAMPLES) -> tuple[float, float] | None:
    """Between which values sum(tops) / sum(bottoms) lies in 95 of 100 cases, had other articles of the same kind been drawn:
    both ends of the percentile bootstrap. None for fewer than two articles.

    Source: Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13. Resampled are articles and not tokens,
    since tokens of one article are no independent draws.
    """
    n, random = len(tops), np.random.default_rng(0)
    if n < 2:
        return None
    values = np.stack([np.asarray(tops, np.float64), np.asarray(bottoms, np.float64)])
    ratios = np.empty(resamples)
    for number in range(resamples):
        top, bottom = values[:, random.integers(0, n, n)].sum(1)
        ratios[number] = top / bottom if bottom else np.nan
    low, high = np.nanpercentile(ratios, [2.5, 97.5])
    return float(low), float(high)


def summary(articles: Sequence[ArticleScore]) -> dict[str, Any]:
    """All figures of some articles, for --json and for what is written into the run."""
    record: dict[str, Any] = sum((article.score for article in articles), Score(0.0, 0, 0)).row()
    record |= {"articles": len(articles)}
    record["bits_per_byte_interval"] = interval([a.nats / math.log(2) for a in articles], [a.bytes for a in articles])
    counted = [article for article in articles if article.words is not None]
    words, nats = sum(article.words or 0 for article in counted), sum(article.nats for article in counted)
    enough = len(counted) > len(articles) / 2 and words > 0
    record["words"] = words if enough else None
    record["word_perplexity"] = Score(nats, words, 1).perplexity if enough else None
    ordered = sorted(articles, key=lambda article: article.bits_per_byte)
    long = [article for article in ordered if article.bytes >= SHORT] or ordered
    record["trained_on"] = sum(article.trained_on for article in articles)
    record["best"] = [article.row() for article in long[:SHOWN]]
    record["worst"] = [article.row() for article in long[::-1][:SHOWN]]
    return record


def in_words(record: dict[str, Any]) -> str:
    """The figures of a split in one line."""
    spread = record["bits_per_byte_interval"]
    between = "" if spread is None else " (95%: {:.3f} to {:.3f})".format(*spread)
    words = record["word_perplexity"]
    per_word = "" if words is None else f", {words:,.4g} per word"
    bigram = record.get("bigram_bits_per_byte")
    beside = "" if bigram is None else f" (Kneser-Ney bigram: {bigram:.3f})"
    trained = f", {record['trained_on']:,} of them TRAINED ON" if record["trained_on"] else ""
    left_out = f", {record['left_out']:,} that it was trained on left out" if record.get("left_out") else ""
    return (
        f"{record['bits_per_byte']:.3f} bits per byte{between} over {record['articles']:,} articles{trained}{left_out}, "
        f"{record['scored_tokens']:,} tokens{beside}; "
        f"loss {record['loss']:.3f}, perplexity {record['perplexity']:,.4g} per token{per_word}"
    )


def write_articles(path: Path, articles: Sequence[ArticleScore]) -> None:
    """A table that any program reads: one line an article, the worst first, tabs between."""
    out = io.StringIO()
    names = [field.name for field in fields(ArticleScore)] + ["bits_per_byte"]
    table = csv.DictWriter(out, names, delimiter="\t", lineterminator="\n")
    table.writeheader()
    for article in sorted(articles, key=lambda article: -article.bits_per_byte):
        table.writerow({name: str(value) for name, value in article.row().items()})
    write_text(path, out.getvalue())
