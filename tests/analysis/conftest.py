"""A finished run, its export, and a model that has read a little text so often that it knows it by heart."""

import pytest
from helpers import training_command, wikigpt


@pytest.fixture(scope="session")
def house(data, tmp_path_factory):
    """A folder with the runs `r` (GPT-2's shape) and `m` (modern), and their exports."""
    folder = tmp_path_factory.mktemp("inspected")
    modern = "--arch qwen3 --qkv_bias False --n_heads 4 --n_kv_heads 2 --head_dim 16 --n_layers 2 --drop_rate 0"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, flags in (("r", "--n_layers 2"), ("m", modern)):
            assert wikigpt(f"{training_command('')} {flags} --run {name} --learning_rate 2e-2", data.path.parent) == 0
            assert wikigpt(f"export --run {name}", data.path.parent) == 0
    return folder


@pytest.fixture
def at_house(house, data, monkeypatch):
    """Runs a command in the house; returns its exit code."""
    monkeypatch.chdir(house)
    return lambda command: wikigpt(command, data.path.parent)
