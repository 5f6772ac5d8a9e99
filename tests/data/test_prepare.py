"""Preparing is reproducible to the byte, leaks nothing between splits, and leaves nothing half-made."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from wikigpt import tokenizer as tokenizers
from wikigpt.config import MODEL_CONFIGS, ModelConfig
from wikigpt.data import encode as encoding
from wikigpt.data import prepare as preparing
from wikigpt.data import segments
from wikigpt.data.article import Article, Piece, document, split_key, split_of
from wikigpt.data.prepare import PrepareSettings, bpe_vocab_size, default_tokenizer, prepare
from wikigpt.data.sources import Source, local_files, sample
from wikigpt.errors import DataError

SETTINGS = PrepareSettings("bpe", 400, 0.1)


@pytest.fixture(autouse=True)
def each_file_has_its_own_shards(monkeypatch):
    monkeypatch.setattr(segments, "PART", 0)


def test_small_files_share_their_shards(tmp_path, monkeypatch):
    source = source_of(tmp_path, articles(), files=7)
    alone = prepare(source, SETTINGS, tmp_path / "a", workers=2)
    monkeypatch.setattr(segments, "PART", 3 * max(file.bytes for file in source.files))
    shared = prepare(source, SETTINGS, tmp_path / "b", workers=2)
    assert len(shards(alone)) == 7 * 3 * 2 and len(shards(shared)) == 3 * 3 * 2
    for split in ("train", "validation", "test"):  # the same text in the same order
        one, other = alone.stream(split), shared.stream(split)
        assert one.read(0, 10**6).tolist() == other.read(0, 10**6).tolist()
    tokenizer = tokenizers.load(shared.path / "tokenizer")
    by_id = {article.id: article for article in articles()}
    for row in pq.read_table(shared.path / "articles.parquet").to_pylist()[::11]:
        ids = np.fromfile(shared.path / row["shard"], "<u2")[row["offset"] : row["offset"] + row["length"]]
        assert tokenizer.decode(ids[:-1]) == document(by_id[row["id"]])


def source_of(tmp_path: Path, articles: list[Article], files: int = 1) -> Source:
    paths = []
    for number in range(files):
        path = tmp_path / f"in{number}.json"
        path.write_text(json.dumps([a.__dict__ for a in articles[number::files]]))
        paths.append(path)

    return Source("test", "xx", "a test", "CC0", "nobody", "test/1", local_files(paths), read_records)


def read_records(piece: Piece):
    return ((number, Article(**record)) for number, record in enumerate(json.loads(piece.path.read_text())))


def articles(number: int = 300) -> list[Article]:
    return [
        Article(
            str(n),
            str(n * 7),
            f"Article {n}",
            f"https://x/{n}",
            f"Article number {n} says {n * n} <|endoftext|> é\n\n{n}",
        )
        for n in range(number)
    ]


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_twice_and_with_one_or_four_workers_the_bytes_are_the_same(tmp_path, data):
    again = prepare(sample("es"), PrepareSettings("bpe", 1000, 0.03), tmp_path / "es", workers=4)
    once_more = prepare(sample("es"), PrepareSettings("bpe", 1000, 0.03), tmp_path / "other", workers=1)
    own = {name: value for name, value in contents(data.path).items() if "passages" not in name}  # made by other tests
    assert own == contents(again.path) == contents(once_more.path)


def test_segments_and_processes_change_nothing(tmp_path, monkeypatch):
    source = source_of(tmp_path, articles(), files=3)
    whole = prepare(source, SETTINGS, tmp_path / "a", workers=2)
    monkeypatch.setattr(segments, "SEGMENT", 2000)
    monkeypatch.setattr(encoding, "SMALL", 0)
    monkeypatch.setattr(encoding, "ROWS", 7)
    small = prepare(source, SETTINGS, tmp_path / "b", workers=2)
    rows = [pq.read_table(data.path / "articles.parquet") for data in (whole, small)]
    assert rows[0].equals(rows[1]) and rows[0].num_rows == 300
    assert shards(small) == shards(whole) and len(shards(whole)) == 3 * 3 * 2


def shards(data):
    return {name: value for name, value in contents(data.path).items() if name.endswith((".bin", ".index"))}


def test_with_several_files_a_row_names_the_shard_and_the_place_in_it(tmp_path):
    data = prepare(source_of(tmp_path, articles(), files=3), SETTINGS, tmp_path / "d", workers=2)
    tokenizer = tokenizers.load(data.path / "tokenizer")
    by_id = {article.id: article for article in articles()}
    for row in pq.read_table(data.path / "articles.parquet").to_pylist()[::7]:
        ids = np.fromfile(data.path / row["shard"], "<u2")[row["offset"] : row["offset"] + row["length"]]
        assert tokenizer.decode(ids[:-1]) == document(by_id[row["id"]])


def test_every_row_of_the_index_finds_its_article(data):
    tokenizer = tokenizers.load(data.path / "tokenizer")
    source = sample("es")
    by_title = {article.title: article for article in source}
    rows = pq.read_table(data.path / "articles.parquet").to_pylist()
    assert len(rows) == sum(split["articles"] for split in data.manifest["splits"].values())
    for row in rows[::97]:
        ids = data.stream(row["split"]).read(row["offset"], row["length"])
        assert ids[-1] == tokenizer.end_of_text and tokenizer.end_of_text not in ids[:-1]
        assert tokenizer.decode(ids[:-1]) == document(by_title[row["title"]])


def test_each_article_is_in_the_split_of_its_key(data):
    for row in pq.read_table(data.path / "articles.parquet").to_pylist():
        article = Article(row["id"], row["revision"], row["title"], row["url"], "")
        assert row["split"] == split_of(split_key(article, "es", "sample"), 0.03)


def test_no_text_stands_in_two_splits(tmp_path):
    text = "The same text stands under two hundred titles, as bots do."
    doubled = [Article(str(n), "", f"Title {n}", "", text) for n in range(200)]
    data = prepare(source_of(tmp_path, articles() + doubled), SETTINGS, tmp_path / "d", workers=2)
    assert data.manifest["dropped"] == {"duplicate": 199}
    titles = [row["title"] for row in pq.read_table(data.path / "articles.parquet").to_pylist()]
    assert len([title for title in titles if title.startswith("Title")]) == 1


def test_the_bpe_never_sees_what_is_held_out(tmp_path):
    def disturbed(article):
        held_out = split_of(split_key(article, "xx", "test"), SETTINGS.held_out) != "train"
        return replace(article, text="zqzqzq " * 50 + article.id) if held_out else article

    plain = prepare(source_of(tmp_path, articles()), SETTINGS, tmp_path / "a", workers=1)
    (tmp_path / "b").mkdir()
    other = prepare(source_of(tmp_path / "b", [disturbed(a) for a in articles()]), SETTINGS, tmp_path / "c", workers=1)
    assert plain.manifest["splits"]["validation"] != other.manifest["splits"]["validation"]
    assert plain.manifest["tokenizer"]["sha256"] == other.manifest["tokenizer"]["sha256"]


def test_the_bytes_counted_are_those_of_the_text(data):
    tokenizer = tokenizers.load(data.path / "tokenizer")
    for split, counts in data.manifest["splits"].items():
        ids = data.stream(split).read(0, counts["tokens"])
        assert tokenizer.token_bytes[ids].sum() == counts["bytes"]
        assert (ids == tokenizer.end_of_text).sum() == counts["articles"]


def test_broken_surrogates_and_control_characters_do_not_stop_it(tmp_path):
    strange = [Article("x", "", "Sur\ud800rogate", "", "broken \udfff text with \x00 and \x85 and much more")]
    data = prepare(source_of(tmp_path, articles() + strange), SETTINGS, tmp_path / "s", workers=1)
    assert sum(split["articles"] for split in data.manifest["splits"].values()) == 301


def test_an_interrupted_preparation_leaves_nothing_that_looks_finished(tmp_path):
    def read(path):
        yield from enumerate(articles(50))
        raise OSError("the disk went away")

    source = replace(source_of(tmp_path, articles()), read=read)
    with pytest.raises(OSError, match="went away"):
        prepare(source, SETTINGS, tmp_path / "d", workers=1)
    assert not (tmp_path / "d").exists()
    assert prepare(source_of(tmp_path, articles()), SETTINGS, tmp_path / "d", workers=1).path.exists()


def test_an_interrupted_preparation_goes_on_where_it_stopped(tmp_path, monkeypatch):
    """While it reads (in the second file), while it encodes, and after that: the result is the same to the byte, and what
    was done is not done again."""
    monkeypatch.setattr(segments, "SEGMENT", 1000)
    source = source_of(tmp_path, articles(), files=3)
    whole = contents(prepare(source, SETTINGS, tmp_path / "whole", workers=2).path)
    reads, chunks = [], []

    def stops_reading(piece):
        for number, (position, article) in enumerate(source.read(piece)):
            if piece.path == source.files[1].path and number == 60 and len(reads) == 160:
                raise KeyboardInterrupt
            reads.append(article.id)
            yield position, article

    def stops_encoding(*arguments):
        for number, chunk in enumerate(encode(*arguments)):
            if len(chunks) == 7:
                raise KeyboardInterrupt
            chunks.append(number)
            yield chunk

    encode = encoding._encoded
    monkeypatch.setattr(encoding, "_encoded", stops_encoding)
    folder = tmp_path / "d"
    interrupted = replace(source, read=stops_reading)
    for _ in range(2):  # once while reading, once while encoding
        with pytest.raises(KeyboardInterrupt):
            prepare(interrupted, SETTINGS, folder, workers=2)
        assert not folder.exists()
    chunks += range(1000)  # no more interruptions
    parts = len(list((tmp_path / ".d.partial" / "work").glob("*.jsonl")))
    monkeypatch.setattr(preparing, "train_bpe", None)  # not trained again
    assert contents(prepare(interrupted, SETTINGS, folder, workers=2).path) == whole
    assert parts > 9 and not (tmp_path / ".d.partial").exists()


def test_another_request_does_not_go_on_with_what_was_left(tmp_path):
    def read(path):
        yield from enumerate(articles(50))
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        prepare(replace(source_of(tmp_path, articles()), read=read), SETTINGS, tmp_path / "d", workers=1)
    other = replace(SETTINGS, held_out=0.2)
    folder = prepare(source_of(tmp_path, articles()), other, tmp_path / "d", workers=1).path
    assert contents(folder) == contents(prepare(source_of(tmp_path, articles()), other, tmp_path / "e", workers=1).path)


def test_a_second_preparation_of_the_same_folder_is_kept_out(tmp_path):
    from wikigpt.runs import locked

    with locked(tmp_path / "d", DataError("busy", "")), pytest.raises(DataError, match="Another process is preparing"):
        prepare(source_of(tmp_path, articles()), SETTINGS, tmp_path / "d", workers=1)


def test_an_interrupted_renewal_keeps_the_old_folder(tmp_path):
    source = source_of(tmp_path, articles())
    before = contents(prepare(source, SETTINGS, tmp_path / "d", workers=1).path)
    with pytest.raises(DataError, match="has no article"):
        prepare(replace(source, read=lambda path: iter([])), SETTINGS, tmp_path / "d", workers=1, fresh=True)
    assert contents(tmp_path / "d") == before


def test_the_same_again_is_left_alone_and_something_else_is_refused(tmp_path):
    source = source_of(tmp_path, articles())
    folder = prepare(source, SETTINGS, tmp_path / "d", workers=1).path
    stamp = (folder / "manifest.json").stat().st_mtime_ns
    prepare(source, SETTINGS, folder, workers=1)
    assert (folder / "manifest.json").stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="--fresh"):
        prepare(source, replace(SETTINGS, vocab_size=500), folder, workers=1)
    renewed = prepare(source, replace(SETTINGS, held_out=0.2), folder, workers=1, fresh=True)
    assert renewed.manifest["settings"]["held_out"] == 0.2


def test_a_folder_that_is_no_data_is_left_alone(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="is no data folder"):
        prepare(source_of(tmp_path, articles()), SETTINGS, tmp_path / "d", workers=1, fresh=True)
    assert (tmp_path / "d" / "thesis.txt").read_text() == "mine"


def test_defaults_follow_the_language_and_the_model():
    assert default_tokenizer("en", "sample") == "bpe"
    assert [preparing.default_vocab_size(source) for source in ("sample", "dump")] == [2048, 8192]
    assert [default_tokenizer(wiki, "hf") for wiki in ("en", "simple", "hi")] == ["gpt2", "gpt2", "bpe"]
    assert bpe_vocab_size(ModelConfig(**MODEL_CONFIGS["tiny"])) == 8192
    assert bpe_vocab_size(ModelConfig(**MODEL_CONFIGS["gpt2_original"])) == 32768
