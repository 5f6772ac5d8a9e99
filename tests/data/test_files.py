"""Text of one's own: every kind of file gives the same articles, a mistake names its line, and memory stays bounded."""

import gzip
import json
import os
import subprocess
import sys
import tracemalloc
import unicodedata

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import wikigpt

from wikigpt.data import sources
from wikigpt.data.article import Article, document, split_key
from wikigpt.data.filters import HashSet
from wikigpt.data.shards import DataFolder
from wikigpt.data.sources import Fields, files
from wikigpt.errors import DataError

RECORDS = [
    {"id": n, "title": f"Title {n}", "url": f"https://x/{n}", "text": f"Text number {n}, first line.\nAnd a second: é."}
    for n in range(300)
]


def read(path, fields=Fields()):  # noqa: B008 - a frozen dataclass
    source = files([path], "", fields, "CC0")
    return list(source)


def write(path, records=RECORDS):
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    if path.name.endswith(".jsonl"):
        path.write_text(lines, encoding="utf-8")
    elif path.name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        text = "".join(f"# {record['title']}\n{record['text']}\n\n\n" for record in records)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet", "a.txt", "a.txt.gz"])
def test_every_kind_gives_the_same_articles(tmp_path, name):
    articles = read(write(tmp_path / name))
    records = name.startswith(("a.jsonl", "a.parquet"))
    assert articles == [
        Article(str(r["id"]) if records else "", "", r["title"], r["url"] if records else "", r["text"])
        for r in RECORDS
    ]


def test_a_folder_is_all_its_files_in_order(tmp_path):
    (tmp_path / "sub").mkdir()
    for number, name in enumerate(("b.jsonl", "a.txt", "sub/c.parquet")):
        write(tmp_path / name, RECORDS[number * 100 : number * 100 + 100])
    (tmp_path / ".hidden.jsonl").write_text("no JSON")
    (tmp_path / "notes.md").write_text("not read")
    assert [article.title for article in read(tmp_path)] == [
        f"Title {n}" for n in (*range(100, 200), *range(100), *range(200, 300))
    ]


def test_blocks_of_a_text_file(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(
        "\ufeffOne block\r\nin two lines\r\n\r\n\n# A title\n\nits text\n   \n\n# Other title\nright behind".encode()
    )
    assert [(article.title, article.text) for article in read(path)] == [
        ("", "One block\nin two lines"),
        ("A title", "its text"),
        ("Other title", "right behind"),
    ]
    assert document(read(path)[0]) == "One block\nin two lines"


def test_fields_have_other_names_by_flag(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"body": "The text.", "head": "A  title", "n": 7, "title": "not this"}])
    assert read(path, Fields(text="body", title="head", id="n")) == [Article("7", "", "A title", "", "The text.")]


def test_texts_without_title_or_id_are_split_by_their_text():
    one, other = (Article("", "", "", "", text) for text in ("a text", "another"))
    assert split_key(one, "", "files") != split_key(other, "", "files")
    assert split_key(Article("3", "", "", "", ""), "", "files") == "files|3"


