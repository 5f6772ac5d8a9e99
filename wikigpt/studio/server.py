"""Listens, and says where.

host, port ──> socket ──> uvicorn ──> app
"""

import asyncio
import socket
import sys
from asyncio import TimerHandle

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from wikigpt.errors import ConfigError

STALLED = 20.0  # seconds for which a reader may take nothing of what waits for it
IDLE = 10  # seconds that a connection without a request is kept
UNSENT = 2**18  # bytes that the kernel keeps of an answer: of megabytes nobody would see for long whether they are read
CONNECTIONS = 256  # at once; from there on the answer is 503


class Protocol(H11Protocol):
    """HTTP as uvicorn speaks it. Who takes nothing of a full buffer for long is dropped, and so is who connects and asks
    nothing. asyncio says when the buffer is full (`pause_writing`) and when it is not any more; nothing is added between."""

    _timer: TimerHandle | None = None
    _silence: TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def pause_writing(self) -> None:
        self._look_again(self.transport.get_write_buffer_size())
        super().pause_writing()

    def resume_writing(self) -> None:
        if not self.transport.is_closing():
            self._stop()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        if self._silence is not None:
            self._silence.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()  # closes when all is sent, which may be never
        self._look_again(self.transport.get_write_buffer_size())

    def _expect(self) -> None:
        """From here on there is IDLE for the whole head of a request, however its parts come."""
        if self._silence is None and not self._at_work:
            self._silence = self.loop.call_later(IDLE, self._drop_the_silent, self.cycle)

    @property
    def _at_work(self) -> bool:
        answering = self.cycle is not None and not self.cycle.response_complete
        return answering or self.transport.get_write_buffer_size() > 0

    def _drop_the_silent(self, before: object) -> None:
        self._silence = None
        if self.cycle is before and not self._at_work:  # not even the head of another request has come
            self.transport.abort()
        else:
            self._expect()

    def _look_again(self, waiting: int) -> None:
        self._stop()
        self._timer = self.loop.call_later(STALLED, self._drop_the_stalled, waiting)

    def _drop_the_stalled(self, before: int) -> None:
        waiting = self.transport.get_write_buffer_size()
        if 0 < waiting < before:
            self._look_again(waiting)
        else:
            self.transport.abort()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def listen(host: str, port: int) -> socket.socket:
    """Raises ConfigError where that cannot be; port 0 is any that is free."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, number)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT)
        try:
            if sys.platform != "win32":  # elsewhere it lets two servers share a port
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
            opened.listen(128)
        except OSError:
            opened.close()
            raise
        return opened
    except (OSError, OverflowError, UnicodeError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{host}, port {port}: {said}.", "Give another --port (0: any that is free) or --host."
        ) from error


def address(opened: socket.socket, host: str) -> str:
    """Where a browser finds it."""
    port = opened.getsockname()[1]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_of(app: ASGIApp) -> uvicorn.Server:
    """HTTP around an app; nothing that is asked is logged."""
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)
