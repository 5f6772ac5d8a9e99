"""The ladder is of the same articles for all, and each rung is what it says."""

import json
import lzma

import numpy as np
import pytest

from wikigpt.evaluate import ladder
from wikigpt.evaluate.articles import read_texts
from wikigpt.evaluate.counting import bigram_score
from wikigpt.evaluate.kept import read_ladder
from wikigpt.evaluate.ladder import compressors, counter


@pytest.mark.slow
def test_a_compressor_knows_the_training_text(data, tokenizer, monkeypatch):
    monkeypatch.setattr(ladder, "DICTIONARY", 2**20)
    texts = list(read_texts(data, "test", tokenizer))
    stream = data.stream("train")
    ids = stream.read(0, len(stream))
    known = tokenizer.decode_bytes(ids[ids != data.end_of_text])[-(2**20) :]
    new = "".join(text.text for text in texts).encode()
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
    alone, both = (len(lzma.compress(part, lzma.FORMAT_RAW, filters=filters)) for part in (known, known + new))
    xz, zstd = compressors(data, texts, tokenizer)
    assert xz.bits_per_byte == pytest.approx(8 * (both - alone) / len(new), rel=0.01)
    assert xz.bits_per_byte < 8 * len(lzma.compress(new, lzma.FORMAT_RAW, filters=filters)) / len(new)
    assert 1 < zstd.bits_per_byte < 1.15 * xz.bits_per_byte
    seen = list(read_texts(data, "train", tokenizer))[-50:]
    assert all(rung.bits_per_byte < 0.5 for rung in compressors(data, seen, tokenizer))  # it has them already


def test_counting_by_article_adds_up_to_the_split(data, tokenizer):
    texts = list(read_texts(data, "test", tokenizer))
    rung = counter("bigram", data, texts, tokenizer)
    assert rung.bits_per_byte == pytest.approx(bigram_score(data, "test", tokenizer.token_bytes).bits_per_byte)
    low, high = rung.interval
    assert low < rung.bits_per_byte < high
    assert counter("unigram", data, texts, tokenizer).bits_per_byte > rung.bits_per_byte
    assert counter("5-gram", data, texts, tokenizer).bits_per_byte < rung.bits_per_byte


@pytest.mark.slow
def test_the_ladder_of_a_run_and_of_its_export_in_transformers(at_house, house, capsys):
    assert at_house("evaluate --run r --split test --ladder --hf exports/r --dtype float32 --json") == 0
    rungs = json.loads(capsys.readouterr().out)["ladder"]
    assert [r["kind"] for r in rungs].count("counting") == 3 and [r["kind"] for r in rungs].count("compressor") == 2
    bits = [rung["bits_per_byte"] for rung in rungs]
    assert bits == sorted(bits, reverse=True)
    by_name = {rung["name"]: rung["bits_per_byte"] for rung in rungs}
    assert {"r, step 12", "xz -9e", "zstd -22", "5-gram"} <= by_name.keys() and len(by_name) >= 8
    theirs = next(rung for rung in rungs if rung["kind"] == "other")
    assert theirs["bits_per_byte"] == pytest.approx(by_name["r, step 12"], rel=1e-4)
    assert np.allclose(theirs["interval"], next(r["interval"] for r in rungs if r["name"] == "r, step 12"), rtol=1e-4)
    assert read_ladder(house / "models/r")["rungs"] == rungs
    assert (house / "models/r/evaluation/ladder_test.png").read_bytes().startswith(b"\x89PNG")
    assert "The ladder" in (house / "models/r/report.html").read_text()


@pytest.mark.slow
def test_another_model_joins_the_ladder_and_a_wrong_one_is_said_at_once(at_house, house, capsys):
    assert at_house("evaluate --run r --split test --ladder") == 0
    before = {rung["name"] for rung in read_ladder(house / "models/r")["rungs"]}
    assert at_house("evaluate --run r --split test --hf exports/r") == 0
    rungs = read_ladder(house / "models/r")["rungs"]
    assert {rung["name"] for rung in rungs} == before | {"exports/r"}
    capsys.readouterr()
    (house / "empty").mkdir(exist_ok=True)
    assert at_house("evaluate --run r --split test --ladder --hf empty") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert "empty gives no causal model" in said[-1] and not any("bits per byte" in line for line in said)
    assert at_house("evaluate --run r --split validation --context 16 --hf exports/r") == 0
    assert {
        rung["how"] for rung in json.loads((house / "models/r/evaluation/ladder_validation.json").read_text())["rungs"]
    } == {"context 16, stride 8"}
