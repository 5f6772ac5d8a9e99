"""The front desk: flags become dataclasses (tyro), our errors become one line with a fix, and logging is set up here."""

import io
import os
import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Annotated

import tyro
from loguru import logger

import wikigpt
from wikigpt import config as defaults
from wikigpt.demo import Demo
from wikigpt.errors import WikiGPTError
from wikigpt.verbs import Evaluate, Generate, Prepare, Train

Verb = (
    Annotated[Prepare, tyro.conf.subcommand("prepare")]
    | Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Generate, tyro.conf.subcommand("generate")]
    | Annotated[Demo, tyro.conf.subcommand("demo")]
)


def main(arguments: Sequence[str], settings: ModuleType | SimpleNamespace = defaults, program: str = "wikigpt") -> int:
    """Runs one verb; `settings` holds MODEL_CONFIGS, TRAINING_SETTINGS, DATAFOLDER and MODEL_DIR. Returns the exit code:
    0, or 2 for a mistake of the user, 130 after Ctrl-C, 141 where the reader of our output went away."""
    logger.remove()
    # Through sys.stderr as it is at that moment: the live view of training puts itself in its place.
    logger.add(
        lambda line: print(line, end="", file=sys.stderr),
        format="<level>{message}</level>",
        colorize=_colour(),
        level="INFO",
    )
    if isinstance(
        sys.stdout, io.TextIOWrapper
    ):  # what a terminal cannot show, or half a character, is no reason to fail
        sys.stdout.reconfigure(errors="replace")
    if list(arguments) == ["--version"]:
        print(f"wikigpt {wikigpt.__version__}")
        return 0
    description = "Pre-train a GPT from scratch on Wikipedia: prepare, train, evaluate, generate."
    verb = tyro.cli(Verb, args=list(arguments), prog=program, description=description, use_underscores=True)
    try:
        code: int = verb(settings)
        sys.stdout.flush()
        return code
    except WikiGPTError as error:
        logger.error(f"{error.problem} {error.fix}")
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more when it ends
        return 141


def _colour() -> bool:
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ


def entry() -> None:
    """The `wikigpt` command."""
    sys.exit(main(sys.argv[1:]))
