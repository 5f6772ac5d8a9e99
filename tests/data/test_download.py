"""Official dumps come whole or not at all, politely, and go on where they were cut; all servers are on this machine."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest
from helpers import wikigpt
from loopback_dumps import CONTENT, Dumps, page
from test_prepare import contents

from wikigpt.data import download
from wikigpt.data.download import Dump, fetch, find
from wikigpt.errors import DataError

TINY = "--tokenizer bpe --vocab_size 300 --held_out 0.1 --workers 1"


@pytest.fixture
def dumps(monkeypatch):
    """A server that also tells how many articles xx has."""
    with Dumps() as server:
        monkeypatch.setattr(download, "STATISTICS", server.add_statistics("xxwiki", 1234))
        yield server


def pages(number: int = 200, length: int = 150) -> list[bytes]:
    """Articles that compress to about half their length."""
    draw = random.Random(0)
    return [
        page(n, f"Title {n}", f"Article {n} says {draw.randbytes(length).hex()}.") for n in range(100, 100 + number)
    ]


def bring(dump: Dump, folder: Path) -> dict[str, bytes]:
    """Fetches a dump; what then lies in the folder. The bytes that were reported make up the whole of it."""
    seen: list[int] = []
    paths = fetch(dump, folder, seen.append)
    assert sum(seen) == dump.bytes and sorted(paths) == sorted(folder.iterdir())
    return {path.name: path.read_bytes() for path in paths}


def made(folder: Path) -> dict[str, str]:
    """A data folder by file, without the report, in which the folder's name stands."""
    return {name: what for name, what in contents(folder).items() if name != "report.html"}


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on the standard error."""
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    return line


def nobody() -> str:
    """An address where no one listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


# ── finding ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_newest_complete_dump_is_taken(dumps):
    for date, done in (("20260901", True), ("20261001", True), ("20261101", False)):
        dumps.add_legacy("xxwiki", date, pages(), done=done)
    dumps.add_content("xxwiki", "2026-11-01", pages())
    found = find("xx", mirror=dumps.url)
    assert (found.wiki, found.date) == ("xxwiki", "20261001") == (find("xxwiki", mirror=dumps.url).wiki, found.date)
    assert [file.name for file in found.files] == ["xxwiki-20261001-pages-articles-multistream.xml.bz2"]
    assert found.bytes == len(dumps.dumps()[found.files[0].name])


def test_of_a_large_wiki_the_split_files_are_taken_and_no_index(dumps):
    dumps.add_legacy("xxwiki", "20261101", pages(), parts=3)
    names = [file.name for file in find("xx", mirror=dumps.url).files]
    assert names == [f"xxwiki-20261101-pages-articles-multistream{n}.xml-p{n}00p{n}99.bz2" for n in (1, 2, 3)]


def test_where_there_is_no_legacy_dump_the_newest_whole_export_is_taken(dumps):
    dumps.add_legacy("xxwiki", "20261101", pages(), done=False)
    for date, done in (("2026-09-01", True), ("2026-10-01", True), ("2026-11-01", False)):
        dumps.add_content("xxwiki", date, pages(), parts=2, done=done)
    found = find("xx", mirror=dumps.url)
    assert found.date == "20261001" and [len(file.hashes["sha256"]) for file in found.files] == [64, 64]
    assert found.bytes == sum(len(data) for name, data in dumps.dumps().items() if "2026-10-01" in name)


def test_an_export_without_sums_is_not_taken(dumps):
    dumps.add_content("xxwiki", "2026-11-01", pages(), done=False)
    with pytest.raises(DataError, match="complete dump"):
        find("xx", mirror=dumps.url)


def test_a_date_is_taken_as_it_is_asked_for(dumps):
    for month in ("10", "11"):
        dumps.add_legacy("xxwiki", f"2026{month}01", pages())
    dumps.add_content("xxwiki", "2026-09-01", pages())
    for date in ("20261001", "2026-10-01", "20260901"):
        assert find("xx", date, dumps.url).date == date.replace("-", "")
    with pytest.raises(DataError, match="no complete dump of xxwiki of 20260101"):
        find("xx", "20260101", dumps.url)
    with pytest.raises(DataError, match="no date"):
        find("xx", "yesterday", dumps.url)


