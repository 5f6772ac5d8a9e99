"""An export: one folder, whole or not at all, that holds everything a model is published with.

Trained ──> huggingface.py, gguf.py, html.py, card.py ──> exports/<run>/ ──> push.py
"""

import json
import re
import shutil
from pathlib import Path

from wikigpt.errors import ConfigError, RunError
from wikigpt.export.card import write_card
from wikigpt.export.html import check_page, write_page
from wikigpt.export.huggingface import CLASSES, write_huggingface
from wikigpt.export.trained import ORIGIN, Form, Trained, write_origin
from wikigpt.runs import locked

# All that an export may hold. What else lies in a folder is somebody's, and never removed.
OURS = re.compile(
    r"README\.md|LICENSE|curves\.png|ladder\.png|writing\.svg|config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json"
    r"|vocab\.json|merges\.txt|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
    r"|(modeling|configuration)_gpt2_custom\.py|wikigpt\.json|wikigpt-.*\.gguf|Modelfile|index\.html"
)


def check_form(trained: Trained, form: Form) -> None:
    """Raises ConfigError, before anything is written, for what cannot be made of this model or on this machine."""
    try:
        import huggingface_hub  # noqa: F401

        if form.gguf:
            import gguf  # noqa: F401
    except ImportError as error:
        problem = f"Exporting needs {error.name}."
        raise ConfigError(problem, "Run: pip install -r requirements.txt (or 'wikigpt[hub]')") from error
    if form.gguf:
        from wikigpt.export.gguf import check_pre_tokenizer

        check_pre_tokenizer(trained.tokenizer)
    if form.html:
        check_page(trained)


def check_folder(folder: Path, whole: bool = True) -> None:
    """Raises RunError where a folder is there that is no export of ours; one that is not `whole` need not say so."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RunError(f"{folder} is a file.", "Name another folder with --folder.")
    there = {path.name for path in folder.iterdir()} - {".DS_Store", "Thumbs.db"}
    others = sorted(name for name in there if not OURS.fullmatch(name.removesuffix(".partial")))
    if whole and there and not others and not _says_so(folder / "config.json"):
        others = ["a model from elsewhere"]
    if others:
        problem = f"{folder} is there and holds what is no export ({', '.join(others[:3])})."
        raise RunError(problem, "Move that away, or name another folder with --folder.")


def _says_so(path: Path) -> bool:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return path.with_name(ORIGIN).exists() or bool(
            record["auto_map"]["AutoModelForCausalLM"] == CLASSES["AutoModelForCausalLM"]
        )
    except (OSError, ValueError, LookupError, TypeError):
        return False


def write_folder(trained: Trained, form: Form, folder: Path, repository: str, revision: str | None = None) -> list[str]:
    """Writes an export and returns the names of its files; an older one there is replaced when the new one is whole.
    `repository` and `revision` are how the card calls it. Raises ConfigError and RunError as the checks above do."""
    folder = folder.resolve()
    busy = RunError(f"Another process is writing {folder}.", "Wait for it, or name another folder with --folder.")
    with locked(folder, busy):
        check_folder(folder)
        check_form(trained, form)
        partial, old = (folder.with_name(f".{folder.name}.{what}") for what in ("partial", "old"))
        if old.exists() and not folder.exists():  # killed between the two renames below
            old.rename(folder)
        for left in (partial, old):  # by a kill
            check_folder(left, whole=False)
            shutil.rmtree(left, ignore_errors=True)
            if left.exists():
                raise RunError(f"{left}, left by an earlier export, cannot be removed.", "Remove it by hand.")
        partial.mkdir(parents=True)
        try:
            _write(trained, form, partial, repository, revision)
            if folder.exists():
                folder.rename(old)
            partial.rename(folder)
        except BaseException:
            if old.exists() and not folder.exists():
                old.rename(folder)
            shutil.rmtree(partial, ignore_errors=True)
            raise
        shutil.rmtree(old, ignore_errors=True)
        return sorted(path.name for path in folder.iterdir())


def _write(trained: Trained, form: Form, folder: Path, repository: str, revision: str | None) -> None:
    write_huggingface(trained, form.dtype, form.max_shard_size, folder)
    write_origin(trained, folder)
    for kind in form.gguf:
        from wikigpt.export.gguf import write_gguf

        write_gguf(trained, kind, folder)
    if form.html:
        write_page(trained, folder)
    write_card(trained, form, folder, repository, revision)
