"""The front desk: flags become dataclasses (tyro), errors become one line with a fix, and logging is set up here."""

import dataclasses
import difflib
import errno
import io
import json
import os
import re
import runpy
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any, Union

import tyro
from loguru import logger

import wikigpt
from wikigpt import config as defaults
from wikigpt.demo import Demo
from wikigpt.errors import ConfigError, WikiGPTError, out_of_memory
from wikigpt.verbs import (
    DataExtract,
    DataShow,
    DataStats,
    Evaluate,
    Export,
    Generate,
    Learn,
    LearnCheck,
    LearnHint,
    LearnStart,
    Plan,
    Prepare,
    Runs,
    RunsCompare,
    RunsInspect,
    Studio,
    Train,
)
from wikigpt.verbs.common import colour_on

VERBS: dict[str, Any] = {
    "prepare": Prepare,
    "train": Train,
    "evaluate": Evaluate,
    "generate": Generate,
    "export": Export,
    "plan": Plan,
    "runs": Runs,
    "runs compare": RunsCompare,
    "runs inspect": RunsInspect,
    "data extract": DataExtract,
    "data stats": DataStats,
    "data show": DataShow,
    "studio": Studio,
    "learn": Learn,
    "learn start": LearnStart,
    "learn check": LearnCheck,
    "learn hint": LearnHint,
    "demo": Demo,
}
Verb = Union[tuple(Annotated[verb, tyro.conf.subcommand(name)] for name, verb in VERBS.items())]  # type: ignore[valid-type]  # noqa: UP007
DESCRIPTION = "Pre-train a GPT from scratch on Wikipedia: prepare, train, evaluate, generate, export."


