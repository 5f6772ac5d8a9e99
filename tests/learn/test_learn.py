"""`wikigpt learn`: what is right passes, what is wrong is named, and no submission can hurt whoever checks it."""

import ast
import json
import os
import re
import shutil
import sys
from pathlib import Path

import psutil
import pytest
from helpers import wikigpt

from wikigpt.errors import ConfigError
from wikigpt.learn import chapters, grade
from wikigpt.learn.judge import judge

LESSONS = Path(__file__).parents[2] / "lessons"
NAMES = [path.stem[3:] for path in sorted(LESSONS.glob("[0-9][0-9]-*.py"))]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder in which all solutions are the learner's own; what was imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(LESSONS / "solutions", "my_gpt")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "my_gpt"
    for name in [name for name in sys.modules if name.split(".")[0] == "my_gpt"]:
        del sys.modules[name]


def verdict(name: str) -> grade.Verdict:
    """What the checks of a chapter say, in this process."""
    report = Path("report")
    judge(LESSONS / "checks" / f"{name}.py", name, report)
    return grade._verdict(report, None)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{path.name} no longer has {old!r}"
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("name", NAMES)
def test_a_solution_passes_every_check(mine, name):
    found = verdict(name)
    assert found.wrong is None and found.passed == [check["title"] for check in found.checks]
    assert len(found.passed) >= 4 and all(check["hints"] for check in found.checks)


@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_is_its_solution_without_the_bodies(mine, name):
    def outline(path: Path) -> list[tuple]:
        tree = ast.parse(path.read_text())
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        return [
            (n.name, ast.get_docstring(n), ast.unparse(n.args) if isinstance(n, ast.FunctionDef) else "") for n in nodes
        ]

    exercise = LESSONS / "exercises" / f"{name}.py"
    assert outline(exercise) == outline(LESSONS / "solutions" / f"{name}.py")
    assert ast.get_docstring(ast.parse(exercise.read_text())).startswith(f"Chapter {NAMES.index(name)}: ")
    shutil.copy(exercise, mine)
    found = verdict(name)
    assert not found.passed and found.failed == found.checks[0]["title"]
    assert re.search(rf"my_gpt/{name}\.py, line \d+: \w+ is not written yet", found.wrong)


