"""`make demo` ends with what it promises, in three languages; the commands that it prints work as they stand."""

import json
import subprocess
import sys

import pytest

from wikigpt.cli import main
from wikigpt.evaluate import ladder


def demo(folder, *arguments):
    command = [sys.executable, "-m", "wikigpt", "demo", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_demo_in_seconds(tmp_path, monkeypatch, capsys):
    """In this process; the slow tests type what it prints."""
    monkeypatch.setattr(ladder, "DICTIONARY", 2**19)
    folder = tmp_path / "a folder with a space"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert main(["demo", "--wiki", "fr", "--hours", "0.001"]) == 0
    out = capsys.readouterr().out
    assert (folder / "models" / "fr-demo" / "loss.png").exists() and "# Fromage de lune" in out
    assert "| 5-gram |" in out and (folder / "models/fr-demo/evaluation/ladder_test.png").exists()
    commands = [line.strip() for line in out.splitlines() if line.startswith("  ")]
    assert len(commands) == 4 and " train --data fr --model_config modern_small" in commands[3]


@pytest.mark.slow
def test_all_that_the_demo_prints_can_be_typed_and_again_it_uses_what_is_there(tmp_path):
    tmp_path = tmp_path / "a folder with a space"
    tmp_path.mkdir()
    done = demo(tmp_path, "--wiki", "es", "--hours", 0.001, "--json")
    assert done.returncode == 0 and set(json.loads(done.stdout)) == {"prepare", "train", "evaluate", "generate"}
    commands = [line.strip() for line in done.stderr.splitlines() if line.startswith("  ") and "wikigpt" in line]
    (studio,) = [command for command in commands if command.endswith(" studio")]
    for command in commands:
        if command != studio:
            short = command.replace("--hours 0.5", "--max_steps 1")
            subprocess.run(short, shell=True, cwd=tmp_path, check=True, capture_output=True)
    with subprocess.Popen(
        f"exec {studio} --port 0", shell=True, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as served:
        assert "http://127.0.0.1:" in served.stderr.readline()
        served.terminate()
    again = demo(tmp_path, "--wiki", "es", "--hours", 0.001)
    assert again.returncode == 0 and "prepared already" in again.stderr and "finished already" in again.stderr


@pytest.mark.slow
def test_the_demo_beats_the_bigram_by_a_quarter_of_a_bit(tmp_path):
    """In less than half the steps that three minutes on two cores have: median of three seeds."""
    subprocess.run([sys.executable, "-m", "wikigpt", "prepare", "--source", "sample"], cwd=tmp_path, check=True)
    margins = []
    for seed in range(3):
        command = f"train --model_config modern_tiny --training_setting small_models --max_steps {STEPS}"
        command += f" --seed {seed} --run s{seed}"
        subprocess.run([sys.executable, "-m", "wikigpt", *command.split()], cwd=tmp_path, check=True)
        rows = [
            json.loads(line) for line in (tmp_path / "models" / f"s{seed}" / "metrics.jsonl").read_text().splitlines()
        ]
        final = next(row for row in rows if row["kind"] == "final")
        margins.append(final["bigram_bits_per_byte"] - final["bits_per_byte"])
    assert sorted(margins)[1] >= 0.25, margins


STEPS = 300
