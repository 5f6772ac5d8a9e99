"""An export loads in stock transformers, in a process that cannot import us, and says what our model says."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_tokenizer import HARD

from wikigpt.checkpoint import newest_checkpoint
from wikigpt.config import RunConfig, write_json
from wikigpt.data.shards import file_hash
from wikigpt.export.huggingface import CUSTOM, CUSTOM_CONFIG, custom_code
from wikigpt.generate import Sampling, generate_ids, load_model, window_start
from wikigpt.runs import read_run

FILES = {
    "LICENSE", "README.md", "config.json", "configuration_gpt2_custom.py", "curves.png", "generation_config.json",
    "merges.txt", "model.safetensors", "modeling_gpt2_custom.py", "tokenizer.json", "tokenizer_config.json", "vocab.json",
    "wikigpt.json", "writing.svg",
}  # fmt: skip

NOWHERE = """
import json, sys
class Nowhere:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "wikigpt":
            raise ImportError("wikigpt cannot be imported here")
sys.meta_path.insert(0, Nowhere())
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
"""

LOADS = (
    NOWHERE
    + """
folder, texts, prompt, has_code = json.loads(sys.stdin.read())
tokenizer = AutoTokenizer.from_pretrained(folder)
found = {"ids": [tokenizer(text)["input_ids"] for text in texts]}
for name, trust in (("stock", False), ("custom", True))[: 2 if has_code else 1]:
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust).eval()
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0]
    new = 20 if name == "stock" else 80  # the custom class goes on beyond the context
    greedy = model.generate(torch.tensor([prompt]), max_new_tokens=new, do_sample=False, temperature=None, top_k=None)
    texts = [torch.zeros(1, n, dtype=torch.long) for n in range(1, 200)]
    read = [model.prepare_inputs_for_generation(ids, is_first_iteration=True)["input_ids"] for ids in texts]
    found[name] = {"class": type(model).__name__, "logits": logits.tolist(), "greedy": greedy[0].tolist()}
    found[name]["windows"] = [ids.shape[1] for ids in read]
    model.save_pretrained(folder + "-again-" + name)
    again = AutoModelForCausalLM.from_pretrained(folder + "-again-" + name, trust_remote_code=trust)
    with torch.no_grad():
        found[name]["close"] = float((again(torch.tensor([prompt])).logits[0] - logits).abs().max())
