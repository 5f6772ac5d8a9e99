"""What the README and docs/ show: every command there is, is run by some test, and no link leads nowhere."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from wikigpt import cli
from wikigpt.errors import ConfigError

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = {"gpt_dataset.py": "prepare", "gpt_train.py": "train", "infer.py": "generate", "export_to_hf.py": "export"}


@dataclass
class Here:
    """Run below, in this order: as it stands, or so."""

    command: str = ""


@dataclass
class Elsewhere:
    """Run by another test."""

    test: str


@dataclass
class Not:
    """Cannot be run by a test, and why."""

    why: str


MACHINES, ELSE = Not("other machines"), Not("not a command of ours")
DEMO = Elsewhere("tests/test_demo.py::test_the_demo_in_seconds")
WHEEL = Elsewhere("tests/test_wheel.py::test_the_wheel_works_outside_the_clone")
DUMP = Elsewhere("tests/data/test_download.py::test_a_dump_from_the_net_makes_the_same_data_as_its_files")
HUB = Elsewhere("tests/data/test_hub.py::test_of_a_few_articles_not_more_is_fetched_than_they_need")
PUSH = Elsewhere("tests/export/test_push.py::test_what_is_pushed_is_exactly_the_export_and_private")
LM_EVAL = Elsewhere("tests/evaluate/test_harness.py::test_it_scores_a_run_as_its_own_backend_does_the_export")
TASKS = Elsewhere("tests/evaluate/test_tasks.py::test_files_come_from_the_hub")
TORCHRUN = Elsewhere("tests/test_parallel.py::test_torchrun_and_the_script")
STUDIO = Elsewhere("tests/studio/test_server.py::test_the_command_from_its_beginning_to_its_end")
LITTLE = "--emb_dim 32 --n_heads 2 --n_layers 1 --context_length 32 --batch_size 4 --dtype float32"

COMMANDS: dict[str, Here | Elsewhere | Not] = {
    # Set-up: `make test` itself, and the tests of the demo and the wheel.
    "git clone <this repository> wikigpt": ELSE,
    "git clone <this repository> wikigpt && cd wikigpt": ELSE,
    "cd wikigpt": ELSE,
    "make demo": DEMO,
    "make test": Not("it runs this"),
    "make notebooks": Elsewhere("tests/test_docs.py::test_notebooks"),
    "conda create -n gpts python=3.11": ELSE,
    "conda activate gpts": ELSE,
    "pip install -r requirements.txt": WHEEL,
    "pip install --no-deps --no-build-isolation -e .": WHEEL,
    "python3 -m venv .venv && source .venv/bin/activate": WHEEL,
    "pip install -r requirements.txt && pip install --no-deps --no-build-isolation -e .": WHEEL,
    "source .venv/bin/activate": WHEEL,
    # Data.
    'echo "HF_TOKEN=your_hugging_face_token_here" > .env': Here(),
    "python gpt_dataset.py": Here("python gpt_dataset.py --source sample --wiki en --max_articles 400 --vocab_size 600"),
    "wikigpt prepare --wiki pt": DUMP,
    "wikigpt prepare --wiki en": DUMP,
    "wikigpt prepare --source hf --wiki de --max_articles 10000": HUB,
    "wikigpt prepare --path 'dumps/*.xml.bz2'": Here(
        "wikigpt prepare --path 'dumps/*.xml.bz2' --name dump --max_articles 20 --held_out 0.2"
    ),
    "wikigpt prepare --source sample --wiki fr": Here("wikigpt prepare --source sample --wiki fr --max_articles 300 --vocab_size 600"),
    'wikigpt prepare --path stories.jsonl more/ --text_field body --title_field headline --licence "CC0"': Here(
        'wikigpt prepare --path stories.jsonl more/ --text_field body --title_field headline --licence "CC0" --vocab_size 300'
    ),
    "wikigpt prepare --path notes.txt --name notes": Here("wikigpt prepare --path notes.txt --name notes --vocab_size 300"),
    "wikigpt data stats --data notes": Here(),
    # Training.
    "wikigpt plan --model_config modern_124m": Here("wikigpt plan --model_config modern_124m --gpu h100"),
    "python gpt_train.py": Here(f"python gpt_train.py --data en --run en-demo --model_config modern_tiny {LITTLE} --max_steps 4"),
    "wikigpt train --data en --model_config modern_124m --max_steps 20": Here(
        f"wikigpt train --data en --model_config modern_124m --max_steps 2 --run try {LITTLE} --n_kv_heads 2 --head_dim 16"
    ),
    "wikigpt train --data en --model_config modern_124m --hours 10 --run big": Here(
        f"wikigpt train --data en --model_config modern_124m --hours 0.0005 --run big {LITTLE} --n_kv_heads 2 --head_dim 16"
    ),
    "wikigpt train --data en --model_config tiny --max_steps 2000 --run mine": Here(
        f"wikigpt train --data en --model_config tiny --max_steps 4 --run mine {LITTLE}"
    ),
    "wikigpt train --run mine": Here(),
    "wikigpt train --run mine --max_steps 4000": Here("wikigpt train --run mine --max_steps 6"),
    "wikigpt train --data notes --max_steps 500": Here(f"wikigpt train --data notes --max_steps 4 --model_config tiny {LITTLE}"),
    "wikigpt train --data pt --hours 1": Here(f"wikigpt train --data fr --hours 0.0005 --model_config tiny {LITTLE} --run pt"),
    "wikigpt train --data pt --model_config gpt2_original --hours 5": Here(
        f"wikigpt train --data fr --model_config gpt2_original --hours 0.0005 --run pt-gpt2_original {LITTLE}"
    ),
    "wikigpt runs": Here(),
    "torchrun --standalone --nproc_per_node=8 gpt_train.py --data pt --model_config modern_350m": TORCHRUN,
    "torchrun --standalone --nproc_per_node=8 -m wikigpt train --data pt --model_config modern_350m": TORCHRUN,
    "launch/machines.sh 10.0.0.1 2 0 --data pt --model_config modern_350m --run_name big": MACHINES,
    "launch/machines.sh 10.0.0.1 2 1 --data pt --model_config modern_350m --run_name big": MACHINES,
    "sbatch launch/slurm.sh --data pt --model_config modern_1b --run_name big": MACHINES,
    "sbatch --nodes=8 --time=48:00:00 launch/slurm.sh --data pt --depth 30 --run_name bigger": MACHINES,
    "ssh user@machine": MACHINES,
    "nvidia-smi": MACHINES,
    "df -h .": ELSE,
    "tmux new -s train": MACHINES,
    "python -m http.server --bind 127.0.0.1 --directory models 8000": ELSE,
    "ssh -N -L 8000:127.0.0.1:8000 user@machine": MACHINES,
    "rsync -av --partial --exclude optimizer.safetensors user@machine:wikigpt/models/pt-gpt2_original models/": MACHINES,
    # Text.
    'python infer.py --input "Once upon a time" --model_config modern_tiny --max_gen 100 --temperature 0.8': Here(),
    'wikigpt generate --title "Moon cheese" --num_samples 3': Here('wikigpt generate --title "Moon cheese" --num_samples 3 --max_gen 20'),
    'wikigpt generate --title "Lua"': Here('wikigpt generate --title "Lua" --max_gen 20'),
    'wikigpt generate --run pt-gpt2_original --title "Lua"': Here('wikigpt generate --run pt-gpt2_original --title "Lua" --max_gen 20'),
    # Publishing.
    "python export_to_hf.py": Here("python export_to_hf.py --run en-demo"),
    "python export_to_hf.py --push your_name/wiki-gpt": Elsewhere("tests/export/test_hf_infer.py::test_pushed_and_run_from_there"),
    "python hf_infer.py": Here("python hf_infer.py --max_gen 20"),
    'python hf_infer.py --repo_id your_name/wiki-gpt --input "Once upon a time" --stream': Elsewhere(
        "tests/export/test_hf_infer.py::test_pushed_and_run_from_there"
    ),
    "wikigpt export": Here(),
    "wikigpt export --dtype bfloat16 --gguf q8_0 --html": Here("wikigpt export --run en-demo --dtype bfloat16 --gguf q8_0 --html"),
    "wikigpt export --run NAME --checkpoint best --push USER/NAME --dry_run": Here(
        "wikigpt export --run mine --checkpoint best --push USER/NAME --dry_run"
    ),
    "wikigpt export --run NAME --push USER/NAME": PUSH,
    "wikigpt export --run pt-gpt2_original --gguf q8_0 --push USER/NAME": PUSH,
    # Measuring.
    "wikigpt evaluate": Here(),
    "wikigpt evaluate --split test --ladder": Here("wikigpt evaluate --run en-demo --split test --ladder"),
    "wikigpt evaluate --run NAME --split both": Here("wikigpt evaluate --run mine --split both"),
    "wikigpt evaluate --context 512 --stride 64": Here("wikigpt evaluate --run mine --context 32 --stride 16"),
    "wikigpt evaluate --split test --ladder --hf gpt2 --hf path/to/any/causal/model": Here(
        "wikigpt evaluate --run en-demo --split test --ladder --hf exports/en-demo"
    ),
    "wikigpt evaluate --tasks cloze lambada hellaswag": TASKS,
    "wikigpt evaluate --tasks wikitext2 lambada hellaswag": TASKS,
    "wikigpt evaluate --tasks cloze wikitext103=wiki.test.tokens lambada=lambada_test.jsonl hellaswag=hellaswag_val.jsonl": TASKS,
    "wikigpt evaluate --lm_eval piqa my_task.yaml": LM_EVAL,
    "wikigpt runs compare ONE OTHER": Here("wikigpt runs compare en-demo mine"),
    "wikigpt runs compare ONE OTHER ...": Here("wikigpt runs compare en-demo mine pt"),
    "wikigpt runs inspect": Here("wikigpt runs inspect --run en-demo"),
    'wikigpt runs inspect --title "Marie Curie"': Here("wikigpt runs inspect --run en-demo --title Anarchism"),
    'wikigpt runs inspect --run NAME --title "Marie Curie"': Here("wikigpt runs inspect --run mine --title Anarchism"),
    'wikigpt runs inspect --run NAME --neighbours " Paris"': Here('wikigpt runs inspect --run mine --neighbours " the"'),
    'wikigpt runs inspect --learned_from "is the capital of"': Here('wikigpt runs inspect --run mine --learned_from "is the capital of"'),
    'wikigpt runs inspect --run NAME --learned_from "is the capital and largest city of"': Here(
        'wikigpt runs inspect --run mine --learned_from "is the capital of"'
    ),
    "wikigpt runs inspect --memorised": Here("wikigpt runs inspect --run mine --memorised"),
    "wikigpt runs inspect --run NAME --memorised": Here("wikigpt runs inspect --run mine --memorised"),
    "wikigpt runs inspect --writing": Here("wikigpt runs inspect --run mine --writing"),
    "wikigpt runs inspect --run NAME --writing": Here("wikigpt runs inspect --run mine --writing"),
    # The studio.
    "wikigpt studio": STUDIO,
    "wikigpt studio --port 0": STUDIO,
    "ssh -L 8000:127.0.0.1:8000 the-machine-that-trains": MACHINES,
    'export WIKIGPT_TOKEN=$(python3 -c "import secrets; print(secrets.token_hex(16))")': Here(),
    "wikigpt studio --host 0.0.0.0": STUDIO,
    # The course.
    "python lessons/00-tensors.py": Here("WIKIGPT_QUICK=1 python lessons/00-tensors.py"),
    "wikigpt learn": Here(),
    "wikigpt learn start 0": Here(),
    "wikigpt learn check 0": Here("cp lessons/solutions/tensors.py my_gpt/ && wikigpt learn check 0"),
    "wikigpt learn start 3": Here("rm -f my_gpt/attention.py; wikigpt learn start 3"),
    "wikigpt learn check 3": Here("cp lessons/solutions/attention.py my_gpt/ && wikigpt learn check 3"),
    "wikigpt learn hint 0": Elsewhere("tests/learn/test_learn.py::test_from_the_exercise_to_the_solution"),
}  # fmt: skip


def shown(page: Path) -> list[str]:
    """The commands of a page's blocks, without what stands behind them."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.strip().splitlines()]
    return [re.sub(r"\s+# .*$", "", line).strip() for line in lines]


