"""An export loads in stock transformers, in a process that cannot import us, and says what our model says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import wikigpt
from test_tokenizer import HARD

from wikigpt import tokenizer as tokenizers
from wikigpt.checkpoint import newest_checkpoint
from wikigpt.config import RunConfig
from wikigpt.export.huggingface import CUSTOM, custom_code, read_pretrained
from wikigpt.generate import Sampling, generate_ids, load_model
from wikigpt.runs import read_run

ROOT = Path(__file__).parent.parent.parent
FILES = {
    "README.md", "config.json", "generation_config.json", "model.safetensors", "modeling_gpt2_custom.py", "tokenizer.json",
    "tokenizer_config.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def house(data, tmp_path_factory):
    """A folder with a finished run and its export."""
    folder = tmp_path_factory.mktemp("export")
    flags = "--emb_dim 32 --n_heads 2 --context_length 64 --batch_size 8 --learning_rate 2e-2 --threads 2"
    length = "--max_steps 30 --eval_tokens 500 --eval_every 30"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        command = f"train --model_config tiny --training_setting small_models --run r {length} {flags}"
        assert wikigpt(command, data.path.parent) == 0
        assert wikigpt("export", data.path.parent) == 0
    return folder


@pytest.fixture(scope="module")
def exported(house):
    return house / "exports" / "r"


LOADS = """
import json, sys
class Nowhere:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "wikigpt":
            raise ImportError("wikigpt cannot be imported here")
sys.meta_path.insert(0, Nowhere())
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, texts, prompt = json.loads(sys.stdin.read())
tokenizer = AutoTokenizer.from_pretrained(folder)
found = {"ids": [tokenizer(text)["input_ids"] for text in texts]}
for name, trust in (("stock", False), ("custom", True)):
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust).eval()
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0]
    greedy = model.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False, temperature=None, top_k=None)
    found[name] = {"class": type(model).__name__, "logits": logits.tolist(), "greedy": greedy[0].tolist()}
