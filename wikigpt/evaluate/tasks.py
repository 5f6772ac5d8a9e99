"""Benchmarks that others measure too, counted as they count, and a cloze that any Wikipedia makes of itself.

    file or hub ──> rows of ids, of which the last ones are wanted ──> LanguageModel ──> perplexity, accuracy

WikiText is text; LAMBADA, HellaSwag and the cloze are questions: which continuation does the model find likely?
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wikigpt.config import hub_token
from wikigpt.data.hub import unreachable
from wikigpt.errors import ConfigError, DataError, HubError
from wikigpt.evaluate.articles import interval
from wikigpt.evaluate.cloze import Question
from wikigpt.evaluate.language_model import LanguageModel, checked_context, predict
from wikigpt.evaluate.score import Score

# Where the hub has each: repository, and what the file is called.
HUB_FILES = {
    "wikitext2": ("Salesforce/wikitext", r"wikitext-2-v1/test-.*\.parquet"),
    "wikitext103": ("Salesforce/wikitext", r"wikitext-103-v1/test-.*\.parquet"),
    "lambada": ("EleutherAI/lambada_openai", r"data/lambada_test(_en)?\.jsonl"),
    "hellaswag": ("Rowan/hellaswag", r"data/validation-.*\.parquet"),
}


def read_task(named: str) -> tuple[str, Path | None]:
    """The benchmark that `named` ("lambada", "lambada=FILE", "cloze") means, and its file, got from the hub where none is
    given. Raises ConfigError for an unknown one, DataError or HubError where the file is not there."""
    name, _, file = named.partition("=")
    if name == "cloze" and not file:
        return name, None
    if name not in HUB_FILES:
        raise ConfigError(f"There is no task {named!r}.", f"Take {', '.join(HUB_FILES)} (NAME=FILE too), or cloze.")
    if file and not Path(file).is_file():
        raise DataError(
            f"There is no file {file}.", f"Name the file of {name}, or leave it out to get it from the hub."
        )
    return name, Path(file) if file else _from_hub(name)


def _from_hub(name: str) -> Path:
    from huggingface_hub import HfApi, hf_hub_download

    repository, pattern = HUB_FILES[name]
    try:
        files = HfApi(token=hub_token()).list_repo_files(repository, repo_type="dataset")
        found = sorted((file for file in files if re.fullmatch(pattern, file)), key=len)
        if not found:
            raise HubError(f"{repository} no longer has the file of {name}.", f"Give it: --tasks {name}=FILE")
        return Path(hf_hub_download(repository, found[-1], repo_type="dataset", token=hub_token()))
    except HubError:
        raise
    except Exception as error:  # whatever the hub's client and the network raise
        raise HubError(unreachable(error).problem, f"Give the file: --tasks {name}=FILE") from error


def read_records(path: Path, *needed: str) -> list[dict[str, Any]]:
    """The rows of a parquet or JSON Lines file. Raises DataError where it is neither, or where a field is not there."""
    try:
        if path.suffix == ".parquet":
            rows = pq.read_table(path).to_pylist()
        else:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
        if not rows or not all(isinstance(row, dict) and set(needed) <= row.keys() for row in rows):
            raise ValueError(f"no rows with {', '.join(needed)}")
    except (OSError, ValueError, pa.ArrowException) as error:
        problem = f"{path} cannot be read ({' '.join(str(error).split())[:120]})."
        raise DataError(problem, "Give JSON Lines or parquet as the hub has it.") from error
    return rows


# WikiText


def read_wikitext(path: Path) -> str:
    """The text of a WikiText file: wiki.test.tokens, or parquet with a row for each line."""
    if path.suffix == ".parquet":
        return "".join(row["text"] or " \n" for row in read_records(path, "text"))  # the hub empties blank lines
    try:
        if text := path.read_text(encoding="utf-8").strip("\ufeff"):
            return text
        raise DataError(f"{path} is empty.", "Give wiki.test.tokens, or its parquet file.")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}).", "Give wiki.test.tokens, or its parquet file.") from error


def wikitext_titles(text: str) -> list[str]:
    """The articles that a WikiText file is made of: its headings of the first level."""
    return [detokenised(title) for title in re.findall(r"(?m)^ ?= ([^=\n]*[^=\s]) = ?$", text)]


PAIRS = [("(", ")"), ("[", "]"), ("{", "}"), ('"', '"'), ("'", "'")]
DETOKENISE = [
    (r"s '", "s'"),
    (r" @([-,.])@ ", r"\1"),
    *((rf" \{mark} ", f"{mark} ") for mark in ":;.!?,"),
    *((rf"\{a}\s*([^\{b}]*?)\s*\{b}", rf"{a}\1{b}") for a, b in PAIRS),
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
]


def detokenised(text: str) -> str:
    """WikiText as it was written: its tokens stand apart ("1 @,@ 000 people ( 2010 ) ."), as in no other text. The rules are
    those of Megatron-LM, which lm-evaluation-harness took over, in their order."""
    for pattern, made in DETOKENISE:
        text = re.sub(pattern, made, text)
    return text


def wikitext(model: LanguageModel, original: str, context: int, stride: int) -> dict[str, Any]:
    """WikiText-2 or -103 in perplexity per word, as the literature counts it:

        exp( negative log-likelihood of the detokenised text / number of tokens of the original text )

    The original tokens are what stands between single spaces, line breaks and <unk> among them: 245,566 in the test set of
    both. The text is read as one, in windows that overlap. (lm-evaluation-harness instead scores page by page in windows
    that do not overlap, and divides by words between any white space: its figures differ.)

    Source: Radford et al. 2019, section 3.1 (detokenised); Shoeybi et al. 2019, "Megatron-LM", appendix E.1 (the formula,
    windows of 1,024 with a stride of 32).
    """
    text = detokenised(original)
    words = len(original.strip().split(" "))
    (found,) = predict(model, [[model.start, *model.encode(text)]], context, stride)
    score = Score(float(found.nats.sum()), len(found.nats), len(text.encode()))
    return {
        "word_perplexity": Score(score.nats, words, 1).perplexity,
        "perplexity": score.perplexity,
        "bits_per_byte": score.bits_per_byte,
        "words": words,
        "tokens": score.tokens,
        "context": context,
        "stride": stride,
    }


# Questions


FEWEST = 8  # tokens behind a title that a question of the cloze needs


@dataclass(frozen=True)
class Choice:
    """What stands before each ending, the endings, and which is right."""

    before: str
    endings: Sequence[str]
    label: int


@dataclass(frozen=True)
class Answer:
    """What a continuation costs, and whether each of its tokens was the likeliest."""

    nats: float
    greedy: bool


def continuations(model: LanguageModel, pairs: Iterable[tuple[str, str]]) -> list[Answer]:
    """What each continuation costs behind its context, as lm-evaluation-harness asks it: both are encoded together, and the
    ids after those of the context alone are the continuation's. Of what is too long the beginning is cut off."""
    rows, counts = [], []
    for context, continuation in pairs:
        kept = context.rstrip()
        continuation = context[len(kept) :] + continuation
        before = [*model.prefix, *model.encode(kept)] if kept else [model.start]
        ids = [*(model.prefix if kept else before), *model.encode(kept + continuation)]
        counts.append(max(1, min(len(ids) - len(before), model.context_length)))
        rows.append(ids[-model.context_length - 1 :])
    found = predict(model, rows, model.context_length, model.context_length, last=counts)
    return [Answer(float(one.nats.sum()), bool(one.greedy.all())) for one in found]


