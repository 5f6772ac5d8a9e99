"""A mistake gets one line with a way out and exit code 2; a traceback only with --debug; --json one object in any case."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import training_command, wikigpt

from wikigpt.cli import explain, main
from wikigpt.config import TRAINING_SETTINGS, TrainingSettings
from wikigpt.errors import ConfigError


def said(capsys):
    """The one line on the standard error."""
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "No command was given. Take one of prepare, train"),
        ("--json --debug", "No command was given."),
        ("trian", "There is no command 'trian'. Did you mean 'train'?"),
        ("train --model_confg tiny", "There is no flag '--model_confg'. Did you mean '--model_config'?"),
        ("train --learning-rte 3", "There is no flag '--learning-rte'. Did you mean '--learning_rate'?"),
        ("train --max_steps many", "--max_steps cannot be 'many'. Give a whole number. See: wikigpt train --help"),
        ("train --learning_rate fast", "--learning_rate cannot be 'fast'. Give a number."),
        ("generate --temperature", "Missing value for argument '--temperature'"),
        ("evaluate --split all", "'validation', 'test'"),
        ("generate --input x --num_samples 0", "num_samples is 0. Give 1 or more."),
        ("prepare --path x.txt --source sample", "--path is for --source files and --source dump."),
        ("prepare --source files", "Name them with --path FILE_OR_FOLDER."),
        ("prepare --name ../outside", "'../outside' cannot name a folder."),
        ("prepare --source sample --wiki ../../es", "'../../es' cannot name a folder."),
        ("prepare --tokenizer nowhere", "There is no tokenizer 'nowhere'. Take gpt2, bpe, or the path"),
        ("prepare --tokenizer gpt2 --vocab_size 7", "gpt2 has 50,257 tokens, no other number."),
        ("prepare --held_out 0.7", "held_out is 0.7."),
        ("prepare --workers 0", "workers is 0."),
        ("train --like x", "--like needs a name for the new run. Give it with --run NAME."),
        ("train --run x --like nothing", "There is no run in models/nothing. List the runs with: wikigpt runs"),
        ("export --run nothing", "There is no run in models/nothing."),
        ("export --public", "--public goes with --push or --space."),
        ("export", "models/ has no runs yet, or make one with: wikigpt train"),
        ("runs --config nowhere.py", "nowhere.py cannot be read (No such file or directory)."),
    ],
)
def test_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert main(arguments.split()) == 2
    captured = capsys.readouterr()
    lines = [
        line for line in captured.err.strip().splitlines() if not line.startswith("  ") and "Traceback" not in line
    ]
    if "--debug" not in arguments:
        assert len(lines) == 1
    assert says in lines[-1] and (captured.out == "" or "--json" in arguments)
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_it_came_from(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", "--debug"]) == 2
    error = capsys.readouterr().err
    assert (
        "Traceback" in error
        and "choose_run" in error
        and error.strip().splitlines()[-1].startswith("There is no finished")
    )


def test_json_is_one_object_also_of_a_mistake(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--json", "export"]) == 2
    record = json.loads(capsys.readouterr().out)
    assert record == {
        "error": "There is no finished run.",
        "fix": "models/ has no runs yet, or make one with: wikigpt train",
    }
    assert main(["runs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": []}


def test_every_command_takes_json(train, data, tmp_path, capsys):
    assert wikigpt("prepare --source sample --wiki es --vocab_size 300 --json", tmp_path / "dataset") == 0
    assert set(json.loads(capsys.readouterr().out)["splits"]) == {"train", "validation", "test"}
    assert wikigpt(training_command("--run r --json"), data.path.parent) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["finished"] and record["step"] == 12 and record["final"]["bits_per_byte"] > 0
    assert wikigpt("evaluate --run r --split test --json", data.path.parent) == 0
    assert json.loads(capsys.readouterr().out)["scored_tokens"] == data.manifest["splits"]["test"]["tokens"]
    assert wikigpt("generate --run r --title Luna --num_samples 2 --max_gen 5 --seed 1 --json", data.path.parent) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["texts"]) == 2 and all(text.startswith("# Luna\n\n") for text in record["texts"])
    assert wikigpt("export --run r --json", data.path.parent) == 0
    assert "config.json" in json.loads(capsys.readouterr().out)["files"]
    assert wikigpt("runs --json", data.path.parent) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    assert row["name"] == "r" and row["state"] == "finished" and row["next"].startswith("wikigpt generate --run r")
    assert row["tokens"] == 12 * 8 * 32 and row["parameters"] > 0 and row["bits_per_byte"] > 0


def test_runs_says_what_there_is_and_the_next_command(train, data, capsys):
    train("--run done"), train("--run stopped --schedule constant --max_steps 6")
    path = Path("models/stopped/run.json")
    path.write_text(path.read_text().replace('"total_steps": 6', '"total_steps": 20'))
    capsys.readouterr()
    assert wikigpt("runs", data.path.parent) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "data", "model", "parameters", "tokens", "bits/byte", "state"]
    assert "stopped at step 6 of 20" in lines[1] and lines[2].strip() == "wikigpt train --run stopped"
    assert "finished" in lines[3] and lines[4].strip() == "wikigpt generate --run done --title TITLE"


def test_a_config_file_counts(train, data, tmp_path, capsys):
    path = tmp_path / "my_config.py"
    path.write_text(
        "from wikigpt.config import MODEL_CONFIGS\n"
        'MODEL_CONFIGS = {**MODEL_CONFIGS, "mine": {**MODEL_CONFIGS["tiny"], "n_layers": 1}}\n'
        f"DATAFOLDER = {str(data.path.parent)!r}\nMODEL_DIR = 'elsewhere'\n"
    )
    flags = training_command("--run r --max_steps 2").replace("--model_config tiny", "--model_config mine").split()
    assert main(["--config", str(path), *flags]) == 0
    assert (tmp_path / "elsewhere" / "r" / "run.json").exists()
    path.write_text("MODEL_CONFIGS = {\n  'a': 1,\n  'b' 2}\n")
    capsys.readouterr()
    assert main([*flags, "--config", str(path)]) == 2
    line = said(capsys)
    assert "my_config.py, line 3: SyntaxError" in line
    path.write_text("x = 1\ny = x.nothing\n")
    assert main(["runs", "--config", str(path)]) == 2
    assert "my_config.py, line 2: AttributeError" in said(capsys)


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (
            OSError(28, "No space left on device", "a/b"),
            "The disk is full or the file too large: No space left on device (a/b).",
        ),
        (PermissionError(13, "Permission denied", "a/b"), "Permission denied (a/b)."),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), "There is not enough memory."),
        (KeyError("x"), "This should not have happened: KeyError: 'x'."),
        (ConfigError("What.", "How."), "What."),
    ],
)
def test_every_error_has_a_line(error, problem):
    said, fix = explain(error)
    assert said == problem and fix.endswith((".", "shows."))


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--hours nan", "hours is nan"),
        ("--hours inf", "hours is inf"),
        ("--num_epochs inf", "num_epochs is inf. Give a finite number."),
        ("--seed 99999999999999999999999", "below 2**63"),
    ],
)
def test_numbers_that_cannot_be(train, tmp_path, capsys, flags, says):
    assert train(f"--run r {flags}", length="--batch_size 8") == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1] and not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"learning_rate": "1e-3"}, "learning_rate is '1e-3'. Give a number."),
        ({"batch_size": 2.0}, "batch_size is 2.0. Give a whole number."),
        ({"warmup_steps": True}, "warmup_steps is True. Give a whole number."),
        ({"schedule": 5}, "schedule is 5. Give a word."),
    ],
)
def test_a_preset_with_a_wrong_type_is_said(change, says):
    preset = TRAINING_SETTINGS["fast"] | change
    with pytest.raises(ConfigError) as error:
        TrainingSettings(**preset)
    assert str(error.value) == says


def test_too_little_text_for_one_context_and_for_one_split(data, tmp_path, train, capsys):
    (tmp_path / "few.txt").write_text("\n\n".join(f"A text that is number {n} of very few texts." for n in range(40)))
    command = ["prepare", "--path", "few.txt", "--vocab_size", "300", "--held_out"]
    assert wikigpt([*command, "0.001"], tmp_path / "dataset") == 2
    assert "few.txt has no article for validation and test." in capsys.readouterr().err
    assert wikigpt([*command, "0.2"], tmp_path / "dataset") == 0
    assert wikigpt(training_command("--context_length 1024"), tmp_path / "dataset") == 2
    assert "less than two contexts of 1024. Prepare more text" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_damaged_shard_is_named_before_training(data, train, tmp_path, capsys):
    shutil.copytree(data.path, tmp_path / "dataset" / "es")
    shard = tmp_path / "dataset" / "es" / "train_00000.bin"
    shard.write_bytes(shard.read_bytes()[:-4] + b"\0\0\0\1")
    assert wikigpt(training_command(""), tmp_path / "dataset") == 2
    assert "train_00000.bin is missing or differs from its checksum" in capsys.readouterr().err
