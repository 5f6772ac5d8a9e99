"""Articles come from the Hugging Face Hub as they lie there, no more than needed; where it fails, one line says so."""

import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from helpers import wikigpt
from huggingface_hub import constants
from loopback_hub_data import COMMIT, DatasetHub
from test_download import made, nobody, said

from wikigpt.data import download, hub, segments
from wikigpt.errors import HubError

WIKIPEDIA, FINEWIKI = hub.DATASETS
TINY = "--tokenizer bpe --vocab_size 300 --held_out 0.1 --workers 1"


@pytest.fixture
def server(monkeypatch):
    """A hub for this process."""
    with DatasetHub() as server:
        use(server.url, monkeypatch)
        monkeypatch.setattr(download, "articles", lambda wiki: None)  # asks the Wikipedia itself
        yield server


def use(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points the hub's client, which is imported already, to another address."""
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "ENDPOINT", url)


def articles(number: int = 200, length: int = 100) -> list[dict[str, Any]]:
    draw = random.Random(0)
    return [
        {"id": str(n), "url": f"https://xx/{n}", "title": f"T {n}", "text": f"No {n}: {draw.randbytes(length).hex()}."}
        for n in range(number)
    ]


def rows(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "articles.parquet").to_pylist()


def test_all_files_of_a_wikipedia_are_read_in_order(server, tmp_path):
    server.add(WIKIPEDIA, "20231101.xx", articles(), files=3)
    server.add(WIKIPEDIA, "20231101.xxx", articles(1))
    assert wikigpt(f"prepare --source hf --wiki xx {TINY}", tmp_path) == 0
    found = rows(tmp_path / "xx")
    assert [row["id"] for row in found] == [str(n) for n in range(200)] and found[7]["url"] == "https://xx/7"
    source = json.loads((tmp_path / "xx" / "manifest.json").read_text())["source"]
    assert source["origin"] == f"{WIKIPEDIA}, 20231101.xx, revision {COMMIT}"
    assert [list(file) for file in source["files"]] == [["name", "sha256"]] * 3
    assert not any("xxx" in request.path for request in server.requests)


def test_of_finewiki_page_and_revision_are_kept_and_its_wikitext_is_not_fetched(server, tmp_path):
    made = [
        {"text": each["text"], "id": f"xxwiki/{n}", "wikiname": "xxwiki", "page_id": n, "title": each["title"]}
        | {"url": each["url"], "version": 7 * n, "wikitext": random.Random(n).randbytes(40_000).hex()}
        for n, each in enumerate(articles(300))
    ]
    server.add(FINEWIKI, "data/xx_yywiki", made, files=2)
    assert wikigpt(f"prepare --source hf --dataset {FINEWIKI} --wiki xx-yy {TINY}", tmp_path) == 0
    found = rows(tmp_path / "xx-yy")
    assert [(row["id"], row["revision"]) for row in found] == [(str(n), str(7 * n)) for n in range(300)]
    assert sum(server.sent.values()) < sum(len(data) for data in server.files[FINEWIKI].values())


def test_of_a_few_articles_not_more_is_fetched_than_they_need(server, tmp_path):
    server.add(WIKIPEDIA, "20231101.xx", articles(1000, 10_000), files=2, rows=100)
    first, _ = (len(data) for data in server.files[WIKIPEDIA].values())
    assert wikigpt(f"prepare --source hf --wiki xx --max_articles 60 {TINY}", tmp_path) == 0
    assert [row["id"] for row in rows(tmp_path / "xx")] == [str(n) for n in range(60)]
    assert not server.asked("train-00001-of-00002.parquet")
    assert server.sent["train-00000-of-00002.parquet"] < 0.7 * first


def test_the_first_articles_are_those_that_are_kept(server, tmp_path):
    """Where some of the first ones stand twice, others are read in their place."""
    double = [each | {"id": f"again {n}"} for n, each in enumerate(articles(20))]
    server.add(WIKIPEDIA, "20231101.xx", [*articles(20), *double, *articles()[20:]], files=1)
    assert wikigpt(f"prepare --source hf --wiki xx --max_articles 60 {TINY}", tmp_path) == 0
    assert [row["id"] for row in rows(tmp_path / "xx")] == [str(n) for n in range(60)]