def test_every_command_that_is_shown_is_run_by_a_test():
    found = [command for page in PAGES for command in shown(page)]
    assert len(found) > 80
    assert [command for command in found if command not in COMMANDS] == [], "shown, and run by nothing"
    assert [command for command in COMMANDS if command not in found] == [], "no longer shown"
    for what in COMMANDS.values():
        if isinstance(what, Elsewhere):
            path, name = what.test.split("::")
            assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8"), what.test


def inline() -> list[tuple[str, str]]:
    """Commands of ours in running text and in blocks, of all pages, chapters and records."""
    found = []
    pages = [*PAGES, ROOT / "benchmarks" / "records.md", *sorted((ROOT / "lessons").glob("*.py"))]
    for page in pages:
        text = page.read_text(encoding="utf-8").replace("\n# ", " ")
        found += [(page.name, line) for line in shown(page)]
        found += [(page.name, line) for line in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)]
    return [(page, line) for page, line in found if re.match(rf"wikigpt \w|python ({'|'.join(SCRIPTS)})", line)]


def test_every_flag_that_is_shown_exists():
    """Without running anything: each command is read as the command line reads it."""
    read = 0
    for page, line in inline():
        words = [word for word in shlex.split(line, comments=True) if word != "..."]
        words = [SCRIPTS[words[1]], *words[2:]] if words[0] == "python" else words[1:]
        if "NAME" in words[:1] or words[0].endswith(","):
            continue
        words = ["0" if word in ("N", "NUMBER") else word for word in words]
        try:
            cli._parse(cli._verb_first(words), "wikigpt")
        except ConfigError as error:
            if not re.search(r"required|what\?|Missing value", str(error)):  # a verb or flag that is only named
                raise AssertionError(f"{page}: {line}: {error}") from error
        read += 1
    assert read > 120