print("wikigpt" in sys.modules, json.dumps(found))
"""
)


@pytest.mark.parametrize("run", ["r", *(pytest.param(run, marks=pytest.mark.slow) for run in "gum")])
def test_stock_and_custom_code_say_what_our_model_says(house, at_house, tmp_path, run):
    assert at_house(f"export --run {run} --folder {tmp_path}/out") == 0
    model, tokenizer = load_model(read_run(house / "models" / run), "cpu")
    prompt = tokenizer.encode("# Luna\n\nLa Luna es")[:40].tolist()
    has_code = run in ("r", "g")  # a modern model is published for the stock class alone
    given = json.dumps([str(tmp_path / "out"), list(HARD.values()), prompt, has_code])
    done = subprocess.run([sys.executable, "-c", LOADS], input=given, capture_output=True, text=True, cwd=house)
    assert done.returncode == 0, done.stderr
    imported, _, answer = done.stdout.partition(" ")
    found = json.loads(answer)
    assert imported == "False"
    assert found["ids"] == [tokenizer.encode(text).tolist() for text in HARD.values()]
    with torch.inference_mode():
        ours = model(torch.tensor([prompt]))[0]
    greedy = prompt + list(generate_ids(model, prompt, tokenizer.end_of_text, Sampling(max_gen=80, temperature=0)))
    kinds = (
        {"stock": "GPT2LMHeadModel", "custom": "GPT2CustomLMHeadModel"} if has_code else {"stock": "Qwen3ForCausalLM"}
    )
    for name, kind in kinds.items():
        assert found[name]["class"] == kind
        assert (torch.tensor(found[name]["logits"]) - ours).abs().max() < 1e-4
        read = len(prompt) + (20 if name == "stock" else 80)
        assert found[name]["greedy"][: len(greedy)] == greedy[:read]
        assert found[name]["close"] < 1e-4
    if has_code:
        assert found["custom"]["windows"] == [n - window_start(n, 64) for n in range(1, 200)]


def test_the_folder_holds_what_it_should_and_nothing_else(exported):
    assert {path.name for path in exported.iterdir()} == FILES
    for file in (CUSTOM, CUSTOM_CONFIG):
        code = (exported / file).read_text()
        assert "import wikigpt" not in code and "from wikigpt" not in code
        compile(code, file, "exec")
    assert (exported / CUSTOM).read_text() == custom_code()
    ruff = [Path(sys.executable).with_name("ruff"), "format", "--check", "--line-length", "120", exported / CUSTOM]
    assert subprocess.run(ruff, capture_output=True).returncode == 0  # it is there to be read
    generation = json.loads((exported / "generation_config.json").read_text())
    assert generation["max_new_tokens"] == 32  # half of the context, which the stock class cannot go beyond
    vocabulary = json.loads((exported / "vocab.json").read_text())
    record = json.loads((exported / "tokenizer.json").read_text())
    assert vocabulary == record["model"]["vocab"] and vocabulary["<|endoftext|>"] == 999
    merges = (exported / "merges.txt").read_text().splitlines()[1:]
    assert merges == [" ".join(pair) for pair in record["model"]["merges"]] and len(merges) == 1000 - 1 - 256


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_dtypes_and_several_files(house, at_house, tmp_path, dtype):
    from transformers import AutoModelForCausalLM

    out = tmp_path / "out"
    assert at_house(f"export --run r --folder {out} --dtype {dtype} --max_shard_size 40KB") == 0
    files = sorted(path.name for path in out.glob("*.safetensors"))
    assert len(files) > 1 and files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    model = AutoModelForCausalLM.from_pretrained(out).eval()
    ours, tokenizer = load_model(read_run(house / "models" / "r"), "cpu")
    assert model.dtype == getattr(torch, dtype)
    prompt = torch.tensor([tokenizer.encode("# Luna\n\nLa Luna es").tolist()])
    with torch.no_grad():
        away = (model(prompt).logits.float() - ours(prompt)).abs().max()
    assert away < (0.2 if dtype == "bfloat16" else 0.03)
    assert "rounded to " + dtype in (out / "README.md").read_text()


def copied(house, name: str, change):
    """A copy of run `r` whose weights and settings `change` gets its hands on."""
    run = house / "models" / name
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(house / "models" / "r", run)
    checkpoint = newest_checkpoint(run)
    weights, record = load_file(checkpoint / "model.safetensors"), json.loads((run / "run.json").read_text())
    change(weights, record)
    save_file(weights, checkpoint / "model.safetensors")
    state = json.loads((checkpoint / "state.json").read_text())
    state["files"]["model.safetensors"] = file_hash(checkpoint / "model.safetensors")
    write_json(checkpoint / "state.json", state)
    write_json(run / "run.json", record)
    return run


def test_padded_rows_are_cut_off_everywhere(house, at_house, exported, tmp_path):
    """Rows that pad a vocabulary, here with logits that would always win, are in no file."""

    def pad(weights, record):
        weights["tok_emb.weight"] = torch.cat(
            [weights["tok_emb.weight"], torch.full((12, 32), 9.0), torch.full((12, 32), -9.0)]
        )
        record["model"]["vocab_size"] += 24

    run = copied(house, "padded", pad)
    model, tokenizer = load_model(read_run(run), "cpu")
    drawn = list(generate_ids(model, [5], tokenizer.end_of_text, Sampling(max_gen=20, temperature=0)))
    plain, _ = load_model(read_run(house / "models" / "r"), "cpu")
    assert drawn == list(generate_ids(plain, [5], tokenizer.end_of_text, Sampling(max_gen=20, temperature=0)))
    out = tmp_path / "out"
    assert at_house(f"export --run padded --folder {out} --gguf f32 --html") == 0
    assert (out / "model.safetensors").read_bytes() == (exported / "model.safetensors").read_bytes()
    assert json.loads((out / "config.json").read_text())["vocab_size"] == 1000
    import gguf

    tensors = {t.name: t for t in gguf.GGUFReader(next(out.glob("*.gguf"))).tensors}
    assert list(tensors["token_embd.weight"].shape) == [32, 1000]
    assert '"tok_emb.weight": {"shape": [1000, 32]' in (out / "index.html").read_text()


def test_again_replaces_it_and_anything_else_is_left_alone(house, at_house, exported, capsys):
    (exported / "stray.txt").write_text("not ours")
    assert at_house("export --run r") == 2
    assert "holds what is no export (stray.txt)" in capsys.readouterr().err
    (exported / "stray.txt").unlink()
    assert at_house("export --run r --json") == 0
    record = json.loads(capsys.readouterr().out)
    assert set(record["files"]) == FILES == {path.name for path in exported.iterdir()}
    assert record["name"] == "wikigpt-es-0.1M" and record["url"] is None
    (house / "thesis").mkdir()
    (house / "thesis" / "README.md").write_text("mine")
    assert at_house("export --run r --folder thesis") == 2
    assert "holds what is no export" in capsys.readouterr().err
    shutil.copy(exported / "model.safetensors", house / "thesis" / "model.safetensors")
    (house / "thesis" / "config.json").write_text('{"model_type": "gpt2"}')  # a model that somebody downloaded
    assert at_house("export --run r --folder thesis") == 2
    assert "a model from elsewhere" in capsys.readouterr().err
    assert (house / "thesis" / "README.md").read_text() == "mine"
    assert at_house("export --run r --folder thesis/README.md") == 2
    assert "is a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--checkpoint step_00000031.partial", "no checkpoint 'step_00000031.partial'"),
        ("--checkpoint 7", "no checkpoint '7'"),
        ("--dtype int4", "'float32', 'bfloat16', 'float16'"),
        ("--max_shard_size 0GB", "--max_shard_size cannot be '0GB'"),
        ("--max_shard_size many", "--max_shard_size cannot be 'many'. Give a size with its unit"),
        ("--gguf q2_k", "q2_k"),
        ("--public", "--public goes with --push or --space."),
        ("--dry_run", "--dry_run goes with --push or --space."),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(house, at_house, tmp_path, capsys, flags, says):
    (house / "models" / "r" / "checkpoints" / "step_00000031.partial").mkdir(exist_ok=True)
    assert at_house(f"export --run r --folder {tmp_path}/out {flags}") == 2
    said = [line for line in capsys.readouterr().err.strip().splitlines() if not line.startswith("run: ")]
    assert len(said) == 1 and says in said[0]
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_belong_together_is_refused(house, at_house, tmp_path, capsys):
    def smaller(weights, record):
        weights["tok_emb.weight"] = weights["tok_emb.weight"][:900].contiguous()
        record["model"]["vocab_size"] = 900

    copied(house, "broken", smaller)
    assert at_house(f"export --run broken --folder {tmp_path}/out") == 2
    assert "is not the tokenizer that broken was trained with (1,000 ids, the model has 900)" in capsys.readouterr().err

    run = copied(house, "broken", lambda weights, record: None)
    text = (run / "tokenizer" / "tokenizer.json").read_text()
    (run / "tokenizer" / "tokenizer.json").write_text(text.replace("endoftext", "end_of_text"))
    assert at_house(f"export --run broken --folder {tmp_path}/out") == 2
    assert "is not the tokenizer that broken was trained with" in capsys.readouterr().err

    for layers in (1, 3):

        def other(weights, record, layers=layers):
            record["model"]["n_layers"] = layers

        copied(house, "broken", other)
        assert at_house(f"export --run broken --folder {tmp_path}/out") == 2
        assert "are of another model than its run.json" in capsys.readouterr().err

    def infinite(weights, record):
        weights["final_norm.weight"][0] = float("nan")

    copied(house, "broken", infinite)
    assert at_house(f"export --run broken --folder {tmp_path}/out") == 2
    assert "no longer numbers" in capsys.readouterr().err

    def huge(weights, record):
        weights["final_norm.weight"][0] = 1e6

    copied(house, "broken", huge)
    assert at_house(f"export --run broken --folder {tmp_path}/out --dtype float16") == 2
    assert "too large for torch.float16" in capsys.readouterr().err
    run = copied(house, "broken", lambda weights, record: None)
    newest = newest_checkpoint(run)
    newest.rename(newest.with_name("aside_00000030"))  # as a run that was extended leaves it
    assert at_house(f"export --run broken --folder {tmp_path}/out --checkpoint aside_00000030") == 2
    assert "its figures are no longer known" in capsys.readouterr().err
    shutil.rmtree(run / "checkpoints")
    assert at_house(f"export --run broken --folder {tmp_path}/out") == 2
    assert "has no checkpoint yet" in capsys.readouterr().err
    shutil.rmtree(run)
    assert list(tmp_path.iterdir()) == [] and RunConfig.load(house / "models/r/run.json").model.vocab_size == 1000


def test_what_a_kill_leaves_beside_it(house, at_house, tmp_path, capsys):
    """Between the two renames of a replacement the older export is .name.old: it comes back, also if the next one fails."""
    out, old = tmp_path / "out", tmp_path / ".out.old"
    assert at_house(f"export --run r --folder {out}") == 0
    before = (out / "model.safetensors").read_bytes()
    out.rename(old)
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "README.md.partial").write_text("half")
    assert at_house(f"export --run r --folder {out} --max_shard_size none") == 2
    assert (out / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == ["out"]
    old.mkdir()
    (old / "diary.txt").write_text("somebody's")
    assert at_house(f"export --run r --folder {out}") == 2
    assert ".out.old is there and holds what is no export (diary.txt)" in capsys.readouterr().err
    assert (old / "diary.txt").exists()


def test_what_an_export_no_longer_holds_is_said(at_house, tmp_path, capsys):
    out = tmp_path / "out"
    assert at_house(f"export --run r --folder {out} --html --gguf") == 0
    again = f"wikigpt export --run r --folder {out} --gguf f16 --html --push USER/NAME"
    assert again in capsys.readouterr().err
    assert at_house(f"export --run r --folder {out}") == 0
    said = capsys.readouterr().err
    assert "no longer there: index.html, wikigpt-es-0.1M-F16.gguf; --gguf and --html make such files" in said


def test_a_damaged_newest_checkpoint_is_said(house, at_house, tmp_path, capsys):
    run = copied(house, "damaged", lambda weights, record: None)
    newest = newest_checkpoint(run)
    (newest / "model.safetensors").write_bytes(b"")
    assert at_house(f"export --run damaged --folder {tmp_path}/out") == 0
    said = capsys.readouterr().err
    assert "the checkpoint of step 30 is damaged: step 25 is taken" in said and ", step 25 (" in said
    shutil.rmtree(run)


def test_the_working_folder_itself(house, data, tmp_path, monkeypatch):
    from helpers import wikigpt

    monkeypatch.chdir(tmp_path)
    assert wikigpt(f"export --run {house}/models/r --folder . --push someone/x --dry_run", data.path.parent) == 0
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_other_programs_may_read_the_weights(exported):
    assert (exported / "model.safetensors").stat().st_mode == (exported / "config.json").stat().st_mode


def test_a_tokenizer_with_a_decoder_of_several_steps(house, at_house, tmp_path):
    """As some foreign ones have it: what is written behind the text is nothing, and transformers can read the file."""
    from transformers import AutoTokenizer

    from wikigpt import tokenizer as tokenizers

    def foreign(weights, record):
        path = house / "models" / "foreign" / "tokenizer" / "tokenizer.json"
        mine = json.loads(path.read_text())
        mine["decoder"] = {"type": "Sequence", "decoders": [mine["decoder"]]}
        path.write_text(json.dumps(mine))
        record["tokenizer_hash"] = tokenizers.load(path).sha256

    copied(house, "foreign", foreign)
    assert at_house(f"export --run foreign --folder {tmp_path}/out") == 0
    ids = AutoTokenizer.from_pretrained(tmp_path / "out")("La Luna")["input_ids"]
    assert ids == tokenizers.load(house / "models/foreign/tokenizer").encode("La Luna").tolist()