def test_another_snapshot_is_named_by_its_date(server, tmp_path):
    server.add(WIKIPEDIA, "20220301.xx", articles())
    assert wikigpt(f"prepare --source hf --wiki xx --date 20220301 {TINY}", tmp_path) == 0


@pytest.mark.parametrize("dataset", hub.DATASETS)
@pytest.mark.parametrize("wiki", ["zz", "../x", "../x --name x"])
def test_an_unknown_language_is_one_line(dataset, wiki, server, tmp_path, capsys):
    server.add(WIKIPEDIA, "20231101.xx", articles(1))
    server.add(FINEWIKI, "data/xxwiki", articles(1))
    assert wikigpt(f"prepare --source hf --wiki {wiki} --dataset {dataset}", tmp_path / "dataset") == 2
    assert wiki[:4].strip() in said(capsys) and not list(tmp_path.iterdir())


def test_without_a_network_one_line_names_what_works_offline(tmp_path, monkeypatch, capsys):
    use(nobody(), monkeypatch)
    for flags in ("--source hf", "--source hf --wiki pt"):
        assert wikigpt(f"prepare {flags}", tmp_path) == 2
        line = said(capsys)
        assert line.startswith("The Hugging Face Hub is out of reach (") and "--source sample" in line
        assert "--path" in line and not list(tmp_path.iterdir())


def test_without_a_network_and_without_flags_the_sample_is_taken(tmp_path, monkeypatch, capsys):
    use(nobody(), monkeypatch)
    assert wikigpt(f"prepare --max_articles 40 {TINY}", tmp_path) == 0
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("The Hugging Face Hub is out of reach") and told[0].endswith("Taking the bundled sample.")
    assert json.loads((tmp_path / "en" / "manifest.json").read_text())["source"]["name"] == "sample"


def test_a_hub_that_fails_in_the_middle_is_one_line_and_the_same_command_goes_on(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(segments, "PART", 0)  # each file on its own
    server.add(WIKIPEDIA, "20231101.xx", articles(), files=3)
    assert wikigpt(f"prepare --source hf --wiki xx --name whole {TINY}", tmp_path) == 0
    second = [request for request in server.asked("train-00001-of-00003.parquet") if request.method == "GET"]
    capsys.readouterr()
    server.left = {"00001-of-00003.parquet": len(second) - 1}
    command = f"prepare --source hf --wiki xx {TINY}"
    assert wikigpt(command, tmp_path) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if "out of reach" in line]
    assert len(told) == 1 and "--source sample" in told[0] and not (tmp_path / "xx").exists()
    server.left.clear()
    server.requests.clear()
    assert wikigpt(command, tmp_path) == 0
    assert made(tmp_path / "xx") == made(tmp_path / "whole")
    assert not server.asked("train-00000-of-00003.parquet") and server.asked("train-00001-of-00003.parquet")


def test_an_error_travels_between_processes():
    error = pickle.loads(pickle.dumps(HubError("It is out of reach.", "Wait.")))
    assert (type(error), error.problem, error.fix) == (HubError, "It is out of reach.", "Wait.")


@pytest.mark.slow
def test_several_processes_find_the_hub_and_say_what_it_said(tmp_path):
    """Pointed to the hub as a user would do it."""
    with DatasetHub() as server:
        server.add(WIKIPEDIA, "20231101.xx", articles(), files=2)
        server.left = {"00001-of-00002.parquet": 0}
        settings = tmp_path / "settings.py"
        share_out = "from wikigpt.data import download, segments\nsegments.PART = segments.SMALL = 0\n"
        statistics = "download.articles = lambda wiki: None\n"
        settings.write_text(f"{share_out}{statistics}DATAFOLDER = {str(tmp_path / 'dataset')!r}\n")
        flags = f"prepare --source hf --wiki xx --config {settings} {TINY} --workers 2"
        command = [sys.executable, "-c", "from wikigpt.cli import entry; entry()", *flags.split()]
        environment = {**os.environ, **server.environment, "HF_HOME": str(tmp_path)}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 2 and ran.stderr.count("The Hugging Face Hub is out of reach (") == 1
        server.left.clear()
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0 and len(rows(tmp_path / "dataset" / "xx")) == 200
