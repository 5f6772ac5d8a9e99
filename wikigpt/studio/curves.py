"""metrics.jsonl as columns, read on from where it was read last: what the dashboard draws.

metrics.jsonl ──> Curves ──> bytes: a head as JSON, then columns of float64          the end of it ──> where a run stands

A run of 100,000 steps has 35 MB of rows; what comes new within a second is a few hundred bytes.
"""

import json
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby, pairwise
from pathlib import Path
from secrets import token_hex
from typing import Any

from pydantic_core import from_json

from wikigpt.metrics import METRICS

SPENT = ("step", "tokens", "flops", "seconds")
TRAIN = (*SPENT, "loss", "learning_rate", "grad_norm", "tokens_per_second", "mfu", "memory")
VALIDATION = (*SPENT, "loss", "bits_per_byte", "bigram_bits_per_byte")
MOST = 200_000  # rows that are sent; of more every second, fourth, ... one
TAIL, LONGEST_TAIL = 2**17, 2**23  # bytes from the end, in which the newest rows are looked for
NUMBERS, NOTHING = (int, float), float("nan")


class Columns:
    """Rows by step, column by column; of each step the last that came."""

    def __init__(self, names: Sequence[str]) -> None:
        self.by_name = {name: array("d") for name in names}
        self.steps = self.by_name["step"]

    def put(self, rows: list[dict[str, Any]]) -> bool:
        """Whether all came behind what was there, in order."""
        steps = [*self.steps[-1:], *(row["step"] for row in rows)]
        if all(one < next_ for one, next_ in pairwise(steps)):
            for name, column in self.by_name.items():
                column.extend([_number(row.get(name)) for row in rows])
            return True
        for row in rows:
            place = bisect_left(self.steps, row["step"])
            there = place < len(self.steps) and self.steps[place] == row["step"]
            for name, column in self.by_name.items():
                column[place : place + there] = array("d", [_number(row.get(name))])
        return False

    def cut(self, step: float) -> bool:
        """Drops what came after a step; whether there was any."""
        place = bisect_left(self.steps, step + 0.5)
        there = place < len(self.steps)
        for column in self.by_name.values():
            del column[place:]
        return there


def _number(value: Any) -> float:
    return value if value.__class__ in NUMBERS else NOTHING


class Curves:
    """All that a run has measured. `version` changes where rows that were there before went or changed: a run that was begun
    anew, or resumed from an earlier step. The same rows count as in `metrics.read_all`."""

    def __init__(self, run: Path) -> None:
        self.path, self.version, self._name = run / METRICS, 0, token_hex(4)
        self._forget()

    def _forget(self) -> None:
        self.train, self.validation = Columns(TRAIN), Columns(VALIDATION)
        self._read, self._end = 0, b""

    def update(self) -> None:
        """Reads what is new. A row that is not written to its end is left for the next time."""
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(max(0, self._read - len(self._end)))
            if file.read(len(self._end)) != self._end:  # another file under the same name
                file.seek(0)
                self._forget()
                self.version += 1
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        self._end = (self._end + whole)[-200:]
        for kind, rows in groupby(_rows(whole.splitlines()), lambda row: row.get("kind")):
            self.version += self._take(kind, list(rows))

    def _take(self, kind: Any, rows: list[dict[str, Any]]) -> bool:
        """Whether something that was there before is not there any more, or is another."""
        if kind == "start":
            step = min(row["step"] for row in rows)
            return any([self.train.cut(step), self.validation.cut(step)])
        if kind == "train":
            return not self.train.put(rows)
        if kind == "validation":
            return not self.validation.put([row | self._spent(row["step"]) for row in rows])
        return False

    def _spent(self, step: int) -> dict[str, float]:
        """What had been spent when a step was evaluated: its row comes before."""
        place = bisect_left(self.train.steps, step)
        if place < len(self.train.steps) and self.train.steps[place] == step:
            return {name: self.train.by_name[name][place] for name in ("flops", "seconds")}
        return {"flops": 0.0, "seconds": 0.0} if step == 0 else {}

    @property
    def every(self) -> int:
        """Of how many rows one is sent: a power of two."""
        return 1 << max(0, (len(self.train.steps) - 1) // MOST).bit_length()

    @property
    def key(self) -> str:
        """While it stays the same, rows have only been added."""
        return f"{self._name}-{self.version}-{self.every}"

    def packed(self, key: str = "", rows: int = 0) -> bytes:
        """Training rows from `rows` on where the key is still the same, else all; and all evaluations. A head as JSON (its
        length first, four bytes), then the columns."""
        start = rows if key == self.key and 0 <= rows <= len(self.train.steps) else 0
        first = -(-start // self.every) * self.every
        train = [column[first :: self.every] for column in self.train.by_name.values()]
        validation = list(self.validation.by_name.values())
        head = {
            "key": self.key,
            "start": start,
            "rows": len(self.train.steps),
            "every": self.every,
            "train": {"columns": TRAIN, "rows": len(train[0])},
            "validation": {"columns": VALIDATION, "rows": len(validation[0])},
        }
        words = json.dumps(head).encode()
        words += b" " * (-(4 + len(words)) % 8)  # float64 begins at a multiple of 8
        return len(words).to_bytes(4, "little") + words + b"".join(map(_bytes, (*train, *validation)))

    def csv(self) -> str:
        """Every training row."""
        columns = [column.tolist() for column in self.train.by_name.values()]
        whole = {"step", "tokens", "memory"}
        lines = [",".join(TRAIN)]
        for values in zip(*columns, strict=True):
            lines.append(",".join(_cell(value, name in whole) for name, value in zip(TRAIN, values, strict=True)))
        return "\n".join(lines) + "\n"


def _cell(value: float, whole: bool) -> str:
    if value != value:
        return ""
    return str(int(value)) if whole else repr(value)


def _bytes(column: "array[float]") -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()


def newest_rows(run: Path) -> dict[str, dict[str, Any]]:
    """The newest row of each kind, looked for from the end of the file until there is an evaluation among them."""
    path, size = run / METRICS, TAIL
    found: dict[str, dict[str, Any]] = {}
    while path.exists():
        with open(path, "rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - size))
            found = _newest(_rows(file.read().splitlines()))
        if size >= min(end, LONGEST_TAIL) or {"validation", "final"} & found.keys():
            break
        size *= 4
    return found


def _newest(rows: Iterator[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        kind = str(row.get("kind"))
        if kind == "start":
            found = {kind: kept for kind, kept in found.items() if kept["step"] <= row["step"]}
        else:
            found[kind] = row
    return found


def _rows(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    """Rows with a step. A line that a kill cut off is passed over."""
    for line in lines:
        with suppress(ValueError):
            row = from_json(line)  # twice as fast as json.loads
            if isinstance(row, dict) and isinstance(row.get("step"), int) and 0 <= row["step"] < 2**53:
                yield row