# fmt: off
WRONG = [  # what a learner might write, and what should be said
    ("tensors", "x.max(dim, keepdim=True).values", "0", "nan"),
    ("tensors", "x.max(dim, keepdim=True).values", "x.max()", "not the largest of all"),
    ("tensors", "seen_TT.sum(1, keepdim=True)", "seen_TT.sum(1)", "keepdim=True is missing"),
    ("tensors", ".tril()", ".tril(-1)", "keeps the diagonal"),
    ("tensors", "powers.sum(dim, keepdim=True)", "powers.sum(0, keepdim=True)", "over `dim`"),
    ("tensors", "powers / powers.sum(dim, keepdim=True)", "powers / powers.sum()", "over `dim` alone"),
    ("tensors", "seen_TT / seen_TT.sum(1, keepdim=True) @ x_TD", "seen_TT @ x_TD", "these are sums"),
    ("tensors", "torch.ones(T, T).tril()", "torch.ones(T, T)", "those after it too"),
    ("tensors", "float(at.grad)", "float(f(at))", "this is the value there"),
    ("tensors", "x -= rate", "x += rate", "uphill"),
    ("tensors", "        x.grad = None\n", "", "pile up"),
    ("tensors", "start.clone()", "start", "`start` was changed"),
    ("tensors", "return x.detach()", "return x", "still remembers"),
    ("tokens", "at += 2", "at += 1", "move on by two"),
    ("tokens", "256 + len(merges))", "256)", "Twenty merges|should be"),
    ("tokens", "list(text.encode()), []", "[ord(c) for c in text], []", "é is two bytes"),
    ("tokens", 'decode(errors="replace")', "decode()", "UnicodeDecodeError"),
    ("tokens", "table[left] + table[right]", "table[right] + table[left]", "decode"),
    ("bigram", "ids_N[:-1] * vocab_size + ids_N[1:]", "ids_N[1:] * vocab_size + ids_N[:-1]", "rows and columns are swapped"),
    ("bigram", ".float()", "", "should be float32"),
    ("bigram", "sum(1, keepdim=True)", "sum(0, keepdim=True)", "columns add up to 1"),
    ("bigram", "-probabilities_VV", "probabilities_VV", "the sign is wrong"),
    ("bigram", ".log()", ".log2()", "in bits"),
    ("bigram", "[ids_N[:-1], ids_N[1:]]", "[ids_N[1:], ids_N[:-1]]", "picks the row"),
    ("bigram", "return ids[1:]", "return ids", "not be among them"),
    ("bigram", "1, generator=generator", "1", "same seed"),
    ("attention", ".tril()", ".tril(-1)", "off by one: a position must see itself"),
    ("attention", ".tril()", ".tril(1)", "off by one: a position must not see the next"),
    ("attention", ".tril()", ".triu()", "turned around"),
    ("attention", " / math.sqrt(K)", "", "the scale is missing"),
    ("attention", " / math.sqrt(K)", " / K", "by its root"),
    ("attention", "masked_fill(~causal_mask(T)", "masked_fill(causal_mask(T)", "turned around"),
    ("attention", '.masked_fill(~causal_mask(T), float("-inf"))', "", "nothing is masked"),
    ("attention", ".softmax(-1)", ".softmax(-2)", "wrong axis"),
    ("attention", ".softmax(-1)", ".softmax(1)", "not the heads"),
    ("attention", ".softmax(-1)", "", "softmax is missing"),
    ("attention", 'float("-inf")', "0.0", "a score of 0"),
    ("attention", "unflatten(-1, (self.n_heads, -1)).transpose(1, 2)", "reshape(2, self.n_heads, 7, -1)", "mixes positions"),
    ("attention", "y_BHTK.transpose(1, 2).flatten(2)", "y_BHTK.reshape(x_BTD.shape)", "behind time"),
    ("attention", "return self.out_proj(y_BHTK.transpose(1, 2).flatten(2))", "return y_BHTK.transpose(1, 2).flatten(2)", "out_proj"),
    ("attention", "self.out_proj", "self.output", "out_proj.weight .* is missing"),
    ("attention", "bias=config.qkv_bias", "bias=False", "qkv.bias .* is missing"),
    ("attention", "bias=config.qkv_bias", "bias=True", "should have no bias"),
    ("attention", "q_BTD, k_BTD, v_BTD = self", "k_BTD, q_BTD, v_BTD = self", "in another order"),
    ("attention", "unflatten(-1, (self.n_heads, -1)).transpose(1, 2)", "unflatten(-1, (-1, self.n_heads)).permute(0, 3, 1, 2)", "interleaved|differ"),
    ("attention", "q_BHTK @ k_BHTK.transpose(-1, -2) /", "k_BHTK @ q_BHTK.transpose(-1, -2) /", "swapped"),
    ("attention", " / math.sqrt(K)", " / math.sqrt(T)", "the root of T"),
    ("block", "x_BTD = x_BTD + self.attn", "x_BTD += self.attn", "changes the tensor"),
    ("block", "x - x.mean(-1, keepdim=True)", "x - x.mean(1, keepdim=True)", "differ|over time"),
    ("block", "gelu(self.up(x_BTD))", "nn.functional.gelu(self.up(x_BTD))", "differ"),
    ("block", "self.ff(self.norm2(x_BTD))", "self.ff(x_BTD)", "norm2 is not used"),
    ("block", "centred.pow(2).mean(-1, keepdim=True)", "x.var(-1, keepdim=True)", "n - 1"),
    ("block", "(variance + 1e-5).sqrt()", "(variance + 1e-5)", "by its root"),
    ("block", "(variance + 1e-5).sqrt()", "variance.sqrt()", "under the root"),
    ("block", " * self.weight + self.bias", "", "weight and bias are not used"),
    ("block", "torch.ones(size)", "torch.zeros(size)", "weight at first"),
    ("block", "x / 2 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))", "x.relu()", "this is relu"),
    ("block", "self.down(gelu(self.up(x_BTD)))", "self.down(self.up(x_BTD))", "gelu is missing"),
    ("block", "x_BTD = x_BTD + self.attn", "x_BTD = self.attn", "around attention is missing"),
    ("block", "return x_BTD + self.ff", "return self.ff", "around the feed-forward is missing"),
    ("block", "self.ff(self.norm2(x_BTD))", "self.ff(self.norm1(x_BTD))", "norm1 is used twice"),
    ("gpt", "3 * D * config.qkv_bias + ", "", "bias of q, k and v is missing"),
    ("gpt", " + 2 * D\n\n", "\n\n", "final norm is missing"),
    ("gpt", "nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layers))", "[TransformerBlock(config) for _ in range(config.n_layers)]", "nn.ModuleList"),
    ("gpt", " + self.pos_emb(torch.arange(T))", "", "positions are missing"),
    ("gpt", "self.final_norm(x_BTD), self", "x_BTD, self", "final_norm is missing"),
    ("gpt", "torch.arange(T)", "torch.arange(1, T + 1) % self.config.context_length", "begin at 0"),
    ("gpt", "        T = ids_BT.shape[1]\n", "        T = ids_BT.shape[1]\n        if T >= self.config.context_length:\n            raise ValueError\n", "16 tokens fit"),
    ("gpt", "block(x_BTD)", "self.blocks[0](x_BTD) if block is self.blocks[0] else x_BTD", "only one block"),
    ("gpt", "raise ValueError", "raise KeyError", "not KeyError"),
    ("gpt", "        self.initialise()\n", "", "should begin with zeros|has deviation"),
    ("gpt", "0.02 / math.sqrt(2 * self.config.n_layers)", "0.02", "out_proj.weight has deviation"),
    ("training", "return -log_probs", "return log_probs", "the sign is wrong"),
    ("training", "log_softmax(-1)", "log_softmax(1)", "over time"),
    ("training", "logits_BTV.log_softmax(-1)", "logits_BTV.softmax(-1).log()", "inf|log_softmax"),
    ("training", "(0.1 + 0.9 * (1 +", "(0 + 1 * (1 +", "it falls to 0"),
    ("training", "(step - warmup_steps) / (total_steps - warmup_steps)", "step / total_steps", "from the end of the warm-up|step 10"),
    ("training", "math.cos(math.pi * progress)) / 2)", "1 - 2 * progress) / 2)", "straight line"),
    ("training", "list(parameters), decay", "parameters, decay", "longer than|iterator"),
    ("training", "rate * self.decay * p", "self.decay * p", "not multiplied by the learning rate"),
    ("training", "        clip(model.parameters(), 1.0)\n", "", "clip should be called once"),
    ("training", "learning_rate_at(step, total_steps, peak, max(1, total_steps // 10))", "peak", "the rate that AdamW.step got"),
    ("training", "max(1, total_steps // 10)", "total_steps // 10", "of 4, with 1 to warm up"),
    ("training", "    with torch.no_grad():\n        for inputs_BT, targets_BT in batches:", "    if True:\n        for inputs_BT, targets_BT in batches:", "torch.no_grad"),
    ("training", "(step + 1)", "step", r"step \+ 1"),
    ("training", "    gradients = [p.grad", "    parameters = list(parameters)\n    if any(p.grad is None for p in parameters):\n        raise TypeError('None')\n    gradients = [p.grad", "TypeError: None"),
    ("training", "longest / length", "longest", "clipped to 1"),
    ("training", ", targets) / parts", ", targets)", "should be averaged"),
    ("training", " / (1 - 0.9**self.n)", "", "AdamW|one step"),
    ("training", "if p.dim() == 2:", "if True:", "should not decay"),
    ("training", "            p.grad = None\n", "", "should be None"),
    ("training", "    return total / tokens", "    return total / len(list(batches)) if 0 else float(cross_entropy(model(inputs_BT), targets_BT))", "validate"),
    ("training", "    return losses", "    return None", "list with the loss"),
    ("training", "optimizer.step(", "optimizer.n + (", "called 0 times"),
    ("data", "<ref[^>]*/>|", "", "plain"),
    ("data", "wikigpt-1|", "", "differs from wikigpt's"),
    ("data", "row[1:]", "row[:-1]", "learn to copy"),
    ("data", "- context, context)", "- context, context + 1)", "input of nobody"),
    ("data", "[seed, epoch]", "seed", "Another epoch"),
    ("data", "[seed, epoch]", "seed + epoch", "do not add them up"),
    ("data", "range(start, start + context))\n    touched", "range(start, start + context - 1))\n    touched", "single token"),
    ("sampling", "logits_V / temperature", "logits_V * temperature", "it was multiplied"),
    ("sampling", "min(k, len(logits_V))", "k", "RuntimeError"),
    ("sampling", "before < p", "before + probabilities < p", "must be kept too"),
    ("sampling", "if temperature == 0:", "if False:", "nan"),
    ("sampling", ".tril(S - T)", ".tril()", "in parts of"),
    ("sampling", "torch.cat([self.k_BHTK, k_BHTK], 2)", "torch.cat([k_BHTK, self.k_BHTK], 2)", "in parts of"),
    ("sampling", "return made", "return ids + made", "part of the answer"),
    ("sampling", "[-model.config.context_length :]", "", "ValueError"),
]
# fmt: on


