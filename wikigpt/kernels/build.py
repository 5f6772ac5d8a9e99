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
    folder = Path(__file__).parent
    sources = b"".join((folder / name).read_bytes() for name in SOURCES)
    made_for = hashlib.sha256(sources + _processor().encode() + repr(FLAGS).encode()).hexdigest()[:16]
    path = _cache() / f"kernels-{made_for}.so"
    _load_openmp()
    if not _whole(path):
        _compile(folder / SOURCES[0], path)
    return ctypes.CDLL(str(path))


def _whole(path: Path) -> bool:
    """Whether a library is there and ends with its own hash: loading a damaged one would end the process."""
    made = path.read_bytes() if path.exists() else b""
    return hashlib.sha256(made[:-32]).digest() == made[-32:]


def _compile(source: Path, path: Path) -> None:
    """Compiles and puts in place whole, whoever else does the same."""
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    compiler = shlex.split(os.environ.get("CC") or found or "")
    if not compiler:
        raise OSError("there is no C compiler")
    path.parent.mkdir(parents=True, exist_ok=True)
    wide = (WIDE,) if platform.machine() == "x86_64" else ()
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        made, whole = Path(place, "kernels.o"), Path(place, "kernels.so")
        _run(*compiler, *FLAGS, *wide, "-c", str(source), "-o", str(made))
        # Linked without OpenMP's library: its functions are those of the one that torch has loaded, so that both work with
        # the same threads. A second set of threads would stand in the way of the first.
        _run(*compiler, "-shared", str(made), "-o", str(whole), "-lm")
        with open(whole, "r+b") as file:
            digest = hashlib.sha256(file.read()).digest()
            file.write(digest)  # behind what the loader reads
        whole.replace(path)


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    except subprocess.SubprocessError as error:
        told = (getattr(error, "stderr", None) or "").strip().splitlines()
        raise OSError(f"{command[0]} failed{': ' + told[-1] if told else ''}") from error


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wikigpt"


def _processor() -> str:
    """What the code is made for: a home folder may be shared by different machines."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        return "".join(re.findall(r"^(?:model name|flags|Features|CPU part)\s*:.*$", text, re.MULTILINE)[:2])
    return platform.processor()


def _load_openmp() -> None:
    """Makes the OpenMP that torch has loaded known to libraries that are loaded after it."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    for path in dict.fromkeys(re.findall(r"/\S*lib(?:gomp|omp|iomp5)\b\S*", maps)):
        ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