@pytest.mark.parametrize("wiki", ["zz", "../x", "x/../../y", "%2e%2e", "e n", "..", "wiki", "../x --name x"])
def test_what_is_no_wikipedia_is_refused_in_one_line(wiki, dumps, tmp_path, capsys):
    dumps.add_legacy("xxwiki", "20261101", pages())
    wiki, *name = wiki.split(" ", 1) if "--" in wiki else [wiki]
    command = ["prepare", "--source", "dump", "--wiki", wiki, "--mirror", dumps.url, *" ".join(name).split()]
    assert wikigpt(command, tmp_path / "dataset") == 2
    assert re.match(f"(There is no Wikipedia {wiki!r}|{wiki!r} cannot name a folder)", said(capsys))
    assert not list(tmp_path.iterdir()) and (wiki == "zz" or not dumps.requests)


def test_a_name_that_leads_elsewhere_is_refused(dumps, tmp_path):
    dumps.add_legacy("xxwiki", "20261101", pages())
    dumps.add_content("yywiki", "2026-11-01", pages())
    status, sums = "/xxwiki/20261101/dumpstatus.json", f"{CONTENT}/yywiki/2026-11-01/xml/bzip2/SHA256SUMS"
    for name in ("../evil.xml.bz2", "/tmp/evil.xml.bz2", "%2e%2e%2fevil.xml.bz2", ".evil.xml.bz2"):
        for path, wiki in ((status, "xx"), (sums, "yy")):
            before = dumps.files[path]
            dumps.files[path] = re.sub(rb"\b%b\w+-[\w.-]+\.xml\.bz2" % wiki.encode(), name.encode(), before)
            with pytest.raises(DataError, match=r"The server names a file '.*evil.xml.bz2'"):
                find(wiki, mirror=dumps.url)
            dumps.files[path] = before


def test_a_mirror_that_answers_something_else_is_one_line(dumps, tmp_path, capsys):
    dumps.add_legacy("xxwiki", "20261101", pages())
    for answer in (b"<html>Please log in</html>", b"[]", b'{"jobs": {"articlesdump": {"status": "done"}}}'):
        dumps.files["/xxwiki/20261101/dumpstatus.json"] = answer
        assert wikigpt(f"prepare --wiki xx --mirror {dumps.url}", tmp_path) == 2
        assert "This should not have happened" not in said(capsys)


def test_where_nobody_answers_it_says_so_soon_and_names_what_works_offline(tmp_path, capsys):
    start = time.monotonic()
    assert wikigpt(f"prepare --wiki xx --mirror {nobody()}", tmp_path) == 2
    assert time.monotonic() - start < 10
    line = said(capsys)
    assert "cannot be reached" in line and "--source sample" in line and "--path" in line


# ── fetching ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_download_that_is_cut_goes_on_where_it_stopped(dumps, tmp_path):
    dumps.add_legacy("xxwiki", "20261101", pages(100, 8000))
    dumps.cut = {"multistream.xml.bz2": 400_000}
    assert bring(find("xx", mirror=dumps.url), tmp_path) == dumps.dumps()
    first, second = dumps.downloads()
    assert (first.range, first.status, second.status) == ("", 200, 206)
    assert 300_000 < int(second.range.removeprefix("bytes=").removesuffix("-")) <= 400_000


def test_what_an_earlier_command_left_is_gone_on_with(dumps, tmp_path, monkeypatch):
    dumps.add_legacy("xxwiki", "20261101", pages())
    ((name, data),) = dumps.dumps().items()
    dump = find("xx", mirror=dumps.url)
    (tmp_path / f"{name}.part").write_bytes(data[:999])
    assert download.present(dump, tmp_path) == 999
    assert bring(dump, tmp_path) == {name: data} and [each.range for each in dumps.downloads()] == ["bytes=999-"]
    (tmp_path / name).unlink()
    (tmp_path / f"{name}.part").write_bytes(data + b"too long")
    assert bring(dump, tmp_path) == {name: data} and dumps.downloads()[-1].range == ""


