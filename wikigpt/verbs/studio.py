"""`wikigpt studio`"""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from shlex import quote

import tyro
from loguru import logger

from wikigpt.errors import ConfigError
from wikigpt.verbs.common import Common, Outcome, Settings

SHORTEST = 16  # characters of a token


@dataclass
class Studio:
    """Watch runs train, talk to them and look inside, in the browser; with an OpenAI-compatible API at /v1."""

    host: str = "127.0.0.1"
    """where to listen; others reach 0.0.0.0, and then it takes a --token"""
    port: int = 8000
    """0: any that is free"""
    token: str | None = None
    """what whoever asks must know; better in the environment, as WIKIGPT_TOKEN, where other users do not see it"""
    device: str | None = None
    """cpu, cuda or mps; the best there is unless given"""
    threads: int | None = None
    """of a CPU; half of its cores unless given, so that training goes on"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        for name in ("fastapi", "uvicorn"):
            if find_spec(name) is None:
                raise ConfigError(
                    f"wikigpt studio needs {name}.", f"Run: {quote(sys.executable)} -m pip install fastapi uvicorn"
                )
        from wikigpt.studio.server import address, listen, server_of

        token = self._token()
        opened = listen(self.host, self.port)
        with opened:
            import torch

            from wikigpt import hardware
            from wikigpt.studio.app import make_app
            from wikigpt.studio.engine import Engine

            device = hardware.choose_device(self.device)
            torch.set_num_threads(self.threads or max(1, hardware.physical_cores() // 2))
            where = address(opened, self.host)
            said = f"studio: {where}/" + (f"?token={token}" if token else "") + "   (Ctrl-C ends it)"
            hosts = (self.host,) if self.host not in ("0.0.0.0", "::") else ()
            app = make_app(Engine(device, settings.MODEL_DIR), settings.DATAFOLDER, token, hosts)
            logger.info(said)
            with suppress(KeyboardInterrupt):  # the way to end it
                server_of(app).run(sockets=[opened])
        return Outcome({"address": where})

    def _token(self) -> str | None:
        """Raises ConfigError where one is needed and there is none."""
        from wikigpt.studio.guard import is_loopback

        token = self.token if self.token is not None else os.environ.get("WIKIGPT_TOKEN") or None
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads is {self.threads}.", "Give 1 or more.")
        if not 0 <= self.port < 2**16:
            raise ConfigError(f"port is {self.port}.", "Give 0 to 65535.")
        if token is None and not is_loopback(self.host):
            fix = f"Set WIKIGPT_TOKEN to {SHORTEST} characters or more that nobody guesses, or leave out --host."
            raise ConfigError(f"Others reach {self.host}, and there is no token.", fix)
        if token is not None and not (len(token) >= SHORTEST and token.isascii() and token.isalnum()):
            raise ConfigError("The token is too easily guessed.", f"Take {SHORTEST} or more letters and digits.")
        return token
