"""From a real dump to tokens: in any number of pieces and processes the same bytes, and every token finds its article."""

import bz2
import json
from importlib.metadata import distribution
from pathlib import Path

import pytest
from helpers import wikigpt

from wikigpt.data import segments, sources
from wikigpt.data.filters import plain_title
from wikigpt.data.prepare import PrepareSettings, prepare
from wikigpt.data.segments import Rules, read_all, run, tasks
from wikigpt.data.sources import EXCERPT, dump
from wikigpt.errors import DataError

DUMP = Path(str(distribution("gensim").locate_file(EXCERPT)))
SETTINGS = PrepareSettings("bpe", 400, 0.1)


def in_pieces(size: int):
    """The dump of 98 articles, read in pieces of so many bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "DUMP_PIECE", size)
        return dump([DUMP], "")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The dump prepared in one piece by one process."""
    return prepare(dump([DUMP], ""), SETTINGS, tmp_path_factory.mktemp("dataset") / "en", workers=1).path


def test_pieces_and_processes_change_nothing(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SMALL", 0)  # so that other processes are started for so little
    source = in_pieces(200_000)
    assert len(tasks(source)) == 9
    assert contents(prepare(source, SETTINGS, tmp_path / "en", workers=2).path) == contents(whole)


def test_ranks_share_the_work_in_any_order(whole, tmp_path):
    """As a cluster would: three ranks, the last one first, and one of them twice; then nothing is left to read."""
    source, rules = in_pieces(300_000), Rules(0.1)
    work = tmp_path / "work"
    work.mkdir()
    for rank in (2, 0, 1, 0):
        run(source, rules, work, rank, 3)
    before = {path.name: path.stat().st_mtime_ns for path in work.iterdir()}
    found = read_all(source, rules, work, 1, lambda bytes_, articles: None)
    assert {path.name: path.stat().st_mtime_ns for path in work.iterdir()} == before
    counts = json.loads((whole / "manifest.json").read_text())["splits"]
    assert sum(int(segment.counts()["train articles"]) for segment in found) == counts["train"]["articles"]


def test_a_killed_worker_is_one_line_and_the_rest_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SMALL", 0)
    monkeypatch.setattr(segments, "_write_task_elsewhere", die)
    with pytest.raises(DataError, match="was killed"):
        prepare(in_pieces(200_000), SETTINGS, tmp_path / "en", workers=2)
    assert not (tmp_path / "en").exists()


def die(*_):
    import os

    os._exit(9)


def test_a_damaged_dump_keeps_what_was_finished(tmp_path, monkeypatch, whole):
    raw = DUMP.read_bytes()
    place = tmp_path / DUMP.name
    place.write_bytes(raw[:1_000_000] + bytes(100) + raw[1_000_100:])
    monkeypatch.setattr(sources, "DUMP_PIECE", 100_000)
    with pytest.raises(DataError, match=r"near byte .*a block of bzip2 is not what was written"):
        prepare(dump([place], ""), SETTINGS, tmp_path / "en", workers=1)
    kept = list((tmp_path / ".en.partial" / "work").glob("*.json"))
    assert len(kept) > 5 and not (tmp_path / "en").exists()


def test_the_first_so_many_articles(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "SMALL", 0)
    few = PrepareSettings("bpe", 400, 0.2, max_articles=25)
    one = prepare(in_pieces(10**9), few, tmp_path / "one", workers=1)
    many = prepare(in_pieces(100_000), few, tmp_path / "many", workers=2)
    assert sum(split["articles"] for split in one.manifest["splits"].values()) == 25
    same = [name for name in contents(one.path) if name != "manifest.json"]
    assert all(contents(one.path)[name] == contents(many.path)[name] for name in same)


def test_titles_that_a_benchmark_was_made_of_are_kept_out(tmp_path, capsys):
    (tmp_path / "titles.txt").write_text("abraham_Lincoln\nAlabama\n\nNowhere\n", encoding="utf-8")
    command = ["prepare", "--path", str(DUMP), "--name", "out", "--held_out", "0.1", "--tokenizer", "bpe"]
    hold_out = ["--vocab_size", "400", "--hold_out", str(tmp_path / "titles.txt"), "--json"]
    assert wikigpt([*command, *hold_out], tmp_path / "dataset") == 0
    assert json.loads(capsys.readouterr().out)["dropped"]["held out"] == 2
    assert wikigpt(["data", "show", "Alabama"], tmp_path / "dataset") == 2
    manifest = json.loads((tmp_path / "dataset" / "out" / "manifest.json").read_text())
    assert sorted(manifest["examples"]["held out"]) == ["Abraham Lincoln", "Alabama"]
    (tmp_path / "titles.txt").write_text("Alabama\n")  # other titles, other data
    assert wikigpt([*command, *hold_out], tmp_path / "dataset") == 2
    assert plain_title("abraham_Lincoln") == "Abraham Lincoln"


@pytest.mark.parametrize(
    ("what", "title"), [("308", "Aristotle"), ("aristotle", "Aristotle"), ("train:0", "Anarchism")]
)
def test_an_article_is_found_by_title_id_or_token(whole, capsys, what, title):
    assert wikigpt(["data", "show", what, "--json"], whole.parent) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["title"] == title and shown["text"].startswith(f"# {title}\n\n") and shown["revision"].isdecimal()


def test_every_token_says_which_article_it_is_of(whole, capsys):
    """Looked up by its place, a token is in the article whose row holds that place, and is the token of the shard."""
    import numpy as np
    import pyarrow.parquet as pq

    tokens = np.fromfile(whole / "validation_00000.bin", "<u2")
    rows = [row for row in pq.read_table(whole / "articles.parquet").to_pylist() if row["split"] == "validation"]
    for row in (rows[0], rows[-1]):
        for place in (row["offset"], row["offset"] + row["length"] // 2, row["offset"] + row["length"] - 1):
            assert wikigpt(["data", "show", f"validation:{place}", "--json"], whole.parent) == 0
            shown = json.loads(capsys.readouterr().out)
            assert shown["id"] == row["id"] and shown["tokens"][shown["token"]["number"]] == tokens[place]
    assert wikigpt(["data", "show", f"validation:{len(tokens)}"], whole.parent) == 2
    assert "there is no number" in capsys.readouterr().err


def test_figures_and_a_report(whole, capsys):
    assert wikigpt(["data", "stats"], whole.parent) == 0
    said = capsys.readouterr().out
    manifest = json.loads((whole / "manifest.json").read_text())
    assert f"{manifest['splits']['train']['tokens']:,} tokens" in said and "99 redirect" in said
    page = (whole / "report.html").read_text(encoding="utf-8")
    for expected in ("bytes per token", "AccessibleComputing", "{{Redirect2", "CC BY-SA 4.0", "sha256"):
        assert expected in page, expected
    assert "http" not in page.split("<style>")[1].split("</style>")[0] and "<script" not in page
    (whole / "report.html").unlink()


def test_extracting_gives_the_articles_in_order(tmp_path, capsys, monkeypatch):
    out = tmp_path / "out.jsonl"
    assert wikigpt(["data", "extract", str(DUMP), "-o", str(out), "--json"], tmp_path) == 0
    said = json.loads(capsys.readouterr().out)
    articles = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert said["articles"] == len(articles) == 98 and said["left_out"]["redirect"] == 99
    assert list(articles[0]) == ["id", "revision", "title", "url", "text"]
    assert [int(article["id"]) for article in articles] == sorted(int(article["id"]) for article in articles)
    first = out.read_bytes()
    monkeypatch.setattr(sources, "DUMP_PIECE", 200_000)
    monkeypatch.setattr("wikigpt.data.extract.SMALL", 0)
    assert wikigpt(["data", "extract", str(DUMP), "-o", str(out), "--workers", "2"], tmp_path) == 0
    assert out.read_bytes() == first and list(tmp_path.glob("*.part")) == []


def test_extracting_from_a_damaged_dump_keeps_what_came_before(tmp_path, capsys):
    short = tmp_path / "short.xml.bz2"
    short.write_bytes(DUMP.read_bytes()[:600_000])
    assert wikigpt(["data", "extract", str(short), "-o", str(tmp_path / "out.jsonl")], tmp_path) == 2
    said = capsys.readouterr().err
    assert "near byte" in said and said.strip().count("\n") <= 1 and not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("data", "Take one of data extract, data stats, data show"),
        ("data extract nowhere.xml", "There is no file nowhere.xml"),
        ("data extract", "There is no dump to read. Name its files"),
        ("data stats", "There is no prepared data"),
        ("data show x --data y", "not a prepared data folder"),
        ("prepare --path a.xml b.txt", "b.txt is no dump"),
        ("prepare --wiki pt,es --name x", "--wiki names several Wikipedias"),
        ("prepare --wiki ../x", "cannot name a folder"),
        ("prepare --max_articles 0", "max_articles is 0"),
        ("prepare --hold_out nowhere.txt", "nowhere.txt cannot be read"),
    ],
)
def test_a_mistake_gets_one_line(tmp_path, capsys, monkeypatch, command, says):
    monkeypatch.chdir(tmp_path)
    assert wikigpt(command, tmp_path / "dataset") == 2
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1, said