@pytest.mark.parametrize("name, old, new, said", WRONG)
def test_what_is_wrong_is_said(mine, name, old, new, said):
    change(mine / f"{name}.py", old, new)
    found = verdict(name)
    assert found.wrong is not None, "it passes every check"
    assert re.search(said, found.wrong), found.wrong


def test_a_chapter_that_builds_on_a_missing_one_says_so(mine):
    (mine / "block.py").unlink()
    found = verdict("gpt")
    assert "builds on my_gpt/block.py, which is not there: wikigpt learn start 4" in found.wrong and not found.passed


ENDS = {
    "leaves": ("import os\nos._exit(0)\n", "ended by itself"),
    "exits": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "is killed": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "SIGSEGV"),
    "loops": ("while True:\n    pass\n", r"had not ended after 6 seconds, at my_gpt/tensors\.py, line [12]"),
    "has a typing mistake": ("def f(:\n", r"my_gpt/tensors\.py, line 1: .*: def f\(:"),
    "is empty": ("", "softmax.* is missing, or has another name"),
    "fails": (
        "import torch\n\n\ndef softmax(x, dim):\n    return x @ x\n",
        r"line 5: RuntimeError: .*\(return x @ x\)",
    ),
    "gives nothing": ("def softmax(x, dim):\n    pass\n", "gives None: is a `return` missing"),
}