LATIN = "A café".encode("latin-1")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (
            "a.jsonl",
            b'{"text": "x"}\n{"body": "x", "n": 1}\n',
            "line 2: there is no field 'text', only body, n. Name it",
        ),
        ("a.jsonl", b'{"text": "x"}\n\n{"text": \n', "line 3: not JSON"),
        ("a.jsonl", b'["text"]\n', "line 1: no JSON object"),
        ("a.jsonl", b'{"text": 5}\n', "line 1: the field 'text' is int, not text"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "' + LATIN + b'"}\n', "line 2: byte 16 is no UTF-8. Convert it"),
        ("a.txt", b"fine\n\n" + LATIN, "line 3: byte 6 is no UTF-8"),
        ("a.jsonl.gz", b"plain text", "after line 0: Not a gzipped file"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 9999)[:-20], "Compressed file ended"),
        ("a.parquet", b"PAR1 nothing", "is no readable parquet file"),
        ("a.doc", b"?", "is of no kind that can be read. It takes .txt"),
        ("a.jsonl", b"", "has no article. Give it more articles"),
        ("a.jsonl", b'{"text": "short"}\n', "has no article (dropped: 1 short)"),
    ],
)
def test_a_mistake_names_the_file_and_the_line(tmp_path, capsys, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    assert wikigpt(["prepare", "--path", str(path), "--name", "mine"], tmp_path / "dataset") == 2
    said = capsys.readouterr().err.splitlines()
    (line,) = [line for line in said if not line.startswith(("reading", "encoding"))]
    assert says in line
    assert not (tmp_path / "dataset" / "mine").exists()


def test_what_cannot_be_found_is_said(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        files([tmp_path / "a.txt"], "", Fields(), "")
    with pytest.raises(DataError, match="holds no file to read"):
        files([tmp_path], "", Fields(), "")
    path = write(tmp_path / "a.txt")
    with pytest.raises(DataError, match="named twice"):
        files([path, tmp_path], "", Fields(), "")
    table = write(tmp_path / "a.parquet", [{"body": "x"}])
    with pytest.raises(DataError, match="there is no field 'text', only body"):
        read(table)


def test_own_files_become_data_with_their_licence(tmp_path, capsys):
    write(tmp_path / "stories.jsonl")
    command = ["prepare", "--path", str(tmp_path / "stories.jsonl"), "--held_out", "0.1", "--vocab_size", "400"]
    assert wikigpt([*command, "--licence", "CC0", "--json"], tmp_path / "dataset") == 0
    record = json.loads(capsys.readouterr().out)
    data = DataFolder(tmp_path / "dataset" / "stories")
    assert record["data"] == "stories" and record["splits"] == data.manifest["splits"]
    assert data.manifest["source"]["licence"] == "CC0" and data.wiki == ""
    assert sum(split["articles"] for split in data.manifest["splits"].values()) == len(RECORDS)


def prepared(tmp_path, records, *flags):
    path = write(tmp_path / "own.jsonl", records)
    command = ["prepare", "--path", str(path), "--vocab_size", "300", "--held_out", "0.2", *flags]
    assert wikigpt(command, tmp_path / "dataset") == 0
    return DataFolder(tmp_path / "dataset" / "own")


def test_untitled_articles_of_a_wikipedia_are_no_duplicates(tmp_path):
    data = prepared(
        tmp_path, [{"text": r["text"]} for r in RECORDS], "--wiki", "pt", "--tokenizer", "bpe", "--name", "own"
    )
    assert data.manifest["dropped"] == {} and data.wiki == "pt"


def test_what_no_file_and_no_pattern_can_take_is_mended_or_dropped(tmp_path):
    strange = [
        {
            "id": "a\ud800",
            "url": "u\udfff",
            "title": "T\ud83d",
            "text": "Half a surrogate pair is no character, anywhere.",
        },
        {"text": "A long hole" + " " * 1_200_000 + "in a text"},
        {"id": 7.0, "title": ["no", "title"], "text": "An id as pandas writes it, and a title that is none."},
    ]
    lines = [*RECORDS, *strange]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(record) + "\n" for record in lines))
    command = ["prepare", "--path", str(tmp_path / "own.jsonl"), "--tokenizer", "gpt2", "--held_out", "0.2"]
    assert wikigpt(command, tmp_path / "dataset") == 0
    manifest = DataFolder(tmp_path / "dataset" / "own").manifest
    assert manifest["dropped"] == {"white space": 1}
    rows = pq.read_table(tmp_path / "dataset" / "own" / "articles.parquet").to_pylist()
    assert {("a\ufffd", "T\ufffd"), ("7", "")} <= {(row["id"], row["title"]) for row in rows}


