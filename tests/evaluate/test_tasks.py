"""Benchmarks count as others count: beside lm-evaluation-harness's own code and formulas worked by hand."""

import io
import json
import math
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from loopback_hub_data import DatasetHub

from wikigpt.config import ModelConfig
from wikigpt.errors import DataError
from wikigpt.evaluate.articles import Text, read_texts
from wikigpt.evaluate.cloze import Question, cloze, hide
from wikigpt.evaluate.language_model import of_run
from wikigpt.evaluate.tasks import (
    continuations,
    detokenised,
    hellaswag,
    lambada,
    read_hellaswag,
    read_lambada,
    read_records,
    read_wikitext,
    score_cloze,
    wikitext,
    wikitext_titles,
)
from wikigpt.transformer import GPTModel

LINES = (
    "= Robert <unk> =", "",
    "Robert <unk> is an English film , television and theatre actor .",
    """He had a guest @-@ starring role in 2000 's " The Bill " .""",
    "In 1 @,@ 000 cases ( about 3 @.@ 5 % ) [ sic ] it 's the boys ' ' own ' , he said ; why ? because : N men !", "",
    "= = Career = =", "", "At 5 ° C he was awake .", "", "= = = Later = = =", "", "= Xy Zu =", "",
    "Xy Zu ( { 712 } ) wrote .",
)  # fmt: skip
TOKENS = "".join(f" {line} \n" if line else " \n" for line in LINES)  # as the files have it


def test_wikitext_is_written_as_it_was():
    text = detokenised(TOKENS)
    for part in (
        "= Robert <unk> =\n", "television and theatre actor.\n", 'guest-starring role in 2000\'s "The Bill".\n',
        "In 1,000 cases (about 3.5 %) [sic] it's", "he said; why? because: 1 men!\n", "\n== Career ==\n", "5°C",
        "\n=== Later ===\n", "({712}) wrote.",
    ):  # fmt: skip
        assert part in text, (part, text)
    assert wikitext_titles(TOKENS) == ["Robert <unk>", "Xy Zu"]


def test_the_rules_are_those_of_the_harness():
    process = pytest.importorskip("lm_eval.tasks.wikitext.preprocess_wikitext")
    theirs = process.wikitext_detokenizer({"page": TOKENS})
    assert detokenised(TOKENS) == theirs


def test_wikitext_divides_by_the_words_of_the_original(language_model, model, tokenizer, tmp_path):
    path = tmp_path / "wiki.test.tokens"
    path.write_text(TOKENS)
    found = wikitext(language_model, read_wikitext(path), 24, 24)
    ids = torch.tensor([tokenizer.end_of_text, *tokenizer.encode(detokenised(TOKENS)).tolist()])
    nats = 0.0
    for start in range(0, len(ids) - 1, 24):
        end = min(start + 24, len(ids) - 1)
        begin = max(0, end - 24)
        with torch.no_grad():
            log_probs = torch.log_softmax(model(ids[None, begin:end])[0], -1)
        costs = -log_probs.gather(1, ids[begin + 1 : end + 1, None])[:, 0]
        nats += costs[start - begin :].sum().item()
    assert found["words"] == len(TOKENS.strip().split(" ")) and found["tokens"] == len(ids) - 1
    assert found["word_perplexity"] == pytest.approx(math.exp(nats / found["words"]), rel=1e-4)


def plain_continuation(model, tokenizer, context, continuation):
    """Log-likelihood of what follows, token by token, over the last 24 tokens."""
    before, ids = tokenizer.encode(context).tolist(), tokenizer.encode(context + continuation).tolist()
    row = ids if before else [tokenizer.end_of_text, *ids]
    start = len(row) - (len(ids) - len(before))
    nats, greedy = 0.0, True
    for place in range(start, len(row)):
        window = row[max(0, len(row) - 25) : place]
        with torch.no_grad():
            logits = model(torch.tensor([window]))[0, -1]
        nats -= torch.log_softmax(logits, -1)[row[place]].item()
        greedy &= logits.argmax().item() == row[place]
    return nats, greedy


PAIRS = [
    ("La Luna es el", " satélite"), ("", "Hola mundo"), ("de " * 60, "la Tierra"), ("termina con espacio ", "y sigue"),
    ("a", " b"),
]  # fmt: skip


def test_continuations_one_token_at_a_time(language_model, model, tokenizer):
    for (context, continuation), found in zip(PAIRS, continuations(language_model, PAIRS), strict=True):
        kept = context.rstrip()
        nats, greedy = plain_continuation(model, tokenizer, kept, context[len(kept) :] + continuation)
        assert found.nats == pytest.approx(nats, abs=1e-3) and found.greedy == greedy


