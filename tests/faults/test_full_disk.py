"""A full disk, by a limit on the size of a file: one line, nothing half-written, and the same command goes on."""

import os
import resource

import pytest
from helpers import state
from test_kills import FORKS, content, finish, start, whole  # noqa: F401 - a fixture

from wikigpt.metrics import read_metrics


def limited(function, arguments, bytes_per_file, log):
    """Runs a child of the kill tests with its standard error in a file and a limit on what it may write."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_per_file, bytes_per_file))
    function(*arguments)


def lines(log):
    """What was said, without progress."""
    return [line for line in log.read_text().splitlines() if "disk is full" in line or "Traceback" in line]


@pytest.mark.parametrize("bytes_per_file", [pytest.param(100_000, marks=pytest.mark.slow), 300_000])
def test_training_says_so_and_goes_on_when_there_is_space(data, tmp_path, whole, bytes_per_file):  # noqa: F811
    """The weights take 184 kB and the moments 367 kB: once the first file of a save does not fit, once the second."""
    from helpers import training_command
    from test_kills import LENGTH, child

    arguments = training_command("--run r", LENGTH), data.path.parent, tmp_path
    log = tmp_path / "log"
    assert finish(begin(limited, child, arguments, bytes_per_file, log)) == 2
    (line,) = lines(log)
    assert "File too large" in line and "safetensors" in line and "Free some space" in line
    run = tmp_path / "models" / "r"
    assert not list((run / "checkpoints").iterdir()) and not (run / "latest").exists()
    assert finish(start(data, tmp_path)) == 0
    assert state(run) == state(whole[0])
    assert len(read_metrics(run, "train")) == 12


@pytest.mark.slow
def test_preparing_says_so_and_goes_on_when_there_is_space(tmp_path):
    from test_kills import prepare_killed_at, preparing

    assert prepare_killed_at(tmp_path / "whole") == 0
    cwd = tmp_path / "full"
    cwd.mkdir()
    log = tmp_path / "log"
    command = "prepare --source sample --wiki es --vocab_size 400"
    assert finish(begin(limited, preparing, (command, cwd / "dataset", cwd), 1_000_000, log)) == 2
    assert len(lines(log)) == 1 and not (cwd / "dataset" / "es").exists()
    assert prepare_killed_at(cwd) == 0
    assert content(cwd / "dataset" / "es") == content(tmp_path / "whole" / "dataset" / "es")


def begin(target, function, arguments, bytes_per_file, log):
    process = FORKS.Process(target=target, args=(function, arguments, bytes_per_file, log))
    process.start()
    return process
