"""Several processes train the same model as one, and none of them is ever left waiting. Real processes, over gloo on a CPU;
where there are NVIDIA cards, over NCCL on those too."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import quick, state, training_command, wikigpt
from safetensors.torch import load

from wikigpt.data.loader import TrainingBatches
from wikigpt.metrics import read_metrics
from wikigpt.parallel import Watch

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["wikigpt.cli", "wikigpt.train", "wikigpt.report", "wikigpt.settle", "matplotlib.pyplot"])
LENGTH = (
    "--decay_share 0.2 --batch_size 8 --max_steps 12 --warmup_steps 4 --eval_every 4 --save_every 6 --eval_tokens 500"
)
LONG = "--batch_size 8 --max_steps 100000 --warmup_steps 4 --eval_every 100000 --save_every 100000 --eval_tokens 500"
MODERN = "--arch qwen3 --qkv_bias False --n_layers 3"


def rank(number, size, port, work, cwd):
    """What one process does: as torchrun would have started it."""
    os.chdir(cwd)
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"LOCAL_RANK": str(number), "LOCAL_WORLD_SIZE": str(size)}
    for name in ("stdout", "stderr"):
        file = open(f"{name}.{number}", "w", buffering=1)  # noqa: SIM115 - until the process ends
        os.dup2(file.fileno(), getattr(sys, name).fileno())
    quick()
    Watch.BEAT, Watch.SILENCE, Watch.GRACE = 0.2, 20, 10
    work, *arguments = work
    sys.exit(work(number, *arguments))


def train_here(_, datafolder, command):
    return wikigpt(command, datafolder)


def start(size, cwd, *work):
    cwd.mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [FORKS.Process(target=rank, args=(n, size, port, work, cwd)) for n in range(size)]
    for process in processes:
        process.start()
    return processes


def finish(processes, seconds=120):
    """Their exit codes; none may still run after so long."""
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.1, end - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def said(cwd, number=0):
    return (cwd / f"stderr.{number}").read_text()


@pytest.fixture
def ranks(data, tmp_path):
    """Trains on so many ranks in a folder of its own; returns their exit codes."""

    def train_on(size, flags, length=LENGTH, work=train_here):
        command = training_command(f"--drop_rate 0 --threads 1 {flags}", length)
        return finish(start(size, tmp_path, work, data.path.parent, command))

    return train_on


def difference(one, other):
    """The relative difference between two runs' newest checkpoints: of all weights, or of all moments, as one vector. (Not of
    each tensor: the bias of keys has no gradient but for rounding, of which AdamW makes whole steps.)"""
    worst = 0.0
    for name, tensors in state(one).items():
        ours, others = load(tensors), load(state(other)[name])
        assert ours.keys() == others.keys()
        a, b = (torch.cat([ts[key].float().flatten() for key in ours]) for ts in (ours, others))
        worst = max(worst, float((a - b).norm() / a.norm()))
    return worst


def losses(run):
    return [row["loss"] for row in read_metrics(run, "train")]


@pytest.mark.parametrize(
    "flags, bound",
    [("--optimizer adamw", 1e-5), (f"--optimizer muon {MODERN}", 1e-4), ("--optimizer muon --dtype bfloat16", 1e-2)],
)
def test_any_number_of_ranks_trains_the_same_model(ranks, tmp_path, flags, bound):
    """Three ranks share eight windows unevenly; with four an accumulated step has one window in each part."""
    models = tmp_path / "models"
    assert ranks(1, f"--run one {flags}") == [0]
    for size, how in ((2, "ddp"), (2, "fsdp"), (3, "ddp"), (4, "fsdp")):
        run = f"{how}{size}"
        assert ranks(size, f"--run {run} --parallel {how} {flags}") == [0] * size, said(tmp_path)
        if "bfloat16" not in flags:
            assert difference(models / "one", models / run) < bound
        assert losses(models / run) == pytest.approx(losses(models / "one"), rel=bound)
        final, expected = (read_metrics(models / name, "final")[0] for name in (run, "one"))
        assert final["scored_tokens"] == expected["scored_tokens"]
        assert final["loss"] == pytest.approx(expected["loss"], rel=bound)
    accumulated = LENGTH.replace("--batch_size 8", "--batch_size 1 --gradient_accumulation_steps 8")
    for size, how in ((2, "ddp"), (3, "fsdp")):
        assert ranks(size, f"--run parts{size} --parallel {how} {flags}", accumulated) == [0] * size
        assert losses(models / f"parts{size}") == pytest.approx(losses(models / "one"), rel=max(bound, 1e-5))


def test_ranks_read_the_windows_of_a_batch_once_each(data):
    batches = TrainingBatches(data, 32, 7, seed=3)
    for size in (1, 2, 3, 7):
        shares = [batches.share(5, rank, size) for rank in range(size)]
        assert torch.equal(torch.cat([share.inputs_BT for share in shares]), batches[5].inputs_BT)
        assert torch.equal(torch.cat([share.targets_BT for share in shares]), batches[5].targets_BT)
        counts = [len(share.inputs_BT) for share in shares]
        assert max(counts) - min(counts) <= 1
    parts = batches.share(0, 0, 3).split(3)  # two windows in three parts
    assert [part.weight for part in parts] == [1, 1, 0] and [len(part.inputs_BT) for part in parts] == [1, 1, 1]


def test_a_run_goes_on_with_other_numbers_of_ranks(ranks, tmp_path):
    """1 -> 2 -> 1, whole models -> parts -> whole ones, from the one kind of checkpoint."""
    models = tmp_path / "models"
    flags = f"--optimizer muon {MODERN} --schedule constant"
    assert ranks(1, f"--run whole {flags}") == [0]
    for steps, size, how in ((3, 1, ""), (6, 2, "--parallel ddp"), (9, 2, "--parallel fsdp"), (12, 1, "")):
        length = LENGTH.replace("--max_steps 12", f"--max_steps {steps}")
        assert ranks(size, f"--run changing {flags} {how}", length) == [0] * size, said(tmp_path)
    assert "continuing with another world_size: 2 -> 1" in said(tmp_path)
    assert difference(models / "whole", models / "changing") < 1e-4
    assert losses(models / "changing") == pytest.approx(losses(models / "whole"), rel=1e-5)


def test_with_dropout_a_stopped_run_of_two_ranks_ends_as_one_that_never_stopped(ranks, tmp_path):
    """Each rank drops other numbers, and after a stop the same as without one."""
    flags = "--drop_rate 0.3 --schedule constant"
    assert ranks(2, f"--run whole {flags}") == [0, 0]
    assert ranks(2, f"--run stopped {flags}", LENGTH.replace("12", "5")) == [0, 0]
    assert ranks(2, f"--run stopped {flags}") == [0, 0]
    assert state(tmp_path / "models/stopped") == state(tmp_path / "models/whole")


def wait_for(path, text, seconds=60):
    end = time.monotonic() + seconds
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < end, f"{text!r} did not appear in {path}"
        time.sleep(0.05)


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_a_stop_asked_of_one_rank_stops_all(data, tmp_path, how):
    command = training_command(f"--drop_rate 0 --threads 1 --run r --parallel {how}", LONG)
    processes = start(2, tmp_path, train_here, data.path.parent, command)
    metrics = tmp_path / "models/r/metrics.jsonl"
    wait_for(metrics, '"step": 10,')
    os.kill(processes[1].pid, signal.SIGTERM)
    assert finish(processes, 30) == [130, 130]
    steps = len(read_metrics(tmp_path / "models/r", "train"))
    assert (tmp_path / "models/r/latest").read_text() == f"step_{steps:08d}\n"


@pytest.mark.parametrize("dying, speaking", [(1, 0), (0, 1)])
def test_a_rank_that_dies_ends_the_others_and_is_named(data, tmp_path, dying, speaking):
    command = training_command("--drop_rate 0 --threads 1 --run r", LONG)
    processes = start(3, tmp_path, train_here, data.path.parent, command)
    wait_for(tmp_path / "models/r/metrics.jsonl", '"step": 10,')
    os.kill(processes[dying].pid, signal.SIGKILL)
    codes = finish(processes, 20)
    assert codes.pop(dying) == -signal.SIGKILL and codes == [1, 1]
    expected = "Rank 1 on" if dying else "which holds the others together"  # here the first rank holds the store
    assert expected in said(tmp_path, speaking) and "goes on from the last checkpoint" in said(tmp_path, speaking)
    assert "Traceback" not in said(tmp_path, speaking)


def test_a_rank_that_hangs_ends_the_others_too(data, tmp_path):
    """Stopped, not dead: its connections stay open, so only its silence tells."""
    command = training_command("--drop_rate 0 --threads 1 --run r", LONG)
    processes = start(2, tmp_path, train_here, data.path.parent, command)
    wait_for(tmp_path / "models/r/metrics.jsonl", '"step": 10,')
    os.kill(processes[1].pid, signal.SIGSTOP)
    processes[0].join(20)
    assert processes[0].exitcode == 1 and "Rank 1 on" in said(tmp_path)
    finish(processes, 0)


def with_little_memory(number, datafolder, command, rank, at_step):
    """Trains with a model of which one rank cannot hold more than two windows, from some step on."""
    from wikigpt import train as training
    from wikigpt.transformer import GPTModel

    steps = []

    class Small(GPTModel):
        def loss(self, inputs_BT, targets_BT, reduction="mean"):
            if self.training:
                steps.append(len(inputs_BT))
                if number == rank and len(inputs_BT) > 2 and len(steps) > at_step:
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
            return super().loss(inputs_BT, targets_BT, reduction)

    training.GPTModel = Small
    return wikigpt(command, datafolder)


def test_out_of_memory_on_one_rank_is_out_of_memory_on_all(data, tmp_path, ranks):
    assert ranks(1, "--run one") == [0]
    command = training_command("--drop_rate 0 --threads 1 --run r", LENGTH)
    processes = start(2, tmp_path, with_little_memory, data.path.parent, command, 1, 1)
    assert finish(processes) == [0, 0], said(tmp_path)
    assert "out of memory: from here on batch_size 2 x 4 accumulated" in said(tmp_path)
    assert losses(tmp_path / "models/r") == pytest.approx(losses(tmp_path / "models/one"), rel=1e-5)


def test_out_of_memory_in_the_middle_of_a_step_ends_all_with_what_to_do(data, tmp_path):
    command = training_command("--drop_rate 0 --threads 1 --run r", LENGTH)
    processes = start(2, tmp_path, with_little_memory, data.path.parent, command, 1, 7)
    assert finish(processes, 30) in ([1, 2], [2, 2])
    assert "rank 1: Rank 1 on" in said(tmp_path, 1) and "Go on with --batch_size" in said(tmp_path, 1)


def diverging(number, datafolder, command):
    from wikigpt import train as training

    real, steps = training.training_step, []

    def broken_at_7(*given):
        steps.append(real(*given))
        return torch.full((2,), float("nan")) if len(steps) == 7 else steps[-1]

    training.training_step = broken_at_7
    return wikigpt(command, datafolder)


def test_mistakes_are_said_once_and_end_all(data, tmp_path, ranks):
    assert ranks(2, "--run r --emb_dim 33") == [2, 2]
    assert len(said(tmp_path).strip().splitlines()) <= 3 and "emb_dim 33" in said(tmp_path) and not said(tmp_path, 1)
    assert ranks(2, "--run r --batch_size 1") == [2, 2]
    assert "A step has 1 windows, which 2 processes cannot share out" in said(tmp_path)
    assert ranks(1, "--run r --parallel fsdp") == [2] and "is for several processes" in said(tmp_path)
    assert ranks(2, "--run r --parallel tp") == [2, 2] and "called 'tp'" in said(tmp_path)
    assert not (tmp_path / "models").exists()
    assert ranks(2, "--run r", work=diverging) == [2, 2]
    assert "The loss is nan and its gradient nan at step 7" in said(tmp_path).splitlines()[-1]


def elsewhere(number, datafolder, command):
    Path(f"machine{number}").mkdir()
    os.chdir(f"machine{number}")
    if number == 0:
        Path("dataset").symlink_to(datafolder)
    return wikigpt(command, Path("dataset"))


def test_data_that_one_machine_lacks_is_said_by_the_first_rank(data, tmp_path):
    command = training_command("--drop_rate 0 --threads 1 --run r", LENGTH)
    processes = start(2, tmp_path, elsewhere, data.path.parent, command)
    assert finish(processes, 30) == [2, 2]
    assert f"Rank 1 on {socket.gethostname()}: " in said(tmp_path) and not said(tmp_path, 1)
    assert not list(tmp_path.glob("*/models"))


def test_torchrun_and_the_script(data, tmp_path):
    """As the README has it; each step by hand is above."""
    (tmp_path / "dataset").symlink_to(data.path.parent)
    root = Path(__file__).parent.parent
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    flags = training_command("--drop_rate 0 --threads 1 --run_name r --json").split()[1:]
    done = subprocess.run(
        [*torchrun, str(root / "gpt_train.py"), *flags], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert '"finished": true' in done.stdout and len(done.stdout.splitlines()) == 1
    assert "2 x" in done.stderr and done.stderr.count("finished: models/r") == 1
