"""Finished runs that several tests publish: with an own BPE, with GPT-2's vocabulary, and modern ones."""

import shutil

import pytest
from helpers import wikigpt

FLAGS = "--emb_dim 32 --n_heads 2 --context_length 64 --batch_size 8 --learning_rate 2e-2 --threads 2"
MODERN = "--arch qwen3 --qkv_bias False --n_kv_heads 1 --head_dim 24 --optimizer muon --zero_init True"
LENGTH = "--decay_share 0.2 --max_steps 30 --eval_tokens 500 --eval_every 30"


@pytest.fixture(scope="session")
def house(data, tmp_path_factory):
    """A folder with the runs `r` (Spanish, own BPE), `g` (English, GPT-2's vocabulary), `m` (as `r`, modern, so with rows
    that pad), `u` (as `m`, with a head of its own), and the export of `r`."""
    folder = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train = f"train --model_config tiny --training_setting small_models {LENGTH} {FLAGS}"
        assert wikigpt(f"{train} --run r", data.path.parent) == 0
        assert wikigpt(f"{train} {MODERN} --run m", data.path.parent) == 0
        assert wikigpt(f"{train} {MODERN} --tie_embeddings False --run u", data.path.parent) == 0
        english = "prepare --source sample --wiki en --tokenizer gpt2 --max_articles 400"
        assert wikigpt(english, folder / "dataset") == 0
        assert wikigpt(f"{train} --run g", folder / "dataset") == 0
        assert wikigpt("export --run r", data.path.parent) == 0
    return folder


@pytest.fixture(scope="session")
def exported(house):
    return house / "exports" / "r"


@pytest.fixture(autouse=True)
def as_it_was(request):
    """Whatever a test exports over it, the next one finds the plain export."""
    if "house" not in request.fixturenames:
        yield
        return
    folder, plain = request.getfixturevalue("exported"), request.getfixturevalue("plain")
    yield
    if not folder.exists() or {path.name: path.read_bytes() for path in folder.iterdir()} != plain:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in plain.items():
            (folder / name).write_bytes(content)


@pytest.fixture(scope="session")
def plain(exported):
    return {path.name: path.read_bytes() for path in exported.iterdir()}


@pytest.fixture
def at_house(house, plain, data, monkeypatch):
    """Runs a command in the house; returns its exit code."""
    monkeypatch.chdir(house)
    return lambda command: wikigpt(command, data.path.parent)
