"""Training begins with weights from elsewhere: an exported folder, OpenAI's GPT-2, a repository of the hub."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from loopback_hub import Hub
from safetensors.torch import load_file, save_file

from wikigpt import tokenizer as tokenizers
from wikigpt.checkpoint import newest_checkpoint
from wikigpt.config import RunConfig
from wikigpt.errors import RunError
from wikigpt.export.pretrained import read_pretrained

MORE = "--max_steps 1 --batch_size 4 --eval_tokens 100 --threads 2 --dtype float32"


@pytest.mark.parametrize(
    ("run", "form"), [("r", ""), ("r", "--max_shard_size 40KB"), ("r", "--gguf f16 --html"), ("m", ""), ("u", "")]
)
def test_an_export_comes_back_and_training_goes_on(house, at_house, tmp_path, run, form):
    assert at_house(f"export --run {run} --folder {tmp_path}/out {form}") == 0
    back = read_pretrained("models", str(tmp_path / "out"))
    weights = load_file(newest_checkpoint(house / "models" / run) / "model.safetensors")
    assert back.weights.keys() == weights.keys()
    for name, tensor in back.weights.items():
        assert torch.equal(
            tensor, weights[name][:1000] if name in ("tok_emb.weight", "out_head.weight") else weights[name]
        )
    assert back.config == RunConfig.load(house / f"models/{run}/run.json").model
    assert at_house(f"train --init_from {tmp_path}/out --run more --fresh {MORE}") == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [({"attention_bias": True}, "attention_bias True"), ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type yarn")],
)
def test_a_qwen3_with_more_than_we_have_is_refused(at_house, tmp_path, change, says):
    assert at_house(f"export --run m --folder {tmp_path}/out") == 0
    path = tmp_path / "out" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(RunError, match=says):
        read_pretrained("models", str(tmp_path / "out"))


def test_rounded_weights_come_back_rounded(house, at_house, tmp_path):
    assert at_house(f"export --run r --folder {tmp_path}/out --dtype bfloat16") == 0
    weights = load_file(newest_checkpoint(house / "models" / "r") / "model.safetensors")
    for name, tensor in read_pretrained("models", str(tmp_path / "out")).weights.items():
        assert torch.equal(tensor, weights[name].bfloat16().float())


def test_another_tokenizer_is_refused(house, at_house, exported, capsys):
    folder = house / "exports" / "other"
    tokenizers.gpt2().save(folder)  # the same model, with another tokenizer beside it
    for name in ("config.json", "model.safetensors"):
        shutil.copy(exported / name, folder / name)
    assert at_house("train --init_from exports/other --run x") == 2
    assert "another tokenizer" in capsys.readouterr().err and not (house / "models" / "x").exists()
    shutil.rmtree(folder)


@pytest.fixture
def openai(tmp_path):
    """A folder as OpenAI's GPT-2 has it: no prefix, buffers of masks, GPT-2's tokenizer; padded to 50,304 rows."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=50304, n_positions=32, n_embd=16, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config)
    named = {name.removeprefix("transformer."): t for name, t in model.state_dict().items() if name != "lm_head.weight"}
    named |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 32, 32).tril() for layer in range(2)}
    folder = tmp_path / "gpt2-like"
    tokenizers.gpt2().save(folder)
    save_file({name: tensor.contiguous() for name, tensor in named.items()}, folder / "model.safetensors")
    record = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": "gelu_new",
        "n_ctx": 32,
    }
    record |= {"vocab_size": 50304, "n_positions": 32, "n_embd": 16, "n_layer": 2, "n_head": 2, "resid_pdrop": 0.1}
    (folder / "config.json").write_text(json.dumps(record))
    return folder, model