def test_the_same_document_in_two_forms_is_one(tmp_path):
    twins = [{"title": f"Caf\u00e9 {n}", "text": f"A text about caf\u00e9 number {n}, told once."} for n in range(100)]
    decomposed = [{"title": "", "text": unicodedata.normalize("NFD", f"# {t['title']}\n\n{t['text']}")} for t in twins]
    assert prepared(tmp_path, twins + decomposed).manifest["dropped"] == {"duplicate": 100}


def test_one_huge_line_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "LONGEST", 1000)
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps([{"text": "x" * 2000}]))
    with pytest.raises(DataError, match="line 1: longer than 1,000 bytes"):
        read(path)
    path = tmp_path / "a.txt"
    path.write_text("no blank line\n" * 100)
    with pytest.raises(DataError, match="a block of more than 1,000 characters"):
        read(path)


def test_a_set_of_hashes_is_a_set():
    numbers = [int.from_bytes(os.urandom(8)) or 1 for _ in range(5000)] + [1, 2, 2**64 - 1, 1024, 2048]
    ours = HashSet()
    for number in numbers[::2]:
        ours.add(number)
        ours.add(number)
    assert ours.count == len(set(numbers[::2]))
    assert [number in ours for number in numbers] == [number in set(numbers[::2]) for number in numbers]


MEASURED = """
import re, resource, sys
from pathlib import Path
from wikigpt.cli import main
code = main(sys.argv[1:])
status = Path("/proc/self/status")  # on Linux ru_maxrss is that of the process which started this one, where it was larger
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if status.exists():
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) * 1024
print(code, peak)
"""


def peak_memory(tmp_path, size, name):
    """Bytes that preparing a jsonl of so many bytes takes at the most, in a process of its own."""
    text = "Wikipedia is read here. It is a text of some length, in English, and it is not repeated word for word: "
    path = tmp_path / f"{name}.jsonl"
    with open(path, "w") as file:
        for n in range(size // 2775):
            body = " ".join(f"{text}{n * 31 + k} {(n * 7919 + k) % 65521:x}." for k in range(24))
            file.write(json.dumps({"title": f"Title {n}", "text": body}) + "\n")
    assert 0.9 * size < path.stat().st_size < 1.1 * size
    command = [sys.executable, "-c", MEASURED, "prepare", "--path", str(path)]
    environment = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    code, peak = done.stdout.split()
    assert code == "0", done.stderr
    return int(peak)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.txt"])
def test_reading_holds_one_article_at_a_time(tmp_path, name):
    path = write(tmp_path / name, [{"title": f"T{n}", "text": f"{n} " * 500} for n in range(6000)])
    source = files([path], "", Fields(), "")
    tracemalloc.start()
    count = sum(1 for _ in source)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 6000 and peak < 1_000_000  # of 14 MB


@pytest.mark.slow
def test_a_gigabyte_is_prepared_in_less_than_a_gigabyte_of_memory(tmp_path):
    peak = peak_memory(tmp_path, 1_000_000_000, "gigabyte")
    print(f"peak: {peak / 1e6:,.0f} MB")
    assert peak < 1_000_000_000


@pytest.mark.parametrize("size", [1, 7, 60, 1000])
def test_a_file_of_lines_is_read_in_pieces_each_line_once(tmp_path, monkeypatch, size):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"é {n} " * (n % 4)}) + "\n" for n in range(60)) + "\n[]\n", "utf-8")
    whole = files([path], "", Fields(), "")
    monkeypatch.setattr(sources, "JSONL_PIECE", size)
    pieces = files([path], "", Fields(), "")
    read = []
    with pytest.raises(DataError, match=r"a.jsonl, line 62: no JSON object"):
        read += iter(pieces)  # the last line is no article, and is said by its number in the file
    path.write_text(path.read_text("utf-8").removesuffix("[]\n"), "utf-8")
    whole, pieces = files([path], "", Fields(), ""), files([path], "", Fields(), "")
    assert len(list(whole)) == 60 and list(pieces) == list(whole) and len(pieces.pieces(pieces.files[0])) > 3 // size