def test_lambada_takes_both_shapes_of_file(language_model, tmp_path):
    rows = [{"context": "La capital de Francia", "continuation": "es"}, {"context": "El Sol", "continuation": "brilla"}]
    one, other = tmp_path / "one.jsonl", tmp_path / "other.jsonl"
    one.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    other.write_text("\n".join(json.dumps({"text": " ".join(row.values())}) for row in rows))
    found = lambada(language_model, read_lambada(one))
    assert read_lambada(one) == read_lambada(other) and found["questions"] == 2
    answers = continuations(language_model, [(row["context"], f" {row['continuation']}") for row in rows])
    assert found["perplexity"] == pytest.approx(math.exp(sum(a.nats for a in answers) / 2))
    (tmp_path / "bad.jsonl").write_text('{"x": 1}\n')
    with pytest.raises(DataError, match="is no LAMBADA"):
        read_lambada(tmp_path / "bad.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        read_records(tmp_path / "bad.jsonl", "endings")


SWAG = [
    {"activity_label": "Cocina", "ctx_a": "Un hombre corta pan. [header] Pan [title] Cómo", "ctx_b": "él come", "label": 2,
     "endings": ["el pan.", "una casa muy grande y vieja.", "agua [step] fría.", "el sol."]},
    {"activity_label": "Deporte", "ctx_a": "Ella corre.", "ctx_b": "", "label": "0",
     "endings": ["Y gana.", "No.", "Nada.", "x"]},
]  # fmt: skip


def test_hellaswag_by_hand(language_model, model, tokenizer, tmp_path):
    path = tmp_path / "hellaswag_val.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in SWAG))
    found = hellaswag(language_model, read_hellaswag(path))
    contexts = ["Cocina: Un hombre corta pan. Pan. Cómo Él come", "Deporte: Ella corre. "]
    right = {"acc": 0.0, "acc_norm": 0.0}
    for row, context in zip(SWAG, contexts, strict=True):
        endings = [ending.replace("[step] ", "").replace("  ", " ") for ending in row["endings"]]
        kept = context.rstrip()
        nats = [plain_continuation(model, tokenizer, kept, context[len(kept) :] + f" {e}")[0] for e in endings]
        right["acc"] += nats.index(min(nats)) == int(row["label"])
        norm = [n / len(e) for n, e in zip(nats, endings, strict=True)]
        right["acc_norm"] += norm.index(min(norm)) == int(row["label"])
    assert (found["acc"], found["acc_norm"]) == (right["acc"] / 2, right["acc_norm"] / 2)


def test_a_hellaswag_without_answers_is_said(tmp_path):
    path = tmp_path / "hellaswag_test.jsonl"
    for label in ("", 4, "x"):
        path.write_text(json.dumps(SWAG[0] | {"label": label}))
        with pytest.raises(DataError, match="does not say which ending is right"):
            read_hellaswag(path)


def test_a_title_inside_of_a_word_is_no_question(data, tokenizer):
    row = {"title": "Art", "id": "", "url": ""}

    def lead(text):
        return hide(Text(row, np.array([0]), f"# Art\n\n{text}", data))

    assert lead("The Arthurian legends are old, and were told for a very long time by many.") is None
    assert lead("Art is a diverse range of human activity, and of what comes of it.").behind.startswith(" is a diverse")
    assert lead("No title here at all, however long the text may go on and on and on.") is None
    row["title"] = ""
    assert lead("A text that has no title at all, however long it may go on.") is None


def test_a_cloze_hides_the_title_and_judges_by_the_same_words(data, tokenizer, language_model):
    texts = list(read_texts(data, "validation", tokenizer))
    choices = cloze(texts)
    assert len(choices) > 50 and choices == cloze(texts[::-1])  # whatever the order
    leads = {hidden.behind: hidden for text in texts if (hidden := hide(text))}
    unlike = []
    for question in choices:
        own = leads[question.behind]
        titles = [before.split("\n\n")[0].removeprefix("# ") for before in question.befores]
        assert len(set(titles)) == 4 and titles[0] == own.title and own.title not in question.behind
        assert list(question.befores) == [f"# {title}\n\n{own.before}{title}" for title in titles]
        unlike.append(max(abs(len(title) - len(own.title)) for title in titles) / len(own.title))
    assert sorted(unlike)[len(unlike) // 2] < 0.35  # of like length


def test_the_cloze_scores_the_same_words_behind_each_title(model, tokenizer, machine):
    """By hand, with a model that has room for all of it; too little room leaves the question out, and equals share."""
    torch.manual_seed(1)
    roomy = GPTModel(ModelConfig(model.config.vocab_size, 64, 24, 2, 1, 0.0, True)).eval()
    ours = of_run("roomy", roomy, tokenizer, machine)
    question = Question(
        [f"# {t}\n\nLa {t}" for t in ("Luna", "Tierra", "mesa", "casa")], " es un satélite de la Tierra, dicen."
    )
    behind = tokenizer.encode(question.behind).tolist()
    costs = []
    for before in question.befores:
        row = [tokenizer.end_of_text, *tokenizer.encode(before).tolist(), *behind]
        with torch.no_grad():
            log_probs = torch.log_softmax(roomy(torch.tensor([row[:-1]]))[0], -1)
        costs.append(-sum(log_probs[len(row) - 1 - len(behind) + n, token].item() for n, token in enumerate(behind)))
    assert score_cloze(ours, [question])["acc"] == float(costs[0] == min(costs))
    best = costs.index(min(costs))
    swapped = [question.befores[best], *(b for n, b in enumerate(question.befores) if n != best)]
    assert score_cloze(ours, [Question(swapped, question.behind)])["acc"] == 1.0
    assert score_cloze(ours, [Question([question.befores[0]] * 4, question.behind)])["acc"] == 0.25
    long = Question([f"# {t}\n\n{'muy ' * 70}{t}" for t in "abcd"], question.behind)
    assert score_cloze(ours, [long]) == {"acc": None, "acc_interval": None, "questions": 0}


def test_an_untrained_model_guesses(data, tokenizer, machine):
    torch.manual_seed(3)
    untrained = GPTModel(ModelConfig(data.vocab_size, 96, 24, 2, 1, 0.0, True)).eval()
    texts = [text for split in ("validation", "test") for text in read_texts(data, split, tokenizer)]
    found = score_cloze(of_run("untrained", untrained, tokenizer, machine), cloze(texts))
    assert found["questions"] > 100 and found["acc_interval"][0] < 0.25 < found["acc_interval"][1]


def test_a_cloze_of_a_run(at_house, capsys):
    assert at_house("evaluate --run r --tasks cloze --split both --json") == 0
    found = json.loads(capsys.readouterr().out)["tasks"]["cloze"]["r"]
    assert found["questions"] > 20 and found["acc_interval"][0] <= found["acc"] <= found["acc_interval"][1]
    assert at_house("evaluate --run r --tasks cloze --split both --limit 30 --hf exports/r --json") == 0
    both = json.loads(capsys.readouterr().out)["tasks"]["cloze"]
    assert both["r"]["acc"] == both["exports/r"]["acc"] and both["r"]["questions"] <= 30


@pytest.mark.slow
def test_files_come_from_the_hub(at_house, house, tmp_path):
    """In a process of its own, through the hub's real client: the file of each benchmark, found by its name."""
    parquet = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([{"text": f" {line} \n" if line else ""} for line in LINES]), parquet)
    swag = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row | {"label": str(row["label"])} for row in SWAG]), swag)
    with DatasetHub() as server:
        server.files["Salesforce/wikitext"] = {
            "README.md": b"x", "wikitext-103-v1/test-00000-of-00001.parquet": parquet.getvalue(),
            "wikitext-103-raw-v1/test-00000-of-00001.parquet": b"raw",
        }  # fmt: skip
        server.files["Rowan/hellaswag"] = {"data/validation-00000-of-00001.parquet": swag.getvalue()}
        server.files["EleutherAI/lambada_openai"] = {
            "data/lambada_test.jsonl": b"older", "data/lambada_test_en.jsonl": b'{"text": "El Sol brilla"}\n',
        }  # fmt: skip
        environment = os.environ | server.environment | {"HF_HOME": str(tmp_path)}
        command = "evaluate --run r --tasks wikitext103 hellaswag lambada --json".split()
        done = subprocess.run(
            [sys.executable, "-m", "wikigpt", *command], cwd=house, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)["tasks"]
        assert found["wikitext103"]["r"]["words"] == len(TOKENS.strip().split(" "))
        assert found["hellaswag"]["r"]["questions"] == 2 and found["lambada"]["r"]["questions"] == 1
        del server.files["Rowan/hellaswag"]
        command[4:] = ["hellaswag"]
        environment["HF_HOME"] = str(tmp_path / "empty")
        done = subprocess.run(
            [sys.executable, "-m", "wikigpt", *command], cwd=house, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 2 and "--tasks hellaswag=FILE" in done.stderr.strip().splitlines()[-1]