def main(arguments: Sequence[str], settings: ModuleType | SimpleNamespace = defaults, program: str = "wikigpt") -> int:
    """Runs one verb; `settings` holds MODEL_CONFIGS, TRAINING_SETTINGS, DATAFOLDER and MODEL_DIR. Returns the exit code:
    0, or 2 for a mistake of the user, 1 for one of ours, 130 after Ctrl-C, 141 where the reader of our output went away."""
    logger.remove()
    # Through sys.stderr as it is at that moment: the live view of training puts itself in its place.
    logger.add(
        lambda line: print(line, end="", file=sys.stderr),
        format="<level>{message}</level>",
        colorize=colour_on(sys.stderr),
        level="INFO",
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a terminal cannot show, or half a character, is no reason to fail.
        sys.stdout.reconfigure(errors="replace")
    if list(arguments) == ["--version"]:
        print(f"wikigpt {wikigpt.__version__}")
        return 0
    as_json, debug = "--json" in arguments, "--debug" in arguments
    if os.environ.get("LOCAL_RANK", "0") != "0":  # what every process of a machine meets is said once (parallel.joined)
        logger.remove()
        as_json = False
    try:
        verb = _parse(_verb_first(list(arguments)), program)
        path = verb.common.config
        record, code = verb(settings if path is None else read_settings(path))
        if as_json and record:  # of several ranks the first has one
            print(json.dumps(record))
        sys.stdout.flush()
        return int(code)
    except KeyboardInterrupt:
        logger.warning("stopped")
        if as_json:
            print(json.dumps({"error": "stopped", "fix": "Run the same command again."}), flush=True)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more when it ends
        return 141
    except Exception as error:
        if debug:
            traceback.print_exc()
        problem, fix = explain(error)
        logger.error("{}", f"{problem} {fix}")
        if as_json:
            with suppress(BrokenPipeError):
                print(json.dumps({"error": problem, "fix": fix}), flush=True)
        return 2 if isinstance(error, WikiGPTError | OSError | MemoryError) or out_of_memory(error) else 1


def explain(error: Exception) -> tuple[str, str]:
    """What is wrong and what to do, for any error."""
    if isinstance(error, WikiGPTError):
        return error.problem, error.fix
    if isinstance(error, MemoryError) or out_of_memory(error):
        fix = "Take a smaller --batch_size with more --gradient_accumulation_steps, or a smaller model."
        return "There is not enough memory.", fix
    if isinstance(error, OSError):
        said = error.strerror or str(error)
        place = f" ({error.filename})" if error.filename else ""
        if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            fix = "Free some space; then the same command (without --fresh) goes on from what was last saved."
            return f"The disk is full or the file too large: {said}{place}.", fix
        return f"{said}{place}.", "Check the path and its permissions."
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"This should not have happened: {what}.", "Please report it, with what --debug shows."


def _verb_first(arguments: list[str]) -> list[str]:
    """The flags of every command may also stand before the verb."""
    early: list[str] = []
    for place in (0, 1):  # before the first word, and between two
        while len(arguments) > place and arguments[place].split("=")[0] in ("--json", "--debug", "--config"):
            size = 2 if arguments[place] == "--config" else 1
            early, arguments[place : place + size] = early + arguments[place : place + size], []
        if arguments[:1] not in (["data"], ["runs"], ["learn"]):
            break
    words = 2 if arguments[:1] == ["data"] or " ".join(arguments[:2]) in VERBS else 1
    return arguments[:words] + early + arguments[words:]


def _parse(arguments: list[str], program: str) -> Any:
    """tyro explains a wrong flag in a box of many lines; of it one is enough. Raises ConfigError."""
    said = io.StringIO()
    words = next((n for n in (2, 1) if " ".join(arguments[:n]) in VERBS), 0)
    verb = " ".join(arguments[:words])
    command = f"{program} {verb}".strip() if program == "wikigpt" else program  # a script is one verb
    try:
        with redirect_stderr(said):
            if verb:  # one parser is made faster than all
                return tyro.cli(VERBS[verb], args=arguments[words:], prog=command, use_underscores=True)
            return tyro.cli(  # type: ignore[call-overload]
                Verb, args=arguments, prog=program, description=DESCRIPTION, use_underscores=True
            )
    except SystemExit as stop:
        if not stop.code:  # --help
            raise
    problem = _first_paragraph(said.getvalue())
    help_line = f"See: {command} --help"
    if value := re.match(r"Error parsing (--\S+): .* instantiated from \['(.*)'\]", problem):
        kinds = "a whole number" if "INT" in problem else "a number" if "FLOAT" in problem else "such a value"
        raise ConfigError(f"{value[1]} cannot be {value[2]!r}.", f"Give {kinds}. {help_line}")
    inner = [name for name in VERBS if name.startswith(f"{arguments[0]} ")] if arguments else []
    if inner and (not verb or (verb == arguments[0] and len(arguments) > 1 and not arguments[1].startswith("-"))):
        wrong = f"{arguments[0]} what?" if not verb else f"There is no {' '.join(arguments[:2])!r}."
        raise ConfigError(wrong, f"Take one of {', '.join([verb, *inner] if verb else inner)}. {help_line}")
    if not verb and (not arguments or arguments[0].startswith("-")):
        raise ConfigError("No command was given.", f"Take one of {', '.join(VERBS)}. {help_line}")
    if unknown := re.match(r"Unrecognized options: (\S+?)(,|$)", problem):
        raise ConfigError(
            f"There is no {'flag' if verb else 'command'} {unknown[1]!r}.", _nearest(unknown[1], verb, help_line)
        )
    raise ConfigError(problem, help_line)


def _first_paragraph(box: str) -> str:
    """What stands in tyro's box between its title and the next rule; drawn with lines or, on some terminals, dashes."""
    sections: list[list[str]] = [[]]
    for line in (line.strip("│| ") for line in box.splitlines()):
        if re.match("[╭╰]|[─-]{4}", line):  # with lines, the title is part of the upper edge
            sections.append([])
        elif line and not line.startswith(("Got errors", "- ")):
            sections[-1].append(line)
    paragraphs = [" ".join(section) for section in sections if section]
    return paragraphs[0 if "╭" in box else 1] if paragraphs else ""


def _nearest(word: str, verb: str, help_line: str) -> str:
    """The flag or command that was probably meant."""
    known = _flags_of(VERBS[verb]) if verb else list(VERBS)
    near = difflib.get_close_matches(
        word.split("=")[0].replace("-", "_").replace("__", "--", 1), known, n=1, cutoff=0.6
    )
    return f"Did you mean {near[0]!r}? {help_line}" if near else help_line


def _flags_of(kind: Any) -> list[str]:
    """All flags of a verb, those of the dataclasses inside it too."""
    flags = []
    for field in dataclasses.fields(kind):
        inner = field.default_factory
        flags += _flags_of(inner) if dataclasses.is_dataclass(inner) else [f"--{field.name}"]
    return flags


def read_settings(path: Path) -> SimpleNamespace:
    """MODEL_CONFIGS, TRAINING_SETTINGS, DATAFOLDER and MODEL_DIR of a Python file; our own where it lacks one. Raises
    ConfigError where it cannot be read."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "Is a directory")
        with redirect_stdout(sys.stderr):
            found = runpy.run_path(str(path))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).", "Name a Python file with --config.") from error
    except (Exception, SystemExit) as error:
        line = getattr(error, "lineno", None) or traceback.extract_tb(error.__traceback__)[-1].lineno
        raise ConfigError(f"{path}, line {line}: {type(error).__name__}: {error}.", "Mend that line.") from error
    names = ("MODEL_CONFIGS", "TRAINING_SETTINGS", "DATAFOLDER", "MODEL_DIR")
    return SimpleNamespace(**{name: found.get(name, getattr(defaults, name)) for name in names})


def entry() -> None:
    """The `wikigpt` command."""
    sys.exit(main(sys.argv[1:]))
