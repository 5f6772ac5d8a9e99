"""A real server on loopback, and a checkpoint as a request gets it."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from wikigpt.studio import server
from wikigpt.studio.engine import Engine, Loaded


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
