"""Two finished runs and their data, a client that asks the app itself, and a real server on loopback."""

import pytest
from helpers import training_command, wikigpt
from on_loopback import running
from starlette.testclient import TestClient

from wikigpt.studio.app import make_app
from wikigpt.studio.engine import Engine

MODERN = "--arch qwen3 --qkv_bias False --n_heads 4 --n_kv_heads 2 --head_dim 16 --n_layers 2 --drop_rate 0"


@pytest.fixture(scope="session")
def house(data, tmp_path_factory):
    """A folder with the runs `g` (GPT-2's shape) and `m` (modern)."""
    folder = tmp_path_factory.mktemp("studio")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, flags in (("g", "--n_layers 2"), ("m", MODERN)):
            assert (
                wikigpt(
                    f"{training_command('')} {flags} --run {name} --keep_every 6 --learning_rate 2e-2", data.path.parent
                )
                == 0
            )
    return folder


@pytest.fixture
def engine(house) -> Engine:
    return Engine("cpu", str(house / "models"))


@pytest.fixture
def app(engine, data):
    return make_app(engine, str(data.path.parent))


@pytest.fixture
def client(app) -> TestClient:
    return TestClient(app, base_url="http://localhost:8000")


@pytest.fixture
def served(app):
    with running(app) as there:
        yield there