@pytest.mark.parametrize(
    "what", [*list(ENDS)[:1], *(pytest.param(what, marks=pytest.mark.slow) for what in list(ENDS)[1:])]
)
def test_a_submission_that_ends_otherwise(tmp_path, monkeypatch, what):
    monkeypatch.chdir(tmp_path)
    source, said = ENDS[what]
    Path("my_gpt").mkdir()
    Path("my_gpt/tensors.py").write_text(source)
    found = grade.grade(chapters.find_chapter(0), 6 if what == "loops" else 60)
    assert not found.passed and found.failed and re.search(said, found.wrong), found.wrong


@pytest.mark.slow
def test_what_a_submission_has_started_ends_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my_gpt").mkdir()
    start = "import subprocess, sys, time\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])\n"
    Path("my_gpt/tensors.py").write_text(f"{start}open('child', 'w').write(str(child.pid))\ntime.sleep(99)\n")
    assert "had not ended" in grade.grade(chapters.find_chapter(0), 8).wrong
    child = int(Path("child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_from_the_exercise_to_the_solution(tmp_path, monkeypatch, capfd):
    """As a learner goes: start, check, hints one after another, mend, check, done."""
    monkeypatch.chdir(tmp_path)

    def learn(words: str, code: int = 0) -> str:
        assert wikigpt(f"learn {words}".strip(), tmp_path) == code
        out, err = capfd.readouterr()
        return out + err

    assert "Next: read " in learn("") and "wikigpt learn start 0" in learn("")
    assert "Begin with: wikigpt learn start 3" in learn("check 3", 2)
    assert "Nothing was checked yet" in learn("hint 3", 2)
    assert "my_gpt/attention.py is yours" in learn("start 3")
    assert "is there already" in learn("start 3", 2)
    said = learn("check 3", 2)
    assert "wrong  causal_mask: who may see whom" in said and "causal_mask is not written yet" in said
    hints = [learn("hint 3") for _ in range(4)]
    assert [re.search(r"hint \d of 3", hint) is not None for hint in hints] == [True, True, True, False]
    assert "tril" in hints[2] and hints[3].strip().endswith("lessons/solutions/attention.py")
    shutil.copy(LESSONS / "solutions/attention.py", "my_gpt")
    change(Path("my_gpt/attention.py"), " / math.sqrt(K)", "")
    said = learn("check 3", 2)
    assert "right  causal_mask" in said and "the scale is missing" in said
    assert "hint 1 of 3" in learn("hint 3")  # of the check that fails now
    assert re.search(r"3  .*1 of 4 checks", learn(""))
    shutil.copy(LESSONS / "solutions/attention.py", "my_gpt")
    assert "chapter 3 is done" in learn("check 3")
    assert re.search(r"3  .*  done", learn("")) and "Nothing is wrong there" in learn("hint 3", 2)


def test_json(mine, capfd):
    assert wikigpt("learn --json", mine) == 0
    assert [row["number"] for row in json.loads(capfd.readouterr().out)["chapters"]] == list(range(9))
    (mine / "tensors.py").write_text("print('hello')\n")
    assert wikigpt("learn check 0 --json", mine) == 2
    out, err = capfd.readouterr()
    record = json.loads(out)
    assert "hello" in err and record["done"] is False and "softmax" in record["wrong"]


@pytest.mark.parametrize(
    "words, said",
    [
        ("learn check 77", "no chapter 77. Take one of 0, 1, 2"),
        ("learn check 0 --seconds 0", "seconds is 0"),
        ("learn check 0 --seconds inf", "seconds is inf"),
        ("learn check", "required"),
        ("learn chekc 0", "start, learn check, learn hint"),
        ("learn start three", "cannot be 'three'|three"),
    ],
)
def test_mistakes_get_one_line(tmp_path, monkeypatch, capfd, words, said):
    monkeypatch.chdir(tmp_path)
    assert wikigpt(words, tmp_path) == 2
    out, err = capfd.readouterr()
    assert not out and len(err.strip().splitlines()) == 1 and re.search(said, err), err
    assert not os.listdir(tmp_path)


def test_a_package_without_lessons_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chapters.wikigpt, "__file__", str(tmp_path / "site-packages" / "wikigpt" / "__init__.py"))
    with pytest.raises(ConfigError, match=r"no lessons here\. Clone"):
        chapters.chapters()


@pytest.mark.parametrize("kept", ["", "[]", "{", '{"tensors": 3}', '{"tensors": {"passed": "x", "other": 1}}'])
def test_a_damaged_record_of_progress_is_none(tmp_path, monkeypatch, kept):
    monkeypatch.chdir(tmp_path)
    Path("my_gpt").mkdir()
    Path("my_gpt/progress.json").write_text(kept)
    chapter = chapters.find_chapter(0)
    assert chapters.progress_of(chapter) == chapters.Progress()
    chapters.keep_progress(chapter, chapters.Progress(5, 5))
    assert chapters.progress_of(chapter).done
