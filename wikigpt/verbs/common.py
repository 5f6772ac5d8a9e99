"""What all verbs share: three flags, the names that folders can have, and what a verb hands back."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from wikigpt.errors import ConfigError

Settings = Any  # a module or namespace with MODEL_CONFIGS, TRAINING_SETTINGS, DATAFOLDER and MODEL_DIR


@dataclass
class Common:
    """Flags of every command."""

    json: bool = False
    """one JSON object on the standard output; all that is said goes to the standard error"""
    config: Path | None = None
    """a Python file with MODEL_CONFIGS, TRAINING_SETTINGS, DATAFOLDER or MODEL_DIR, as the scripts' config.py"""
    debug: bool = False
    """show where in the code an error came from"""


def colour_on(stream: TextIO) -> bool:
    """Whether colours are welcome there."""
    return stream.isatty() and "NO_COLOR" not in os.environ


def expanded(patterns: Sequence[str], endings: Sequence[str] = ()) -> list[Path]:
    """Files that are named, wildcards too; of a folder, those with such endings (the folder itself where there are none)."""
    found = []
    for pattern in patterns:
        paths = [Path(pattern)] if Path(pattern).exists() else [Path(path) for path in sorted(glob(pattern))]
        for path in paths or [Path(pattern)]:
            inside = sorted(file for end in endings for file in path.glob(f"*{end}")) if path.is_dir() else []
            found += inside or [path]
    return found


def check_name(name: str, flag: str, without: str = "") -> None:
    """Raises ConfigError where a folder of ours cannot be called so: it would lie elsewhere, be hidden, or (`without`) mean
    something else where it is named."""
    readable = name.encode(errors="replace").decode() == name
    if Path(name).name != name or name.startswith(".") or not name.strip() or set(name) & set(without) or not readable:
        signs = ", ".join(["slashes", *map(repr, without)])
        raise ConfigError(f"{name!r} cannot name a folder.", f"Give a name with {flag}: no {signs}, no dot in front.")


class Outcome(NamedTuple):
    """What --json prints, and the exit code."""

    record: dict[str, Any]
    code: int = 0