def test_openais_own_form(openai):
    """Its logits are those of the stock class, but for the rows that only pad."""
    from wikigpt.transformer import GPTModel

    folder, stock = openai
    pretrained = read_pretrained("models", str(folder))
    assert pretrained.config.vocab_size == 50257
    model = GPTModel(pretrained.config).eval()
    model.load_state_dict(pretrained.weights)
    ids = torch.tensor([[5, 50256, 1000, 7]])
    with torch.no_grad():
        assert (model(ids) - stock.eval()(ids).logits[..., :50257]).abs().max() < 1e-4


@pytest.mark.slow
def test_a_repository_of_the_hub(openai, house, tmp_path):
    """`--init_from gpt2` takes OpenAI's from the hub; without a network, or for another name, one line."""
    folder, _ = openai
    with Hub() as hub:
        files = {p.name: p.read_bytes() for p in folder.iterdir()}
        commit = hub.commit("model", "openai-community/gpt2", "main", files)

        def train(source, **environment):
            flags = [
                "--data",
                str(house / "dataset" / "en"),
                "--run",
                "from-hub",
                *MORE.split(),
                "--context_length",
                "32",
            ]
            command = [sys.executable, "-m", "wikigpt", "train", "--init_from", source, *flags]
            where = hub.environment(tmp_path / "hf", **environment)
            return subprocess.run(command, cwd=tmp_path, env=where, capture_output=True, text=True, timeout=120)

        done = train("gpt2")
        assert done.returncode == 0 and "finished: models/from-hub" in done.stderr, done.stderr
        assert RunConfig.load(tmp_path / "models/from-hub/run.json").init_from == f"hf://openai-community/gpt2@{commit}"
        wrong = train("someone/nothing")
        assert wrong.returncode == 2
        assert (
            "someone/nothing is no run or folder here, and the hub has none of that name, or it is private."
            in wrong.stderr
        )
        hub.commit("model", "openai-community/gpt2", "main", {"config.json": b"{}"})
        again = train(f"hf://openai-community/gpt2@{commit}")  # as the card has it: what the name meant then
        assert again.returncode == 0 and "finished already" in again.stderr, again.stderr
    nothing = train("gpt2-xl", HF_HUB_OFFLINE="1")
    assert nothing.returncode == 2
    assert "openai-community/gpt2-xl is no run or folder here, and the hub is out of reach." in nothing.stderr
    assert len(nothing.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "llama"}, "model_type llama"),
        ({"activation_function": "relu"}, "activation_function relu"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx True"),
        ({"n_layer": 1}, "2 blocks, where config.json has 1"),
        ({"n_layer": 3}, "2 blocks, where config.json has 3"),
    ],
)
def test_what_is_no_plain_gpt2_is_refused(exported, tmp_path, change, says):
    record = json.loads((exported / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(record))
    shutil.copy(exported / "model.safetensors", tmp_path)
    with pytest.raises(RunError, match=says):
        read_pretrained("models", str(tmp_path))


@pytest.mark.slow
def test_a_run_remembers_whose_text_its_weights_had_seen(house, at_house, tmp_path):
    assert at_house(f"train --init_from r --run younger --fresh {MORE}") == 0
    run = RunConfig.load(house / "models/younger/run.json")
    assert run.init_name == "r" and run.init_source == RunConfig.load(house / "models/r/run.json").source
    assert at_house(f"export --run younger --folder {tmp_path}/out") == 0
    assert at_house(f"train --init_from {tmp_path}/out --run youngest --fresh {MORE}") == 0  # an export tells it on
    youngest = RunConfig.load(house / "models/youngest/run.json")
    assert youngest.init_source == run.source + run.init_source
    assert at_house(f"export --run youngest --folder {tmp_path}/out") == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "license: cc-by-sa-4.0" in card and "--init_from PATH/TO/out " in card


def test_a_folder_that_lacks_a_part_is_refused(at_house, tmp_path):
    assert at_house(f"export --run r --folder {tmp_path}/out --max_shard_size 40KB") == 0
    next((tmp_path / "out").glob("model-00002*")).unlink()
    with pytest.raises(RunError, match="holds no readable model"):
        read_pretrained("models", str(tmp_path / "out"))
