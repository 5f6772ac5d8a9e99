"""What a run was trained on is marked, left out, and refused as a benchmark, unless told otherwise."""

import json
import shutil
from dataclasses import replace

import pytest

from wikigpt.data.prepare import PrepareSettings, prepare
from wikigpt.data.shards import DataFolder
from wikigpt.data.sources import sample
from wikigpt.errors import DataError
from wikigpt.evaluate.articles import read_texts
from wikigpt.evaluate.held_out import marked, refuse, trained_titles


@pytest.fixture(scope="module")
def other(data, house):
    """The same articles, split elsewhere: most of what it holds out, `data` trains on."""
    folder = house / "dataset" / "other"
    return prepare(sample("es"), PrepareSettings(str(data.path / "tokenizer"), None, 0.05), folder, workers=2)


def titles_of(data: DataFolder, split: str, tokenizer) -> list[str]:
    return [text.row["title"] for text in read_texts(data, split, tokenizer)]


def test_titles_are_found_however_they_are_written(data, tokenizer):
    inside, outside = titles_of(data, "train", tokenizer)[:3], titles_of(data, "validation", tokenizer)[:3]
    assert trained_titles([data], inside + outside) == set(inside)
    written = [title.replace(" ", "_")[:1].lower() + title.replace(" ", "_")[1:] for title in inside]
    assert trained_titles([data], written) == set(written)
    assert trained_titles([data], ["", "No hay tal cosa"]) == set() == trained_titles([], inside)


def test_its_own_held_out_articles_are_not_marked(data, tokenizer):
    assert not any(text.trained_on for text in marked(list(read_texts(data, "test", tokenizer)), [data]))


def test_a_title_of_another_language_is_another_article(other, data, tokenizer):
    texts = list(read_texts(other, "test", tokenizer))
    assert any(text.trained_on for text in marked(texts, [data]))
    elsewhere = DataFolder(other.path)
    elsewhere.manifest["wiki"] = "fr"
    assert not any(text.trained_on for text in marked([replace(text, data=elsewhere) for text in texts], [data]))
    elsewhere.manifest["wiki"] = ""  # nobody knows: it may be
    assert any(text.trained_on for text in marked([replace(text, data=elsewhere) for text in texts], [data]))


def test_articles_of_other_data_that_it_was_trained_on_are_left_out(other, at_house, house, data, tokenizer, capsys):
    expected = [t.trained_on for t in marked(list(read_texts(other, "test", tokenizer)), [data])]
    assert 0 < sum(expected) < len(expected)
    command = f"evaluate --run r --data {other.path} --split test --json"
    assert at_house(command) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["articles"] == len(expected) - sum(expected) and "left out" in said.err
    assert at_house(f"{command} --with_trained_on") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["articles"] == len(expected) and "counted all the same" in said.err
    table = (house / "models/r/evaluation/step_00000012/other_test.tsv").read_text()
    assert table.count("\tTrue\t") == sum(expected)


def test_a_benchmark_of_training_articles_is_refused(at_house, data, tokenizer, tmp_path, capsys):
    seen, unseen = titles_of(data, "train", tokenizer)[0], titles_of(data, "test", tokenizer)[0]
    path = tmp_path / "wiki.test.tokens"
    path.write_text(f" = {unseen} = \n\n Una frase .\n")
    assert at_house(f"evaluate --run r --tasks wikitext103={path}") == 0
    path.write_text(f" = {unseen} = \n\n Una frase .\n\n = {seen} = \n\n Otra .\n")
    capsys.readouterr()
    assert at_house(f"evaluate --run r --tasks wikitext103={path}") == 2
    assert (
        f"1 of the 2 articles in wikitext103 are among those that it was trained on ({seen})" in capsys.readouterr().err
    )
    assert at_house(f"evaluate --run r --tasks wikitext103={path} --with_trained_on --json") == 0
    assert json.loads(capsys.readouterr().out)["tasks"]["wikitext103"]["r"]["word_perplexity"] > 1


def test_what_the_weights_began_with_counts_too(at_house, house, data, other, capsys):
    """A run on other data that began with r's weights: r's training articles are marked."""
    flags = (
        "--model_config tiny --training_setting small_models --emb_dim 32 --n_heads 2 --n_layers 1 --context_length 32"
    )
    assert at_house(f"train {flags} --data {other.path} --init_from r --run on --max_steps 2 --eval_tokens 500") == 0
    capsys.readouterr()
    assert at_house("evaluate --run on --split test") == 0
    assert "are among those that on was trained on: left out" in capsys.readouterr().err
    moved = house / "elsewhere"
    shutil.move(data.path, moved)
    try:
        assert at_house("evaluate --run on --split test") == 0
        assert "is not here: what of it was trained on cannot be told" in capsys.readouterr().err
    finally:
        shutil.move(moved, data.path)


def test_refusing_says_how_many():
    refuse("x", set(), 5, False)
    with pytest.raises(DataError, match=r"2 of the 5 articles in x .*\(a, b\)"):
        refuse("x", {"a", "b"}, 5, False)
    refuse("x", {"a"}, 5, True)
