"""What all verbs share: three flags, and what they hand back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

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


class Outcome(NamedTuple):
    """What --json prints, and the exit code."""

    record: dict[str, Any]
    code: int = 0