def test_a_title_that_climbs_out_is_only_a_title(tmp_path):
    text = "A page whose title looks like a path, and whose text is long enough to be kept. " * 3
    page = "<page><title>../../{}</title><ns>0</ns><id>{}</id><revision><id>1</id><text>{}</text></revision></page>"
    body = "".join(page.format(number, number, text + str(number)) for number in range(60))
    path = tmp_path / "in" / "x.xml.bz2"
    path.parent.mkdir()
    path.write_bytes(
        bz2.compress(f"<mediawiki><siteinfo><dbname>xxwiki</dbname></siteinfo>{body}</mediawiki>".encode())
    )
    before = set(tmp_path.rglob("*"))
    command = ["prepare", "--path", str(path), "--name", "d", "--vocab_size", "300", "--held_out", "0.2"]
    assert wikigpt(command, tmp_path / "dataset") == 0
    inside = {tmp_path / "dataset"} | set((tmp_path / "dataset").rglob("*"))
    assert set(tmp_path.rglob("*")) - before == inside


def test_what_was_read_is_kept_when_only_the_tokens_change(tmp_path, monkeypatch, capsys):
    from wikigpt.data import encode as encoding

    def stops(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(encoding, "_append", stops)  # ids of the first tokenizer are there
        with pytest.raises(KeyboardInterrupt):
            prepare(dump([DUMP], ""), SETTINGS, tmp_path / "en", workers=1)
    stamp = {path.name: path.stat().st_mtime_ns for path in (tmp_path / ".en.partial" / "work").glob("*.jsonl")}
    monkeypatch.setattr(segments, "write_task", stops)  # nothing is read again
    other = PrepareSettings("bpe", 300, 0.1)
    made = prepare(dump([DUMP], ""), other, tmp_path / "en", workers=1)
    assert stamp and made.vocab_size == 300 and made.stream("train").read(0, 10**7).max() == 299


def test_a_page_that_cannot_be_cleaned_is_left_out_and_counted(tmp_path, monkeypatch):
    from wikigpt.data import pages

    clean = pages.clean_wikitext
    monkeypatch.setattr(
        pages, "clean_wikitext", lambda text, title, site: clean(text, title, site) if title != "Autism" else 1 / 0
    )
    data = prepare(dump([DUMP], ""), SETTINGS, tmp_path / "en", workers=1)
    assert data.manifest["dropped"]["cannot be cleaned"] == 1
    assert [one["title"] for one in data.manifest["before_and_after"]] == ["Anarchism", "Albedo", "A"]


def test_a_dump_is_never_overwritten_and_names_are_taken_literally(tmp_path, capsys):
    for name in ("a.xml.bz2", "f[1].xml.bz2"):
        (tmp_path / name).write_bytes(DUMP.read_bytes()[:0] + bz2.compress(b"<mediawiki></mediawiki>"))
    (tmp_path / "f1.xml.bz2").write_bytes(DUMP.read_bytes())
    assert wikigpt(["data", "extract", str(tmp_path / "a.xml.bz2"), "-o", str(tmp_path / "a.xml.bz2")], tmp_path) == 2
    assert "is the dump itself" in capsys.readouterr().err
    command = ["data", "extract", str(tmp_path / "f[1].xml.bz2"), "-o", str(tmp_path / "o.jsonl"), "--json"]
    assert wikigpt(command, tmp_path) == 0
    assert json.loads(capsys.readouterr().out)["articles"] == 0
    assert wikigpt(["data", "extract", str(tmp_path), "-o", str(tmp_path / "o.jsonl"), "--wiki", "../x"], tmp_path) == 2
    assert "There is no Wikipedia" in capsys.readouterr().err
