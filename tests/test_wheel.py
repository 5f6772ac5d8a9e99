"""The wheel holds the package and nothing else, and works where there is no clone."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left in the clone."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "wikigpt", folder / "source" / "wikigpt", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*ROOT.glob("*.py"), ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "LICENSE"):
        shutil.copy(path, folder / "source")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder / "dist", "."]
    subprocess.run(pip, cwd=folder / "source", check=True)
    (built,) = (folder / "dist").glob("wikigpt-*.whl")
    return built


def test_the_wheel_holds_the_package_and_no_top_level_config(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"wikigpt"}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "wikigpt").rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {f"wikigpt/export/{name}" for name in ("card.md", "web/model.js", "web/page.js", "web/page.html")} <= set(
        names
    )


@pytest.mark.slow
def test_the_wheel_works_outside_the_clone(wheel, tmp_path):
    """As a stranger installs it: a new environment, our pins as constraints. Takes the time that pip takes."""
    subprocess.run([sys.executable, "-m", "venv", "venv"], cwd=tmp_path, check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-q", "-c", ROOT / "requirements.txt", f"{wheel}[sample]"]
    subprocess.run(pip, cwd=tmp_path, check=True)
    demo = [tmp_path / "venv" / "bin" / "wikigpt", "demo", "--wiki", "es", "--hours", "0.001"]
    done = subprocess.run(demo, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and "# Queso de luna" in done.stdout, done.stderr
    runs = subprocess.run([python, "-m", "wikigpt", "runs"], cwd=tmp_path, capture_output=True, text=True)
    assert runs.returncode == 0 and "es-demo" in runs.stdout
    push = [python, "-m", "wikigpt", "export", "--push", "a/b"]  # without the extra `hub`
    done = subprocess.run(push, cwd=tmp_path, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 2 and "pip install" in done.stderr.strip().splitlines()[-1], done.stderr