def read_lambada(path: Path) -> list[tuple[str, str]]:
    """Passages without their last word, and the word."""
    pairs = []
    for row in read_records(path):
        if not {"text"} <= row.keys() and not {"context", "continuation"} <= row.keys():
            raise DataError(f"{path} is no LAMBADA.", "Its rows have text, or context and continuation.")
        text = row["text"] if "text" in row else f"{row['context']} {row['continuation']}"
        if not isinstance(text, str):
            raise DataError(f"{path} has a passage that is no text.", "Get the file again.")
        context, _, word = text.rpartition(" ")
        pairs.append((context, f" {word}"))
    return pairs


def lambada(model: LanguageModel, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """LAMBADA: how often the last word of a passage, which needs all of it to be guessed, is the likeliest at each of its
    tokens; and its perplexity, exp(mean over passages of the word's negative log-likelihood).

    Source: Paperno et al. 2016; counted as lm-evaluation-harness's lambada_openai does, where GPT-2 (124M) has 0.3256 and
    40.06 (its issue 2159). GPT-2's paper has 45.99% and 35.13, by rules that it does not say.
    """
    answers = continuations(model, pairs)
    right = [float(answer.greedy) for answer in answers]
    loss = sum(answer.nats for answer in answers) / len(answers)
    return accuracy(right) | {"perplexity": Score(loss, 1, 1).perplexity}


def read_hellaswag(path: Path) -> list[Choice]:
    """The questions of a HellaSwag file, cleaned as lm-evaluation-harness does. Raises DataError for one without answers."""
    choices = []
    for row in read_records(path, "activity_label", "ctx_a", "ctx_b", "endings", "label"):
        if not all(isinstance(text, str) for text in (row["ctx_a"], row["ctx_b"], *row["endings"])):
            raise DataError(f"{path} has a question that is no text.", "Get the file again.")
        before = _clean(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")
        if not str(row["label"]).isdecimal() or int(row["label"]) >= len(row["endings"]):
            raise DataError(f"{path} does not say which ending is right.", "Take the validation file, which does.")
        choices.append(Choice(before, [f" {_clean(ending)}" for ending in row["endings"]], int(row["label"])))
    return choices


def hellaswag(model: LanguageModel, choices: Sequence[Choice]) -> dict[str, Any]:
    """HellaSwag: how often the right one of four endings is the likeliest, as it is (acc) and for its length in characters
    (acc_norm). A model that knows nothing has 0.25.

    Source: Zellers et al. 2019; counted as lm-evaluation-harness's hellaswag does.
    """
    pairs = [(choice.before, ending) for choice in choices for ending in choice.endings]
    nats, right, right_for_length = iter(answer.nats for answer in continuations(model, pairs)), [], []
    for choice in choices:
        costs = np.array([next(nats) for _ in choice.endings])
        right.append(float(costs.argmin() == choice.label))
        lengths = np.array([len(ending) - 1 for ending in choice.endings])
        right_for_length.append(float((costs / lengths).argmin() == choice.label))
    normal = accuracy(right_for_length)
    return accuracy(right) | {"acc_norm": normal["acc"], "acc_norm_interval": normal["acc_interval"]}


def _clean(text: str) -> str:
    """Without the marks that WikiHow's texts hold."""
    return re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def score_cloze(model: LanguageModel, questions: Sequence[Question]) -> dict[str, Any]:
    """How often the right title makes the words behind it likeliest; equal titles share. A question of which fewer than
    FEWEST tokens fit into the context behind the longest title is left out."""
    rows, counts, asked = [], [], list[Question]()
    for question in questions:
        befores = [[model.start, *model.encode(before)] for before in question.befores]
        behind = model.encode(question.behind)[: model.context_length + 1 - max(map(len, befores))]
        if len(behind) >= FEWEST:
            asked.append(question)
            rows += [[*before, *behind] for before in befores]
            counts += [len(behind)] * len(befores)
    if not asked:
        return {"acc": None, "acc_interval": None, "questions": 0}
    costs = [one.nats.sum() for one in predict(model, rows, model.context_length, model.context_length, counts)]
    shares = []
    for number in range(len(asked)):
        four = np.array(costs[4 * number : 4 * number + 4])
        shares.append(float(four[0] == four.min()) / int((four == four.min()).sum()))  # the right one is the first
    return accuracy(shares)


def accuracy(right: Sequence[float]) -> dict[str, Any]:
    """The share that is right, and between which values it lies in 95 of 100 cases."""
    return {
        "acc": sum(right) / len(right),
        "acc_interval": interval(right, [1.0] * len(right)),
        "questions": len(right),
    }


def measure(
    task: str,
    path: Path | None,
    questions: Sequence[Question],
    context: int | None,
    stride: int | None,
    limit: int | None,
) -> Callable[[LanguageModel], dict[str, Any]]:
    """What measures a model on a task. Its file is read now: what is wrong with it is said before anything takes long."""
    if path is None:
        return lambda model: score_cloze(model, questions)
    if task == "lambada":
        pairs = read_lambada(path)[:limit]
        return lambda model: lambada(model, pairs)
    if task == "hellaswag":
        choices = read_hellaswag(path)[:limit]
        return lambda model: hellaswag(model, choices)
    text = read_wikitext(path)
    return lambda model: wikitext(model, text, *checked_context(context, stride, model))


def in_line(scores: dict[str, Any]) -> str:
    """Scores in one line."""

    def word(value: Any) -> str:
        if isinstance(value, str):
            return value
        if isinstance(value, list | tuple):
            return " to ".join(map(word, value))
        return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"

    return ", ".join(f"{name} {word(value)}" for name, value in scores.items() if value is not None)
