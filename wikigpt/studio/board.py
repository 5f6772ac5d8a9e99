"""The dashboard: which runs there are and where they stand, their curves, samples and settings, live.

models/ ──> Board ──> /api/runs, /api/live          models/<run>/ ──> /api/runs/<run>, .../curves
"""

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from wikigpt.analysis.compare import compare
from wikigpt.config import flat
from wikigpt.errors import ConfigError, RunError
from wikigpt.evaluate.kept import read_ladder, read_step
from wikigpt.metrics import METRICS
from wikigpt.report import read_samples
from wikigpt.runs import Run, checkpoints, is_locked, read_run, step_of
from wikigpt.studio.asked import sse
from wikigpt.studio.curves import Curves, newest_rows
from wikigpt.studio.engine import Engine

FRESH = 0.9  # seconds for which the list is not looked up again, whoever asks
SILENCE = 15.0  # seconds after which a live stream says that it is still there
SEVERAL = 12  # runs that are compared at once
SAMPLES = 200  # steps of samples that are shown, the first and the newest among them


class Board:
    """Reads run folders, and remembers what has not changed since."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._lock = engine, threading.Lock()
        self._curves: dict[Path, Curves] = {}
        self._newest: dict[Path, tuple[int, dict[str, dict[str, Any]]]] = {}
        self._listed: tuple[float, list[dict[str, Any]]] = (0.0, [])

    def runs(self) -> list[dict[str, Any]]:
        """All runs, those that train first, then the newest."""
        with self._lock:
            when, found = self._listed
            if time.monotonic() - when > FRESH:
                paths = [self._engine.model_dir / name for name in self._engine.names()]
                found = sorted(map(self._row, paths), key=_rank)
                self._listed = (time.monotonic(), found)
                for kept in (self._curves, self._newest):
                    for path in set(kept) - set(paths):  # they are gone
                        del kept[path]
            return found

    def _row(self, path: Path) -> dict[str, Any]:
        row: dict[str, Any] = {"name": path.name, "changed": _changed(path)}
        try:
            return row | self._standing(read_run(path))
        except RunError as error:
            return row | {"state": "unreadable", "problem": error.problem}
        except Exception as error:  # whatever stands in its files, the others are shown
            return row | {"state": "unreadable", "problem": f"{type(error).__name__}: {error}"}

    def _standing(self, run: Run) -> dict[str, Any]:
        config, newest = run.config, self._newest_rows(run.path)
        train, score = newest.get("train", {}), newest.get("final") or newest.get("validation") or {}
        step, seconds = max(run.step, train.get("step", 0)), _number(train.get("seconds"))
        state = "finished" if run.finished else "training" if is_locked(run.path) else "stopped"
        left = (config.total_steps - step) * seconds / train["step"] if seconds and train.get("step") else None
        return {
            "state": state,
            "step": step,
            "saved": run.step,
            "total_steps": config.total_steps,
            "tokens": step * config.tokens_per_step,
            "model_config": config.model_config,
            "data": config.data_name,
            "parameters": config.model.n_parameters,
            **{name: _number(train.get(name)) for name in ("loss", "tokens_per_second", "mfu", "memory")},
            "bits_per_byte": _number(score.get("bits_per_byte")),
            "seconds_left": left if state == "training" else None,
        }

    def _newest_rows(self, path: Path) -> dict[str, dict[str, Any]]:
        changed = _changed(path)
        if self._newest.get(path, (0,))[0] != changed:
            self._newest[path] = (changed, newest_rows(path))
        return self._newest[path][1]

    def curves(self, run: Run) -> Curves:
        """Up to this moment."""
        with self._lock:
            found = self._curves.setdefault(run.path, Curves(run.path))
            found.update()
            return found

    def csv(self, run: Run) -> str:
        """As `Curves.csv`."""
        found = self.curves(run)
        with self._lock:
            return found.csv()

    def packed(self, run: Run, key: str, rows: int) -> bytes:
        """As `Curves.packed`."""
        found = self.curves(run)
        with self._lock:
            return found.packed(key, rows)


def _rank(row: dict[str, Any]) -> tuple[bool, int, str]:
    """Runs that train come first, in a fixed order though they change all the time; then the newest."""
    training = row["state"] == "training"
    return not training, 0 if training else -row["changed"], row["name"]


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _changed(run: Path) -> int:
    """When a run's figures last changed, in nanoseconds."""
    for name in (METRICS, "run.json"):
        if (run / name).exists():
            return (run / name).stat().st_mtime_ns
    return 0


def router(engine: Engine) -> APIRouter:
    """What the dashboard asks for."""
    api, board = APIRouter(prefix="/api", tags=["runs"]), Board(engine)

    @api.get("/runs")
    def runs() -> dict[str, Any]:
        """All runs and where they stand."""
        return {"runs": board.runs(), "folder": str(engine.model_dir)}

    @api.get("/live", response_class=StreamingResponse)
    async def live() -> StreamingResponse:
        """The same as server-sent events: at once, and whenever something has changed."""
        return StreamingResponse(_live(board), media_type="text/event-stream")

    @api.get("/compare")
    def compared(run: Annotated[list[str], Query(max_length=SEVERAL)]) -> dict[str, Any]:
        """Runs side by side: what they cost, how good they became, the settings in which they differ."""
        names = list(dict.fromkeys(run))
        if len(names) < 2:
            raise ConfigError(f"{len(names)} run was named.", "Name two or more, each with run=NAME.")
        return asdict(compare([engine.run(name) for name in names]))

    @api.get("/runs/{name}")
    def one(name: str) -> dict[str, Any]:
        """Settings, checkpoints, what it wrote, and what was measured of it."""
        run = engine.run(name)
        samples = read_samples(run.path / "samples.md")
        settings = {k: v for k, v in flat(asdict(run.config)).items() if k not in ("source", "init_source")}
        return {
            "name": run.name,
            "settings": settings,
            "source": [{k: part.get(k, "") for k in ("name", "origin", "licence")} for part in run.config.source],
            "checkpoints": [step_of(path) for path in checkpoints(run.path)],
            "has_best": (run.path / "best").exists(),
            "samples": samples if len(samples) <= SAMPLES else samples[:1] + samples[1 - SAMPLES :],
            "evaluation": read_step(run.path),
            "ladder": read_ladder(run.path),
        }

    @api.get("/runs/{name}/curves")
    async def curves(name: str, key: str = "", rows: int = 0) -> Response:
        """Its measurements as columns of float64, little-endian, behind a head as JSON (its length first, four bytes).
        With the key and the number of rows of an earlier answer, only what is new."""
        run = await run_in_threadpool(engine.run, name)
        return Response(await run_in_threadpool(board.packed, run, key, rows), media_type="application/octet-stream")

    @api.get("/runs/{name}/curves.csv")
    def csv(name: str) -> PlainTextResponse:
        """Every training step as comma-separated values."""
        headers = {"content-disposition": 'attachment; filename="curves.csv"'}
        return PlainTextResponse(board.csv(engine.run(name)), headers=headers, media_type="text/csv")

    return api


async def _live(board: Board) -> AsyncIterator[str]:
    seen, said = None, 0.0
    while True:
        runs = await run_in_threadpool(board.runs)
        if runs != seen:
            seen, said = runs, time.monotonic()
            yield sse({"runs": runs})
        elif time.monotonic() - said > SILENCE:
            said = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(1.0)