print("wikigpt" in sys.modules, json.dumps(found))
"""


def test_stock_and_custom_code_say_what_our_model_says(house, exported):
    model, tokenizer = load_model(read_run(house / "models" / "r"), "cpu")
    prompt = tokenizer.encode("# Luna\n\nLa Luna es")[:40].tolist()
    given = json.dumps([str(exported), list(HARD.values()), prompt])
    done = subprocess.run([sys.executable, "-c", LOADS], input=given, capture_output=True, text=True, cwd=house)
    assert done.returncode == 0, done.stderr
    imported, _, answer = done.stdout.partition(" ")
    found = json.loads(answer)
    assert imported == "False"
    assert found["ids"] == [tokenizer.encode(text).tolist() for text in HARD.values()]
    with torch.inference_mode():
        ours = model(torch.tensor([prompt]))[0]
    greedy = prompt + list(generate_ids(model, prompt, tokenizer.end_of_text, Sampling(max_gen=20, temperature=0)))
    for name, kind in (("stock", "GPT2LMHeadModel"), ("custom", "GPT2CustomLMHeadModel")):
        assert found[name]["class"] == kind
        assert (torch.tensor(found[name]["logits"]) - ours).abs().max() < 1e-4
        assert found[name]["greedy"][: len(greedy)] == greedy


def test_the_folder_holds_what_it_should_and_nothing_else(exported):
    assert {path.name for path in exported.iterdir()} == FILES
    assert "import wikigpt" not in custom_code() and "from wikigpt" not in custom_code()
    compile((exported / CUSTOM).read_text(), CUSTOM, "exec")
    generation = json.loads((exported / "generation_config.json").read_text())
    assert generation["max_new_tokens"] == 32  # half of the context, which the stock class cannot go beyond
    card = (exported / "README.md").read_text()
    assert "CC BY-SA 4.0" in card and 'language: ["es"]' in card and "bits per byte" in card


def test_again_replaces_it_and_anything_else_is_left_alone(house, exported, data, monkeypatch, capsys):
    monkeypatch.chdir(house)
    (exported / "stray.txt").write_text("not ours")
    assert wikigpt("export", data.path.parent) == 2
    assert "holds what is no export (stray.txt)" in capsys.readouterr().err
    (exported / "stray.txt").unlink()
    assert wikigpt("export --json", data.path.parent) == 0
    record = json.loads(capsys.readouterr().out)
    assert set(record["files"]) == FILES == {path.name for path in exported.iterdir()}
    (house / "thesis").mkdir()
    (house / "thesis" / "thesis.txt").write_text("mine")
    assert wikigpt("export --folder thesis", data.path.parent) == 2
    assert "holds what is no export (thesis.txt)" in capsys.readouterr().err
    assert (house / "thesis" / "thesis.txt").read_text() == "mine"


def test_an_export_comes_back_and_training_goes_on(house, exported, data, monkeypatch, capsys):
    monkeypatch.chdir(house)
    from safetensors.torch import load_file

    back = read_pretrained("models", str(exported))
    weights = load_file(newest_checkpoint(house / "models" / "r") / "model.safetensors")
    assert back.weights.keys() == weights.keys()
    assert all(torch.equal(back.weights[name], weights[name]) for name in weights)
    assert back.config == RunConfig.load(house / "models/r/run.json").model
    flags = "--run more --max_steps 1 --batch_size 4 --eval_tokens 100 --threads 2 --dtype float32"
    assert wikigpt(["train", "--init_from", str(exported), *flags.split()], data.path.parent) == 0
    tokenizers.gpt2().save(exported.parent / "gpt2")  # the same model, trained with another tokenizer
    for name in ("config.json", "model.safetensors"):
        (exported.parent / "gpt2" / name).write_bytes((exported / name).read_bytes())
    capsys.readouterr()
    assert wikigpt(["train", "--init_from", "exports/gpt2", "--run", "x"], data.path.parent) == 2
    assert "another tokenizer" in capsys.readouterr().err
    assert not (house / "models" / "x").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [({"model_type": "llama"}, "model_type llama"), ({"activation_function": "relu"}, "activation_function relu")],
)
def test_what_is_no_plain_gpt2_is_refused(exported, tmp_path, change, says):
    from wikigpt.errors import RunError

    record = json.loads((exported / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match=says):
        read_pretrained("models", str(tmp_path))


@pytest.mark.slow
def test_hf_infer_runs_it(house, exported):
    def infer(*flags, cwd=house):
        return subprocess.run([sys.executable, ROOT / "hf_infer.py", *flags], cwd=cwd, capture_output=True, text=True)

    for name in exported.parent.glob("*"):  # the newest one is meant
        if name != exported:
            for path in name.iterdir():
                path.unlink()
    flags = ["--input", "La Luna es", "--max_gen", "15", "--seed", "1"]
    stock = infer(*flags, "--stock")
    assert "(GPT2LMHeadModel)" in stock.stderr and stock.stdout.startswith("La Luna es")
    nothing = infer(cwd=exported)
    assert nothing.returncode == 2 and "python export_to_hf.py" in nothing.stderr and "Traceback" not in nothing.stderr


def test_pushing_needs_a_token_and_a_name(house, data, monkeypatch, capsys):
    monkeypatch.chdir(house)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert wikigpt("export --push someone/name", data.path.parent) == 2
    assert "no HF_TOKEN in the environment or in .env" in capsys.readouterr().err
    monkeypatch.setenv("HF_TOKEN", "hf secret\nof two lines")
    assert wikigpt("export --push a/b", data.path.parent) == 2
    said = capsys.readouterr().err
    assert "HF_TOKEN is no token" in said and "secret" not in said
    monkeypatch.delenv("HF_TOKEN")
    (house / ".env").write_text("HF_TOKEN=hf_secret\n")
    assert wikigpt("export --push a/b/c", data.path.parent) == 2
    said = capsys.readouterr().err
    assert "is no name of a repository" in said and "hf_secret" not in said


def test_what_is_pushed_is_exactly_the_export_and_runs_from_the_hub(house, exported, data):
    from loopback_hub import Hub

    with Hub() as hub:
        (house / "dataset").exists() or (house / "dataset").symlink_to(data.path.parent)
        (house / ".env").write_text('HF_TOKEN="hf_right"\n')
        environment = {
            **{name: value for name, value in os.environ.items() if name != "HF_TOKEN"},
            "HF_ENDPOINT": hub.url,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HOME": str(house / "hf"),
        }

        def run(*command):
            return subprocess.run(
                [sys.executable, *command], cwd=house, env=environment, capture_output=True, text=True, timeout=120
            )

        done = run("-m", "wikigpt", "export", "--run", "r", "--push", "someone/wiki")
        assert done.returncode == 0 and f"{hub.url}/someone/wiki" in done.stderr, done.stderr
        assert hub.files["someone/wiki"] == {path.name: path.read_bytes() for path in exported.iterdir()}
        assert set(hub.files["someone/wiki"]) == FILES
        assert "hf_right" not in done.stderr + done.stdout

        flags = ("--model", "someone/wiki", "--input", "La Luna es", "--max_gen", "10", "--seed", "1")
        infer = run(ROOT / "hf_infer.py", *flags)
        assert infer.returncode == 0 and infer.stdout.startswith("La Luna es"), infer.stderr
        assert "GPT2CustomLMHeadModel" in infer.stderr

        (house / ".env").write_text("HF_TOKEN=hf_wrong\n")
        wrong = run("-m", "wikigpt", "export", "--run", "r", "--push", "someone/wiki")
        assert wrong.returncode == 2 and "hf_wrong" not in wrong.stderr
        assert "The hub did not take it" in wrong.stderr and "push it again with --push someone/wiki" in wrong.stderr
        assert "Traceback" not in wrong.stderr