def test_a_server_that_cannot_go_on_sends_it_all_again(dumps, tmp_path):
    dumps.add_legacy("xxwiki", "20261101", pages())
    dumps.ignore_range = True
    ((name, data),) = dumps.dumps().items()
    (tmp_path / f"{name}.part").write_bytes(b"?" * 999)
    assert bring(find("xx", mirror=dumps.url), tmp_path) == {name: data}
    assert [(each.range, each.status) for each in dumps.downloads()] == [("bytes=999-", 200)]


@pytest.mark.parametrize("ignore_range", [True, False])
def test_a_file_that_is_shorter_than_published_is_given_up(ignore_range, dumps, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 2)
    dumps.add_legacy("xxwiki", "20261101", pages())
    dump, seen = find("xx", mirror=dumps.url), []
    dumps.files |= {path: data[:1000] for path, data in dumps.files.items() if path.endswith(".bz2")}
    dumps.ignore_range = ignore_range

    def watch(more: int) -> None:
        seen.append(more)
        assert len(seen) < 50, "it goes round for ever"

    with pytest.raises(DataError):
        fetch(dump, tmp_path, watch)
    assert not list(tmp_path.glob("*.bz2"))


def test_a_line_that_breaks_every_time_is_given_up(dumps, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 2)
    dumps.add_legacy("xxwiki", "20261101", pages())
    dump, stop = find("xx", mirror=dumps.url), dict.fromkeys([".bz2", "2", "z2", "bz2", "l.bz2", "ml.bz2"], 0)
    dumps.cut = stop
    with pytest.raises(DataError, match=r"does not come .* The same command goes on"):
        fetch(dump, tmp_path, lambda _: None)
    assert 3 <= len(dumps.downloads()) <= 5


def test_a_busy_server_is_asked_again_when_it_says(dumps, tmp_path):
    dumps.add_legacy("xxwiki", "20261101", pages())
    dumps.unavailable = {"/xxwiki/": -1, "dumpstatus.json": 0, "multistream.xml.bz2": 1}
    dump, start = find("xx", mirror=dumps.url), time.monotonic()
    assert bring(dump, tmp_path) == dumps.dumps() and 1 <= time.monotonic() - start < 5
    assert [each.status for each in dumps.downloads()] == [503, 200]


@pytest.mark.parametrize("layout", ["legacy", "content"])
def test_a_wrong_sum_is_an_error_and_the_next_try_works(layout, dumps, tmp_path):
    if layout == "legacy":
        dumps.add_legacy("xxwiki", "20261101", pages())
    else:
        dumps.add_content("xxwiki", "2026-11-01", pages())
    right = dict(dumps.files)
    dumps.files |= {path: b"?" + data[1:] for path, data in right.items() if path.endswith(".bz2")}
    dump = find("xx", mirror=dumps.url)
    with pytest.raises(DataError, match=r"is not what was published: its sha(1|256) is"):
        fetch(dump, tmp_path, lambda _: None)
    assert not list(tmp_path.iterdir())
    dumps.files = right
    assert bring(dump, tmp_path) == {name: data for name, data in dumps.dumps().items() if name in str(dump.files)}


def test_three_connections_at_the_most_and_each_says_who_calls(dumps, tmp_path):
    dumps.add_content("xxwiki", "2026-11-01", pages(), parts=7)
    dumps.pause = 0.03
    assert bring(find("xx", mirror=dumps.url), tmp_path) == dumps.dumps()
    assert dumps.most == 3 and len(dumps.downloads()) == 7
    assert all(re.match(r"WikiGPT/[\d.]+ \(.*https://\S+\)$", request.agent) for request in dumps.requests)


