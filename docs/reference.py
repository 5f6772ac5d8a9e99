"""Pages of the site that are made from the code: what every command's --help says, and every public docstring.

wikigpt.cli.VERBS ──> reference/commands.md          wikigpt/**/*.py ──> reference/<room>.md
"""

import ast
import contextlib
import io
import re
from pathlib import Path
from typing import Any

import jupytext

from wikigpt import cli

PACKAGE = Path(cli.__file__).parent
ROOMS = {
    "data": "Data: from a dump to batches",
    "model": "The model, training and text",
    "evaluate": "Evaluation and analysis",
    "export": "Publishing",
    "studio": "The studio, the course and the verbs",
}
PLACES = {
    "data": ("data/", "tokenizer"),
    "evaluate": ("evaluate/", "analysis/", "report", "metrics", "trackers"),
    "export": ("export/", "cards"),
    "studio": ("studio/", "learn/", "verbs/", "cli", "demo"),
}


def write(folder: Path) -> None:
    """Writes all pages; those that are right already stay as they are, so that nothing is built twice."""
    folder.mkdir(exist_ok=True)
    pages = {"commands": commands()} | {room: modules(room) for room in ROOMS}
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def chapter(text: str) -> Any:
    """A chapter of lessons/ as a notebook."""
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python", "language": "python"}
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    return notebook


def commands() -> str:
    parts = ["# Commands\n\nWhat `--help` says.\n"]
    for verb in cli.VERBS:
        parts.append(f"## wikigpt {verb}\n\n```text\n{help_of(verb)}\n```\n")
    return "\n".join(parts)


def help_of(verb: str) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        cli.main([*verb.split(), "--help"])
    return re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue()).strip()


def modules(room: str) -> str:
    paths = sorted(path for path in PACKAGE.rglob("*.py") if room_of(path) == room)
    parts = [f"# {ROOMS[room]}\n\nFrom the docstrings.\n"]
    return "\n".join(parts + [page for path in paths if (page := module(path))])


def room_of(path: Path) -> str:
    name = path.relative_to(PACKAGE).as_posix()
    return next((room for room, begins in PLACES.items() if name.startswith(begins)), "model")


def module(path: Path) -> str:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = path.relative_to(PACKAGE.parent).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    said = docstring(tree)
    if said is None:
        return ""
    parts = [f"## `{name}`\n\n{said}\n"]
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_") and docstring(node):
            parts.append(described(node))
            for inner in node.body if isinstance(node, ast.ClassDef) else []:
                if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_") and docstring(inner):
                    parts.append(described(inner, f"{node.name}."))
    return "\n".join(parts)


def described(node: ast.ClassDef | ast.FunctionDef, owner: str = "") -> str:
    """A signature, and what its docstring says; fields of a dataclass too."""
    if isinstance(node, ast.ClassDef):
        fields = [ast.unparse(line) for line in node.body if isinstance(line, ast.AnnAssign)]
        bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
        shown = "\n    ".join([f"class {node.name}{bases}", *fields])
    else:
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        given = ast.unparse(node.args)
        if len(owner + node.name + given + returns) > 84:  # a line for each
            given = "\n    " + re.sub(r", (?=\*?\*?\w+(:|$|,|=)|\*,|/)", ",\n    ", given) + ",\n"
        shown = f"{owner}{node.name}({given}){returns}"
    return f"```python\n{shown}\n```\n\n{docstring(node)}\n"


def docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str | None:
    """As Markdown: what is drawn with lines or stands in columns is kept as it is."""
    said = ast.get_docstring(node)
    if said is None:
        return None
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", said):
        drawn = re.search(r"[─│┌└├→]|──>|\S {3,}\S", paragraph) or paragraph.startswith("    ")
        paragraphs.append(f"```text\n{paragraph}\n```" if drawn else plain(paragraph))
    return "\n\n".join(paragraphs)


def plain(paragraph: str) -> str:
    """Signs that Markdown would take for its own, outside `code`, and <words> that are no tags."""
    parts = re.split(r"(`[^`]*`)", paragraph)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<>\[\]|#\\])", r"\\\1", part) for part in parts)
