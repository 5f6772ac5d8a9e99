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
from wikigpt.watch import Watch

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
        command = training_command(f"--device cpu --drop_rate 0 --threads 1 {flags}", length)
        return finish(start(size, tmp_path, work, data.path.parent, command))

    return train_on


def difference(one, other):
    """The relative difference between two runs' newest checkpoints: of all weights, or of all moments, as one vector. Not of
    each tensor: the bias of keys has no gradient but for rounding, of which AdamW makes whole steps."""
    worst = 0.0
    for name, tensors in state(one).items():
        ours, others = load(tensors), load(state(other)[name])
        assert ours.keys() == others.keys()
        a, b = (torch.cat([ts[key].float().flatten() for key in ours]) for ts in (ours, others))
        worst = max(worst, float((a - b).norm() / a.norm()))
    return worst


def losses(run):
    return [row["loss"] for row in read_metrics(run, "train")]


def test_two_ranks_train_the_same_model_as_one(ranks, tmp_path):
    """In parts; whole models are below, with torchrun, and the slow test has the rest."""
    models = tmp_path / "models"
    assert ranks(1, f"--run one {MODERN}") == [0]
    assert ranks(2, f"--run two --parallel fsdp {MODERN}") == [0, 0], said(tmp_path)
    assert difference(models / "one", models / "two") < 1e-4
    assert losses(models / "two") == pytest.approx(losses(models / "one"), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags, bound",
    [
        ("--optimizer adamw", 1e-5),
        (f"--optimizer muon {MODERN} --emb_dim 44 --head_dim 14", 1e-4),  # rows that no number of ranks divides
        ("--optimizer muon --n_layers 5", 1e-4),
        ("--optimizer muon --dtype bfloat16", 1e-2),
        (f"--optimizer muon --dtype bfloat16 --backend plain {MODERN}", 1e-2),
        ("--optimizer adamw --dtype bfloat16 --backend plain", 1e-2),
        (f"--optimizer muon --activation_checkpointing True {MODERN}", 1e-4),
    ],
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
        if "bfloat16" not in flags:
            assert difference(models / "one", models / f"parts{size}") < bound
        assert losses(models / f"parts{size}") == pytest.approx(losses(models / "one"), rel=max(bound, 1e-5))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_compiled_blocks_train_the_same_on_two_ranks(ranks, tmp_path, how):
    flags = f"--backend compiled --activation_checkpointing True {MODERN} --n_layers 2"
    assert ranks(1, f"--run one {MODERN} --n_layers 2") == [0]
    assert ranks(2, f"--run two --parallel {how} {flags}") == [0, 0], said(tmp_path)
    assert losses(tmp_path / "models/two") == pytest.approx(losses(tmp_path / "models/one"), rel=1e-4)


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.parametrize("how", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp"])
def test_a_stop_asked_of_one_rank_stops_all(data, tmp_path, how):
    command = training_command(f"--device cpu --drop_rate 0 --threads 1 --run r --parallel {how}", LONG)
    processes = start(2, tmp_path, train_here, data.path.parent, command)
    metrics = tmp_path / "models/r/metrics.jsonl"
    wait_for(metrics, '"step": 10,')
    os.kill(processes[1].pid, signal.SIGTERM)
    assert finish(processes, 30) == [130, 130]
    steps = len(read_metrics(tmp_path / "models/r", "train"))
    assert (tmp_path / "models/r/latest").read_text() == f"step_{steps:08d}\n"


@pytest.mark.slow
@pytest.mark.parametrize("dying, speaking", [(1, 0), (0, 1)])
def test_a_rank_that_dies_ends_the_others_and_is_named(data, tmp_path, dying, speaking):
    command = training_command("--device cpu --drop_rate 0 --threads 1 --run r", LONG)
    processes = start(3, tmp_path, train_here, data.path.parent, command)
    wait_for(tmp_path / "models/r/metrics.jsonl", '"step": 10,')
    os.kill(processes[dying].pid, signal.SIGKILL)
    codes = finish(processes, 20)
    assert codes.pop(dying) == -signal.SIGKILL and codes == [1, 1]
    expected = "Rank 1 on" if dying else "which holds the others together"  # here the first rank holds the store
    assert expected in said(tmp_path, speaking) and "goes on from the last checkpoint" in said(tmp_path, speaking)
    assert "Traceback" not in said(tmp_path, speaking)


@pytest.mark.slow
@pytest.mark.parametrize("hanging, said_then", [(1, "Rank 1 on"), (0, "which holds the others together")])
def test_a_rank_that_hangs_ends_the_others_too(data, tmp_path, hanging, said_then):
    """Stopped, not dead, as behind a network that is cut: its connections stay open, so only its silence tells."""
    command = training_command("--device cpu --drop_rate 0 --threads 1 --run r", LONG)
    processes = start(2, tmp_path, train_here, data.path.parent, command)
    wait_for(tmp_path / "models/r/metrics.jsonl", '"step": 10,')
    os.kill(processes[hanging].pid, signal.SIGSTOP)
    processes[1 - hanging].join(20)
    assert processes[1 - hanging].exitcode == 1 and said_then in said(tmp_path, 1 - hanging)
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


@pytest.mark.slow
def test_out_of_memory_on_one_rank_is_out_of_memory_on_all(data, tmp_path, ranks):
    assert ranks(1, "--run one") == [0]
    command = training_command("--device cpu --drop_rate 0 --threads 1 --run r", LENGTH)
    processes = start(2, tmp_path, with_little_memory, data.path.parent, command, 1, 1)
    assert finish(processes) == [0, 0], said(tmp_path)
    assert "out of memory: from here on batch_size 2 x 4 accumulated" in said(tmp_path)
    assert losses(tmp_path / "models/r") == pytest.approx(losses(tmp_path / "models/one"), rel=1e-5)


@pytest.mark.slow
def test_out_of_memory_in_the_middle_of_a_step_ends_all_with_what_to_do(data, tmp_path):
    command = training_command("--device cpu --drop_rate 0 --threads 1 --run r", LENGTH)
    processes = start(2, tmp_path, with_little_memory, data.path.parent, command, 1, 7)
    assert finish(processes, 30) in ([1, 2], [2, 2])
    assert "rank 1: A forward pass of 4 windows needs more memory" in said(tmp_path, 1)
    assert "Go on with --batch_size 2 --gradient_accumulation_steps 4" in said(tmp_path, 1)


def try_a_size(number, datafolder, size):
    """Whether so many windows fit, of a model of which the second rank cannot hold more than two."""
    from wikigpt import trial
    from wikigpt.config import TRAINING_SETTINGS, ModelConfig, TrainingSettings
    from wikigpt.data.shards import find_data
    from wikigpt.hardware import Machine
    from wikigpt.parallel import joined
    from wikigpt.transformer import GPTModel

    class Small(GPTModel):
        def loss(self, inputs_BT, targets_BT, reduction="mean"):
            if number == 1 and len(inputs_BT) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
            return super().loss(inputs_BT, targets_BT, reduction)

    trial.GPTModel = Small
    data = find_data(str(datafolder), "es")
    with joined("cpu") as world:
        machine = Machine("cpu", "", "float32", "", 1, 2**34, 1e11, "", "plain", world)
        model = ModelConfig(data.vocab_size, 16, 24, 3, 2, 0.0, True)
        settings = TrainingSettings(**TRAINING_SETTINGS["fast"])
        print(trial._fits(model, settings, size, data, machine, 0))
    return 0


@pytest.mark.slow
def test_what_is_tried_must_fit_on_every_rank(data, tmp_path):
    for size, fits in ((2, "True"), (4, "False")):
        assert finish(start(2, tmp_path, try_a_size, data.path.parent, size)) == [0, 0], said(tmp_path)
        assert [(tmp_path / f"stdout.{n}").read_text().strip() for n in (0, 1)] == [fits, fits]


def diverging(number, datafolder, command):
    from wikigpt import train as training

    real, steps = training.training_step, []

    def broken_at_7(*given):
        steps.append(real(*given))
        return torch.full((2,), float("nan")) if len(steps) == 7 else steps[-1]

    training.training_step = broken_at_7
    return wikigpt(command, datafolder)


@pytest.mark.slow
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
    command = training_command("--device cpu --drop_rate 0 --threads 1 --run r", LENGTH)
    processes = start(2, tmp_path, elsewhere, data.path.parent, command)
    assert finish(processes, 30) == [2, 2]
    assert f"Rank 1 on {socket.gethostname()}: " in said(tmp_path) and not said(tmp_path, 1)
    assert not list(tmp_path.glob("*/models"))


@pytest.mark.slow
def test_torchrun_and_the_script(data, train, tmp_path):
    """As the README has it."""
    assert train("--drop_rate 0 --run one") == 0
    (tmp_path / "dataset").symlink_to(data.path.parent)
    root = Path(__file__).parent.parent
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    flags = training_command("--device cpu --drop_rate 0 --threads 1 --run_name r --json").split()[1:]
    done = subprocess.run(
        [*torchrun, str(root / "gpt_train.py"), *flags], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert '"finished": true' in done.stdout and len(done.stdout.splitlines()) == 1
    assert difference(tmp_path / "models/one", tmp_path / "models/r") < 1e-4
    assert "2 x" in done.stderr and done.stderr.count("finished: models/r") == 1


def test_what_every_process_of_a_machine_meets_is_said_once(tmp_path):
    processes = start(2, tmp_path, train_here, tmp_path, "train --nonsense --json")
    assert finish(processes, 30) == [2, 2]
    assert "There is no flag" in said(tmp_path) and not said(tmp_path, 1)
    assert (tmp_path / "stdout.0").read_text().count("error") == 1 and not (tmp_path / "stdout.1").read_text()


def impatient(_, datafolder, command):
    from datetime import timedelta

    from wikigpt import parallel

    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # as under torchrun, which holds the store
    parallel.MEETING = timedelta(seconds=3)
    return wikigpt(command, datafolder)


@pytest.mark.slow
def test_ranks_that_do_not_come_are_named(data, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = torch.distributed.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)
    command = training_command("--device cpu --threads 1 --run r", LENGTH)
    lonely = FORKS.Process(target=rank, args=(0, 3, port, (impatient, data.path.parent, command), tmp_path))
    lonely.start()
    assert finish([lonely], 60) == [2]
    assert f"Of 3 ranks 1, 2 did not come to 127.0.0.1:{port}" in said(tmp_path)
    assert not (tmp_path / "models").exists()
    del store


@pytest.mark.slow
def test_hours_a_trace_and_other_weights_are_the_same_on_all_ranks(ranks, tmp_path):
    models = tmp_path / "models"
    assert ranks(1, "--run first") == [0]
    timed = "--batch_size 8 --hours 0.0003 --eval_tokens 500 --warmup_steps 4"
    for how in ("ddp", "fsdp"):
        assert ranks(2, f"--run {how} --parallel {how} --init_from first --profile", timed) == [0, 0], said(tmp_path)
        assert (models / how / "trace.json").stat().st_size > 1000
        before = read_metrics(models / "first", "final")[0]["loss"]
        assert read_metrics(models / how, "validation")[0]["loss"] == pytest.approx(before, rel=0.05)
    few = LENGTH.replace("12", "1").replace("warmup_steps 4", "warmup_steps 4 --learning_rate 1e-9")
    for how in ("ddp", "fsdp"):
        tiny = "--matrix_learning_rate 1e-9 --init_from first"
        assert ranks(2, f"--run same_{how} --parallel {how} {tiny}", few) == [0, 0]
        first, same = (load(state(models / run)["model.safetensors"]) for run in ("first", f"same_{how}"))
        assert all(torch.allclose(first[name], same[name], atol=1e-6) for name in first)


def with_a_full_disk(number, datafolder, command):
    import wikigpt.checkpoint as checkpoint

    def full(*_):
        raise OSError(28, "No space left on device")

    checkpoint.save_file = full
    return wikigpt(command, datafolder)


@pytest.mark.slow
def test_a_full_disk_of_the_first_rank_ends_all(ranks, tmp_path):
    assert ranks(2, "--run r", work=with_a_full_disk) == [2, 1]
    assert "The disk is full" in said(tmp_path).splitlines()[-1] and not said(tmp_path, 1)


DIES_ONCE = """
import os, signal, sys
from wikigpt import cli, train
real = train.training_step
def step(*given):
    step.count += 1
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and step.count == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*given)
step.count = 0
train.training_step = step
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_torchrun_starts_anew_from_the_last_checkpoint(data, tmp_path):
    """Also with --fresh, which is for the first time only."""
    (tmp_path / "dataset").symlink_to(data.path.parent)
    (tmp_path / "dies_once.py").write_text(DIES_ONCE)
    flags = training_command("--device cpu --drop_rate 0 --threads 1 --run_name r --fresh").split()
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--max-restarts=1"]
    done = subprocess.run(
        [*torchrun, "dies_once.py", *flags], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "continuing models/r" in done.stderr
    steps = [row["step"] for row in read_metrics(tmp_path / "models/r", "train")]
    assert steps == list(range(1, 13))


def memory_of(number, how, model_config, batch_size):
    """Bytes that PyTorch has in use at the most in two steps of a rank, and what the plan says."""
    from wikigpt.backend import training_net
    from wikigpt.config import MODEL_CONFIGS, TRAINING_SETTINGS, ModelConfig, TrainingSettings, from_preset
    from wikigpt.data.loader import Batch
    from wikigpt.hardware import Machine
    from wikigpt.optim import make_optimizer, training_step
    from wikigpt.parallel import joined
    from wikigpt.plan import memory
    from wikigpt.transformer import GPTModel

    with joined("cpu") as world:
        machine = Machine("cpu", "", "bfloat16", "", 1, 2**34, 1e11, "", "kernels", world)
        torch.set_num_threads(1)
        config = from_preset(ModelConfig, MODEL_CONFIGS, model_config, {})
        parts = {"batch_size": batch_size, "gradient_accumulation_steps": 2}
        training = from_preset(TrainingSettings, TRAINING_SETTINGS, "small_models", parts)
        with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            model = GPTModel(config)
            net = training_net(model, machine, how)
            optimizer = make_optimizer(model, training, "bfloat16", world)
            scaler = torch.amp.GradScaler("cpu", enabled=False)
            for _ in range(2):
                tokens = torch.randint(config.vocab_size, (batch_size, config.context_length + 1))
                training_step(net, optimizer, scaler, Batch(tokens[:, :-1], tokens[:, 1:]), training, machine)
        used = most = 0
        for event in sorted(profiler.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
            if event.name() == "[memory]":
                used += event.nbytes()
                most = max(most, used)
        print(most, memory(config, training, "bfloat16", "cpu", world.size, how, kernels=True).total)
    return 0


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_memory_of_a_rank_is_what_the_plan_says(tmp_path, how):
    assert finish(start(2, tmp_path, memory_of, how, "modern_small", 4)) == [0, 0], said(tmp_path)
    measured, planned = map(float, (tmp_path / "stdout.0").read_text().split())
    assert planned == pytest.approx(measured, rel=0.15)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two NVIDIA cards")
@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_two_cards_train_the_same_model_as_one(data, tmp_path, how):
    for size in (1, 2):
        more = f"--parallel {how}" if size > 1 else ""
        command = training_command(f"--device cuda --drop_rate 0 --backend plain --run r{size} {more}", LENGTH)
        assert finish(start(size, tmp_path, train_here, data.path.parent, command)) == [0] * size, said(tmp_path)
    assert losses(tmp_path / "models/r2") == pytest.approx(losses(tmp_path / "models/r1"), rel=1e-4)
