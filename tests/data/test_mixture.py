"""Several folders read as one: exact shares, the same batches whatever was read before, and one figure for all."""

import json
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch
from helpers import wikigpt

from wikigpt import tokenizer as tokenizers
from wikigpt.config import RunConfig
from wikigpt.data.loader import TrainingBatches, Windows
from wikigpt.data.prepare import PrepareSettings, prepare
from wikigpt.data.shards import Mixture, find_data
from wikigpt.data.sources import sample
from wikigpt.errors import DataError
from wikigpt.evaluate import bigram_score
from wikigpt.metrics import read_metrics


@pytest.fixture(scope="module")
def folders(data, tmp_path_factory):
    """Spanish and French with one tokenizer, and French with another."""
    datafolder = tmp_path_factory.mktemp("mixture")
    (datafolder / "es").symlink_to(data.path)
    prepare(sample("fr"), PrepareSettings(str(data.path / "tokenizer"), 0, 0.03), datafolder / "fr", workers=2)
    prepare(sample("fr"), PrepareSettings("bpe", 300, 0.03), datafolder / "other", workers=2)
    return datafolder


def mixture(folders, spec):
    return find_data(str(folders), spec)


def test_shares_are_exact_and_evenly_spread(folders):
    batches = TrainingBatches(mixture(folders, "es:0.7,fr:0.2"), 64, 8, 1)
    shares = [share for _, share in batches.parts]
    assert shares == [Fraction(7, 9), Fraction(1)]
    drawn = []
    for number, (windows, _) in enumerate(batches.parts):
        windows.read = lambda position, number=number: drawn.append((number, position))
    for position in range(900):
        batches._window(position)
    assert Counter(number for number, _ in drawn) == {0: 700, 1: 200}
    for part in (0, 1):  # each part's own row is read in its order, without a gap
        assert [position for number, position in drawn if number == part] == list(
            range(Counter(n for n, _ in drawn)[part])
        )
    for start in range(0, 900, 90):
        assert Counter(number for number, _ in drawn[start : start + 90]) == {0: 70, 1: 20}


def test_a_batch_is_the_same_whatever_was_read_before(folders):
    data = mixture(folders, "es:0.6,fr:0.4")
    ahead, jumping = (TrainingBatches(data, 64, 8, seed=1) for _ in range(2))
    expected = [ahead[n] for n in range(30)]
    for n in (29, 0, 13, 29, 7):
        assert torch.equal(jumping[n].inputs_BT, expected[n].inputs_BT)


def test_one_folder_alone_is_as_without_a_mixture(folders, data):
    alone = TrainingBatches(Mixture([(data, Fraction(3))]), 64, 8, seed=1)
    assert torch.equal(alone[5].inputs_BT, TrainingBatches(data, 64, 8, seed=1)[5].inputs_BT)
    assert alone.windows == Windows(data, 64, 1).count


def test_the_bigram_of_a_mixture_scores_every_token_of_each(folders):
    data = mixture(folders, "es,fr")
    token_bytes = tokenizers.load(data.path / "tokenizer").token_bytes
    score = bigram_score(data, "validation", token_bytes)
    parts = [bigram_score(folder, "validation", token_bytes) for folder, _ in data.parts]
    assert score.tokens == sum(part.tokens for part in parts) and score.bytes == sum(part.bytes for part in parts)
    assert score.nats > sum(part.nats for part in parts)  # it knows two languages, and neither as well
    assert bigram_score(data, "validation", token_bytes, 1000).tokens == 1000


def test_its_hash_stands_for_folders_and_shares(folders):
    hashes = {mixture(folders, spec).hash for spec in ("es:0.5,fr:0.5", "es,fr", "es:1,fr:2", "fr,es")}
    assert len(hashes) == 3


@pytest.mark.parametrize("spec", ["es:1/3,fr:2/3", "es:12345678,fr:2345678", "es:0.1234567,fr:1"])
def test_a_recorded_mixture_is_the_same_mixture(folders, spec):
    data = mixture(folders, spec)
    again = find_data("elsewhere", data.spec)
    assert again.hash == data.hash and again.name == data.name == "es+fr"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("es:0.7,other:0.3", "have different tokenizers. Prepare one again with the other's"),
        ("es:0.7,pt:0.3", "is not a prepared data folder"),
        ("es:x,fr:1", "'x' in --data es:x,fr:1 is no number"),
        ("es:0,fr:1", "must be above 0, not es:0"),
        ("es:1,es:2", "stands twice"),
    ],
)
def test_a_wrong_mixture_is_said(folders, spec, says):
    with pytest.raises(DataError) as error:
        mixture(folders, spec)
    assert says in str(error.value)


def test_a_run_on_a_mixture(folders, train, tmp_path, capsys):
    flags = (
        "train --model_config tiny --training_setting small_models --emb_dim 16 --n_layers 1 --max_steps 3 --threads 2"
    )
    assert wikigpt(f"{flags} --context_length 32 --data es:0.7,fr:0.3", folders) == 0
    run = tmp_path / "models" / "es+fr-tiny"
    config = RunConfig.load(run / "run.json")
    assert config.data_name == "es+fr" and [part["wiki"] for part in config.source] == ["es", "fr"]
    samples = (run / "samples.md").read_text()
    assert "**Eclipse solar**" in samples and "**Éclipse solaire**" in samples
    assert wikigpt("evaluate --run es+fr-tiny --json", folders) == 0
    record = json.loads(capsys.readouterr().out)
    (final,) = read_metrics(run, "final")
    assert np.isclose(record["loss"], final["loss"], atol=1e-3) and set(record["folders"]) == {"es", "fr"}
    assert wikigpt("train --run es+fr-tiny --max_steps 4", folders) == 0
