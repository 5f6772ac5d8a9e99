"""Two finished runs and their data, a client that asks the app itself, and a real server on loopback."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from helpers import training_command, wikigpt
from starlette.testclient import TestClient

from wikigpt.studio import server
from wikigpt.studio.app import make_app
from wikigpt.studio.engine import Engine, Loaded

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


def load(engine: Engine, name: str, checkpoint: str = "latest") -> Loaded:
    """A checkpoint as a request gets it."""
    return engine.load(*engine.find(name, checkpoint))


@contextmanager
def running(app) -> Iterator[SimpleNamespace]:
    """A real server in a thread of its own: its address, its port, and how many are connected."""
    opened = server.listen("127.0.0.1", 0)
    served = server.server_of(app)
    thread = threading.Thread(target=lambda: asyncio.run(served.serve(sockets=[opened])), daemon=True)
    thread.start()
    port = opened.getsockname()[1]
    try:
        yield SimpleNamespace(
            url=f"http://127.0.0.1:{port}", port=port, connections=lambda: len(served.server_state.connections)
        )
    finally:
        served.should_exit = True
        thread.join(10)
        opened.close()
        assert not thread.is_alive()


@pytest.fixture
def served(app):
    with running(app) as there:
        yield there