@pytest.mark.slow
def test_what_is_shown_works(tmp_path):
    """Each after the other in one folder, at a reduced size."""
    for name in ("config.py", "transformer.py", "hf_infer.py", *SCRIPTS):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "lessons", tmp_path / "lessons", ignore=shutil.ignore_patterns("out", "__pycache__"))
    from wikigpt.data.sources import EXCERPT, EXCERPT_PACKAGE, EXCERPT_VERSION, carried

    (tmp_path / "dumps").mkdir()
    shutil.copy(
        carried(EXCERPT_PACKAGE, EXCERPT_VERSION, EXCERPT), tmp_path / "dumps" / "enwiki-pages-articles.xml.bz2"
    )
    stories = "".join(
        f'{{"headline": "Story {n}", "body": "Once upon a time {n} bears walked {n * n} miles to see the sea."}}\n'
        for n in range(600)
    )
    (tmp_path / "stories.jsonl").write_text(stories)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "stories.jsonl").write_text(stories.replace("bears", "foxes"))
    notes = "\n\n".join(
        f"# Day {n}\nIt rained {n} times, and we read {n * 7 % 31} pages about the weather of that year."
        for n in range(900)
    )
    (tmp_path / "notes.txt").write_text(notes)
    bin_ = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
    for command, what in COMMANDS.items():
        if isinstance(what, Here):
            ran = what.command or command
            done = subprocess.run(
                ["bash", "-c", ran], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, f"{ran}\n{done.stdout}\n{done.stderr}"


def test_the_picture_of_the_architecture_is_of_this_code():
    drawn = runpy.run_path(str(ROOT / "assets" / "architecture.py"))["picture"]()
    assert (ROOT / "assets" / "architecture.svg").read_text(encoding="utf-8") == drawn, "run assets/architecture.py"


def build(target: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        *flags,
        "-c",
        "docs",
        "-d",
        f"{target}-made",
        ".",
        str(target),
    ]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=600)


