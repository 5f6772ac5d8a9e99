"""A process that is killed at any moment loses no more than the steps since its last save, and what the same command makes
of the rest is the same to the byte. Children are forked from a server that has torch imported: each starts at once."""

import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from helpers import quick, state, training_command, wikigpt

from wikigpt.metrics import read_metrics

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["wikigpt.cli", "wikigpt.train", "wikigpt.report", "wikigpt.plan", "matplotlib.pyplot"])
LENGTH = "--batch_size 8 --max_steps 12 --warmup_steps 4 --eval_every 4 --save_every 3 --eval_tokens 500"


def child(command, datafolder, cwd, fatal=0, done=None):
    """Runs a command; the `fatal`-th thing that it does to the file system is its last one. `done` takes how many it did."""
    os.chdir(cwd)
    quick()
    count = 0

    def counted(function):
        def call(*arguments, **more):
            nonlocal count
            count += 1
            if count == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **more)

        return call

    import wikigpt.checkpoint as checkpoint

    os.fsync, os.rename, os.replace, os.unlink, os.rmdir, os.mkdir = map(
        counted, (os.fsync, os.rename, os.replace, os.unlink, os.rmdir, os.mkdir)
    )
    checkpoint.save_file, shutil.copyfile = counted(checkpoint.save_file), counted(shutil.copyfile)
    code = wikigpt(command, datafolder)
    if done is not None:
        done.value = count
    os._exit(code)


def start(data, cwd, flags="--run r", length=LENGTH, **options):
    cwd.mkdir(exist_ok=True)
    arguments = training_command(flags, length), data.path.parent, cwd
    process = FORKS.Process(target=child, args=arguments, kwargs=options)
    process.start()
    return process


def finish(process):
    process.join(120)
    return process.exitcode


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that was never stopped, and how often it touched the file system."""
    cwd, done = tmp_path_factory.mktemp("whole"), FORKS.Value("i", 0)
    assert finish(start(data, cwd, done=done)) == 0
    return cwd / "models" / "r", done.value


def check(run: Path, whole: Path):
    assert state(run) == state(whole)
    one, other = ([(row["step"], row["loss"]) for row in read_metrics(path, "train")] for path in (run, whole))
    assert one == other
    kept, expected = (sorted(path.name for path in (path / "checkpoints").iterdir()) for path in (run, whole))
    assert kept == expected


def killed_at(data, tmp_path, whole, fatal):
    assert finish(start(data, tmp_path, fatal=fatal)) == -signal.SIGKILL
    assert finish(start(data, tmp_path)) == 0
    check(tmp_path / "models" / "r", whole)


@pytest.mark.parametrize("part", [1, *(pytest.param(part, marks=pytest.mark.slow) for part in (0, 2))])
def test_a_kill_inside_a_save_loses_nothing(data, tmp_path, whole, part):
    """At three places spread over all that a run does to the file system."""
    run, touches = whole
    assert touches > 40
    killed_at(data, tmp_path, run, 1 + (touches - 1) * (2 * part + 1) // 6)


@pytest.mark.slow
def test_a_kill_at_every_other_touch_of_the_file_system_loses_nothing(data, tmp_path, whole):
    run, touches = whole
    for fatal in range(1, touches + 1, 2):
        killed_at(data, tmp_path / str(fatal), run, fatal)


@pytest.mark.slow
def test_a_longer_run_survives_kills_too(data, tmp_path, whole):
    """While a finished run is taken back to before its learning rate fell, and goes on from there."""
    run, _ = whole
    longer = LENGTH.replace("--max_steps 12", "--max_steps 20")
    end, done = tmp_path / "end", FORKS.Value("i", 0)
    assert finish(start(data, end, length=longer)) == 0
    shutil.copytree(run.parent.parent, tmp_path / "grown")
    assert finish(start(data, tmp_path / "grown", length=longer, done=done)) == 0
    check_end(tmp_path / "grown", end)
    for fatal in range(1, done.value, 4):
        cwd = tmp_path / str(fatal)
        shutil.copytree(run.parent.parent, cwd)
        assert finish(start(data, cwd, length=longer, fatal=fatal)) == -signal.SIGKILL
        assert finish(start(data, cwd, length=longer)) == 0
        check_end(cwd, end)


def check_end(cwd, end):
    assert state(cwd / "models" / "r") == state(end / "models" / "r")


@pytest.mark.slow
def test_fifty_kills_at_random_moments_end_in_identical_weights(data, tmp_path):
    draw = random.Random(20261122)
    length = "--batch_size 8 --max_steps 600 --warmup_steps 4 --eval_every 20 --save_every 5 --eval_tokens 500"
    assert finish(start(data, tmp_path / "whole", length=length)) == 0
    kills, rounds = 0, 0
    while kills < 50:
        cwd = tmp_path / str(rounds)
        rounds += 1
        while True:
            process = start(data, cwd, length=length)
            time.sleep(draw.uniform(1.0, 3.0))
            if process.exitcode is not None:
                break
            os.kill(process.pid, signal.SIGKILL)
            assert finish(process) in (-signal.SIGKILL, 0)
            kills += process.exitcode != 0
            if not process.exitcode:
                break
        assert process.exitcode == 0
        check_end(cwd, tmp_path / "whole")
        print(f"{kills} kills in {rounds} rounds")


def preparing(command, datafolder, cwd, fatal=0, done=None):
    """Prepares in small segments, so that there is something to go on with."""
    import wikigpt.data.segments as segments

    segments.SEGMENT = 500_000
    child(command, datafolder, cwd, fatal, done)


def prepare_killed_at(tmp_path, fatal=0, done=None):
    tmp_path.mkdir(exist_ok=True)
    command = "prepare --source sample --wiki es --vocab_size 400"
    process = FORKS.Process(target=preparing, args=(command, tmp_path / "dataset", tmp_path, fatal, done))
    process.start()
    return finish(process)


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def prepared_in_pieces(tmp_path, kills):
    """Whether a preparation that is killed at these touches ends as one that is not."""
    done = FORKS.Value("i", 0)
    assert prepare_killed_at(tmp_path / "whole", done=done) == 0
    expected = content(tmp_path / "whole" / "dataset" / "es")
    for kill in kills(done.value):
        cwd = tmp_path / str(kill)
        assert prepare_killed_at(cwd, fatal=kill) == -signal.SIGKILL
        if (cwd / "dataset" / "es").exists():  # killed behind the last rename: only the report may be missing
            found = content(cwd / "dataset" / "es")
            assert all(found.get(path) == data for path, data in expected.items() if path.name != "report.html")
        assert prepare_killed_at(cwd) == 0
        assert content(cwd / "dataset" / "es") == expected
        assert {path.name for path in (cwd / "dataset").iterdir()} == {"es", ".es.lock"}


def test_a_killed_preparation_goes_on(tmp_path):
    prepared_in_pieces(tmp_path, lambda touches: [touches // 2])


@pytest.mark.slow
def test_a_preparation_killed_anywhere_goes_on(tmp_path):
    """At every fifth touch of the file system, and at each of the last thirty, where the folder gets its name."""
    prepared_in_pieces(tmp_path, lambda touches: [*range(1, touches - 30, 5), *range(touches - 30, touches + 1)])