# ── the whole command ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("layout", ["legacy", "content"])
def test_a_dump_from_the_net_makes_the_same_data_as_its_files(layout, dumps, tmp_path, capsys):
    if layout == "legacy":
        dumps.add_legacy("xxwiki", "20261101", pages(300), parts=3)
    else:
        dumps.add_content("xxwiki", "2026-11-01", pages(300), parts=3)
    assert wikigpt(f"prepare --wiki xx --mirror {dumps.url}/ {TINY}", tmp_path) == 0
    assert "1,234 articles" in capsys.readouterr().err
    folder = tmp_path / "dumps" / "xxwiki" / "20261101"
    assert len(list(folder.iterdir())) == 3
    assert wikigpt(["prepare", "--name", "own", "--path", f"{folder}/*.bz2", *TINY.split()], tmp_path) == 0
    one, other = made(tmp_path / "xx"), made(tmp_path / "own")
    one_made, other_made = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("xx", "own"))
    assert {**one, "manifest.json": ""} == {**other, "manifest.json": ""}
    kind = "sha1" if layout == "legacy" else "sha256"  # as published
    assert [set(file) for file in one_made["source"].pop("files")] == [{"name", kind}] * 3
    assert other_made["source"].pop("files") and one_made == other_made


def test_the_same_command_again_downloads_nothing(dumps, tmp_path, capsys):
    dumps.add_legacy("xxwiki", "20261101", pages(), parts=2)
    command = f"prepare --wiki xx --mirror {dumps.url} {TINY}"
    assert wikigpt(command, tmp_path) == 0 and len(dumps.downloads()) == 2
    before = contents(tmp_path)
    assert wikigpt(command, tmp_path) == 0 and len(dumps.downloads()) == 2
    assert contents(tmp_path) == before and "0.00 GB to download" in capsys.readouterr().err


@pytest.mark.parametrize("few", ["", "--max_articles 10"])
def test_what_does_not_fit_on_the_disk_is_not_begun(few, dumps, tmp_path, monkeypatch, capsys):
    dumps.add_legacy("xxwiki", "20261101", pages())
    status = "/xxwiki/20261101/dumpstatus.json"
    dumps.files[status] = re.sub(rb'"size": \d{4,}', b'"size": 20000000000', dumps.files[status])
    usage = namedtuple("usage", "total used free")(90 * 10**9, 85 * 10**9, 5 * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert wikigpt(f"prepare --wiki xx --mirror {dumps.url} {few} {TINY}", tmp_path) == 2
    told = capsys.readouterr().err
    assert "20.00 GB to download" in told and re.search(r"needs [2-9]\d\.\d GB of disk, and .* has 5\.0 GB", told)
    assert not dumps.downloads() and not list(tmp_path.rglob("*.part"))


def test_after_ctrl_c_the_same_command_goes_on(dumps, tmp_path):
    """Of a line that is slow: it stops at once, keeps what has come, and does not ask for that again."""
    dumps.add_legacy("xxwiki", "20261101", pages(200, 3000))
    dumps.slow = 0.15
    settings = tmp_path / "settings.py"
    statistics = f"from wikigpt.data import download\ndownload.STATISTICS = {download.STATISTICS!r}\n"
    settings.write_text(f"{statistics}DATAFOLDER = {str(tmp_path / 'dataset')!r}\n")
    command = [*f"prepare --wiki xx --mirror {dumps.url} {TINY} --config".split(), str(settings)]
    code = "from wikigpt.cli import entry; entry()"

    def heeds_ctrl_c():  # which what a shell starts in the background does not
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    python = [sys.executable, "-c", code, *command]
    with subprocess.Popen(python, stderr=subprocess.PIPE, text=True, preexec_fn=heeds_ctrl_c) as process:
        ((name, data),) = dumps.dumps().items()
        part = tmp_path / "dataset" / "dumps" / "xxwiki" / "20261101" / f"{name}.part"
        wait_for(lambda: part.exists() and part.stat().st_size > 0)
        start = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - start < 1 and told.strip().endswith("stopped")
    have = part.stat().st_size
    assert 0 < have < len(data) and part.read_bytes() == data[:have]
    dumps.slow = 0
    assert wikigpt(command, tmp_path / "elsewhere") == 0
    assert dumps.downloads()[-1].range == f"bytes={have}-" and (tmp_path / "dataset" / "xx").exists()


def wait_for(condition) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "it does not come to that"
        time.sleep(0.01)
