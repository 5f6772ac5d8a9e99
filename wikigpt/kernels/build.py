"""kernels.c to a library in memory: compiled on first use, kept for the next.

kernels.c, ops.h ──> cc (about two seconds, once) ──> ~/.cache/wikigpt/kernels-<hash>.so ──> ctypes
"""

import ctypes
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

SOURCES = ("kernels.c", "ops.h")
# 512 bits: gcc takes 256 for some processors that are faster with the whole width.
FLAGS = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-fPIC")
WIDE = "-mprefer-vector-width=512"


def library() -> ctypes.CDLL:
    """The compiled kernels. Raises OSError where they cannot be had: no Linux, no compiler, one that fails."""
    if platform.system() != "Linux":
        raise OSError("they are for Linux")
    _load_openmp()
    try:
        command = [*_compiler(), *FLAGS, *((WIDE,) if platform.machine() == "x86_64" else ())]
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wikigpt"
        if _writable(folder):
            return _built(command, folder)
        with tempfile.TemporaryDirectory() as place:  # built again each time
            return _built(command, Path(place))
    except (RuntimeError, ValueError) as error:  # no home at all, or a CC that is no command
        raise OSError(str(error)) from error


def _writable(folder: Path) -> bool:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return os.access(folder, os.W_OK)
    return False


def _compiler() -> list[str]:
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not (command := shlex.split(os.environ.get("CC") or found or "")):
        raise OSError("there is no C compiler")
    return command


def _built(command: list[str], folder: Path) -> ctypes.CDLL:
    """The library from a folder; built first where it is not there, or is damaged: loading that would end the process."""
    sources = [Path(__file__).parent / name for name in SOURCES]
    made_of = b"".join(source.read_bytes() for source in sources) + repr((command, _processor())).encode()
    path = folder / f"kernels-{hashlib.sha256(made_of).hexdigest()[:16]}.so"
    made = path.read_bytes() if path.exists() else b""
    if hashlib.sha256(made[:-32]).digest() != made[-32:]:
        _build(command, sources[0], path)
    return ctypes.CDLL(str(path))


def _build(command: list[str], source: Path, path: Path) -> None:
    """Compiles, tries, and puts in place whole, with its own hash at the end, whoever else does the same."""
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        made, whole = Path(place, "kernels.o"), Path(place, "kernels.so")
        _run(*command, "-c", str(source), "-o", str(made))
        # Linked without OpenMP's library: its functions are those of the one that torch has loaded, so that both work with
        # the same threads. A second set of threads would stand in the way of the first.
        _run(command[0], "-shared", str(made), "-o", str(whole), "-lm")
        ctypes.CDLL(str(whole))  # of a compiler whose OpenMP is another than torch's this fails
        with open(whole, "r+b") as file:
            digest = hashlib.sha256(file.read()).digest()
            file.write(digest)  # behind what the loader reads
        whole.replace(path)


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    except subprocess.SubprocessError as error:
        lines = (getattr(error, "stderr", None) or "").splitlines()
        told = next((line.strip() for line in lines if "error" in line), "")
        raise OSError(f"{command[0]} failed{': ' + told if told else ''}") from error


def _processor() -> str:
    """What the code is made for: a home folder may be shared by different machines."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        return "".join(re.findall(r"^(?:model name|flags|Features|CPU part)\s*:.*$", text, re.MULTILINE)[:2])
    return platform.processor()


def _load_openmp() -> None:
    """Makes the OpenMP that torch has loaded known to libraries that are loaded after it."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    loaded = [line.split(maxsplit=5)[5] for line in lines if "/" in line]
    found = [path for path in dict.fromkeys(loaded) if re.match(r"lib(gomp|omp|iomp5)\b", Path(path).name)]
    for path in sorted(found, key=lambda path: "torch" not in path)[:1]:
        ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