def test_the_site_has_no_broken_link(tmp_path):
    """Sphinx takes a link inside the repository that leads nowhere, and a page that no list names, for an error."""
    done = build(tmp_path / "site" / "html", "-D", "nb_execution_mode=off")
    assert done.returncode == 0, done.stderr
    assert "wikigpt train" in (tmp_path / "site/html/docs/reference/commands.html").read_text(encoding="utf-8")
    assert "keep_top_p" in (tmp_path / "site/html/docs/reference/model.html").read_text(encoding="utf-8")
    assert len(list((tmp_path / "site/html/lessons").glob("*.html"))) == len(list((ROOT / "lessons").glob("[0-9]*.py")))


@pytest.mark.slow
def test_the_site_shows_what_chapters_print_and_draw(tmp_path):
    done = build(tmp_path / "site" / "html", "-D", f"nb_execution_cache_path={tmp_path / 'cache'}", WIKIGPT_QUICK="1")
    assert done.returncode == 0, done.stderr
    for page in (tmp_path / "site/html/lessons").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "cell_output" in text and re.search(r'<img [^>]*src="\.\./_images/[0-9a-f]{40,}\.png"', text), page.name
        assert "Traceback" not in text and "Warning" not in text, page.name


@pytest.mark.slow
def test_notebooks(tmp_path):
    """They are written, and one of them runs as a notebook."""
    subprocess.run(["make", "-s", "notebooks"], cwd=ROOT, check=True, capture_output=True)
    import nbformat
    from nbclient import NotebookClient

    paths = sorted((ROOT / "lessons/out/notebooks").glob("*.ipynb"))
    assert [path.stem for path in paths] == [path.stem for path in sorted((ROOT / "lessons").glob("[0-9]*.py"))]
    notebook = nbformat.read(paths[0], as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = {kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
    assert "image/png" in kinds
