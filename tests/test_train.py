"""A run keeps its contract: its rows, its settings, and what it does with numbers that cannot be."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers import state, wikigpt

from wikigpt import config as defaults
from wikigpt import hardware, settle, trial
from wikigpt import train as training
from wikigpt.cards import Card, card_called
from wikigpt.config import RunConfig
from wikigpt.errors import ConfigError
from wikigpt.hardware import detect
from wikigpt.metrics import MetricsLog, read_metrics
from wikigpt.parallel import World
from wikigpt.plan import choose_model, choose_training, flops_per_token, memory, parts_that_fit
from wikigpt.transformer import GPTModel
from wikigpt.trial import fitting_batch


def test_the_rows_are_the_contract(train, tmp_path):
    assert train("--run r") == 0
    run = tmp_path / "models" / "r"
    rows = read_metrics(run, "train")
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert set(rows[0]) == {
        "kind", "step", "tokens", "flops", "seconds", "loss", "learning_rate", "grad_norm", "tokens_per_second", "mfu",
        "memory", "data_seconds", "data_share",
    }  # fmt: skip
    config = RunConfig.load(run / "run.json")
    assert rows[4]["tokens"] == 5 * 8 * 32
    assert rows[4]["flops"] == 5 * 8 * 32 * flops_per_token(config.model)
    peak = config.training.learning_rate
    assert rows[3]["learning_rate"] == peak and rows[0]["learning_rate"] == peak / 4
    assert rows[-1]["loss"] < rows[0]["loss"]
    validation = read_metrics(run, "validation")
    assert [row["step"] for row in validation] == [0, 4, 8, 12]
    assert validation[0]["part"] == "validation, first 500 tokens"
    assert validation[0]["scored_tokens"] == 500 and validation[3]["tokens"] == 12 * 8 * 32
    assert 0 < validation[0]["bigram_bits_per_byte"] < validation[0]["bits_per_byte"]
    (final,) = read_metrics(run, "final")
    assert final["tokens"] == 12 * 8 * 32 and 0 < final["bigram_bits_per_byte"] < final["bits_per_byte"]
    samples = (run / "samples.md").read_text()
    assert [line for line in samples.splitlines() if line.startswith("## ")] == [
        f"## Step {n}" for n in (0, 1, 2, 4, 8, 12)
    ]
    assert samples.count("\n**") == 6 * 5
    assert (run / "loss.png").read_bytes()[:4] == b"\x89PNG"
    assert all(0 <= row["data_share"] < 0.5 for row in rows)
    log = (run / "train.log").read_text()
    assert re.search(
        r"time: [\d.]+ s in steps \([\d.]+% of it for data\), [\d.]+ s evaluating, [\d.]+ s sampling, ", log
    )
    assert "12 steps" in log and "machine: cpu" in log and "step 8: validation loss" in log
    assert (run / "latest").read_text() == "step_00000012\n"


def test_a_seed_is_a_run(train, tmp_path):
    train("--run a --seed 1"), train("--run b --seed 2")
    assert state(tmp_path / "models" / "a") != state(tmp_path / "models" / "b")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--vocab_size 50257", "does not match the tokenizer"),
        ("--n_heads 5", "cannot be shared out"),
        ("--context_length 9999999", "less than two contexts"),
        ("--hours 1", "Give one of them"),
        ("--num_epochs 2", "--max_steps and --num_epochs were given together"),
        ("--seed -1", "seed is -1"),
        ("--eval_tokens 0", "eval_tokens is 0"),
        ("--threads -1", "threads is -1"),
        ("--device cuda", "There is no device 'cuda' here"),
        ("--dtype float8", "There is no dtype"),
        ("--schedule linear", "cosine, wsd, constant"),
        ("--max_steps 0", "max_steps is 0"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(train, tmp_path, capsys, flags, says):
    assert train(f"--run r {flags}") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert says in lines[-1]
    assert not (tmp_path / "models").exists()


def test_the_vocabulary_follows_the_data(train, tmp_path, data, capsys):
    assert train("--run r --max_steps 1") == 0
    assert RunConfig.load(tmp_path / "models/r/run.json").model.vocab_size == data.vocab_size == 1000
    assert "vocab_size: 1,000, from the data's tokenizer" in capsys.readouterr().err


def test_epochs_and_hours_become_steps(train, tmp_path, data):
    tokens = data.manifest["splits"]["train"]["tokens"]
    assert train("--run e --num_epochs 0.01", length="--batch_size 8 --eval_every 999") == 0
    assert steps(tmp_path, "e") == pytest.approx(0.01 * tokens / 32 / 8, abs=1.1)
    assert train("--run h --hours 0.0005", length="--batch_size 8 --eval_every 999") == 0
    settled = steps(tmp_path, "h")
    assert settled > 1
    # Not timed again: the length is settled once.
    assert train("--run h --hours 0.0005", length="--batch_size 8 --eval_every 999") == 0
    assert steps(tmp_path, "h") == settled


def steps(tmp_path, run):
    return RunConfig.load(tmp_path / "models" / run / "run.json").total_steps


def test_a_torn_last_row_spoils_no_other(tmp_path):
    MetricsLog(tmp_path).write("train", step=1, loss=3.0)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 2, "lo')
    log = MetricsLog(tmp_path)
    log.write("train", step=2, loss=2.0)
    log.write("train", step=2, loss=1.5)
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path, "train")] == [(1, 3.0), (2, 1.5)]


def test_a_folder_that_is_no_run_is_left_alone(train, tmp_path, capsys):
    (tmp_path / "models" / "r").mkdir(parents=True)
    (tmp_path / "models" / "r" / "thesis.txt").write_text("mine")
    assert train("--run r --fresh") == 2 and "is no run" in capsys.readouterr().err
    assert (tmp_path / "models" / "r" / "thesis.txt").read_text() == "mine"


def test_a_loss_that_is_no_number_stops_the_run_with_a_way_out(train, tmp_path, capsys):
    assert train("--run r --learning_rate 1e30 --max_grad_norm 0 --warmup_steps 0 --eval_every 99") == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--learning_rate" in message and "--fresh" in message
    assert "--fresh" in (tmp_path / "models" / "r" / "train.log").read_text()


@pytest.mark.parametrize(("native", "dtype"), [(True, "bfloat16"), (False, "float16")])
def test_an_emulated_bfloat16_does_not_count(monkeypatch, native, dtype):
    """As a T4 has it: is_bf16_supported() says yes, and without emulation no."""
    properties = SimpleNamespace(total_memory=2**34)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    machine = detect("cuda")
    assert (machine.dtype, machine.peak_flops, machine.peak_source) == (dtype, 65e12, "datasheet")


def test_a_card_that_torch_cannot_use_gets_the_command_that_mends_it(monkeypatch):
    said = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(hardware.shutil, "which", lambda name: "/usr/bin/" + name)
    monkeypatch.setattr(hardware.logger, "warning", said.append)
    hardware.choose_device(None)
    assert len(said) == 1 and f"install torch=={torch.__version__.split('+')[0]}" in said[0]


def test_a_short_card_name_inside_a_longer_one_does_not_count():
    assert card_called("NVIDIA RTX A1000 Laptop GPU") is card_called("NVIDIA T400") is None
    assert card_called("NVIDIA H100 PCIe").flops == 756e12 and card_called("NVIDIA H100 80GB HBM3").flops == 989e12


def test_the_machine_is_asked_what_it_can():
    machine = detect("cpu")
    assert machine.dtype in ("float32", "bfloat16") and re.search("times as fast|emulated", machine.dtype_reason)
    assert machine.peak_flops > 1e9 and machine.threads >= 1
    assert detect("cpu", "float32").dtype == "float32"


def test_a_larger_machine_gets_a_larger_model_and_a_small_one_a_smaller_batch(data, machine):
    gpt2 = defaults.ModelConfig(**defaults.MODEL_CONFIGS["gpt2_original"])
    settings = defaults.TrainingSettings(**defaults.TRAINING_SETTINGS["large_models"])
    assert choose_model("cuda", 80 * 2**30, 10**9)[0] == "modern_124m"
    assert choose_model("cuda", 80 * 2**30, 10**6)[0] == choose_model("cuda", 4 * 2**30, 10**9)[0] == "modern_small"
    assert choose_model("cpu", 24 * 2**30, 10**9)[0] == "modern_tiny"
    tiny = defaults.ModelConfig(**defaults.MODEL_CONFIGS["tiny"])
    assert (
        choose_training("tiny", tiny, "cuda", 10**9)[0]
        == choose_training("tiny", tiny, "cpu", 10**6)[0]
        == "small_models"
    )
    assert choose_training("g", gpt2, "cuda", 10**9)[0] == "large_models"
    assert choose_training("modern_124m", gpt2, "cuda", 10**9)[0] == "modern_124m"
    assert choose_training("modern_small", gpt2, "cuda", 10**9)[0] == "large_models"  # large by its vocabulary alone
    assert choose_training("g", gpt2, "cpu", 10**9)[0] == choose_training("g", gpt2, "cuda", 10**6)[0] == "fast"
    assert fitting_batch(gpt2, settings, data, replace(machine, memory=80 * 2**30), 0) == settings
    fitted = fitting_batch(gpt2, settings, data, replace(machine, memory=8 * 2**30), 0)
    assert fitted.batch_size < 16 and fitted.batch_size * fitted.gradient_accumulation_steps == 16 * 32
    assert memory(gpt2, fitted, "float32", "cpu").total < 8 * 2**30


def test_a_model_that_does_not_fit_is_shared_out(machine, data):
    model = defaults.ModelConfig(**defaults.MODEL_CONFIGS["modern_1b"])
    trained = defaults.TrainingSettings(**defaults.TRAINING_SETTINGS["modern_1b"])
    two = World(0, 2)

    def how(gibibytes, **request):
        on_two = replace(machine, device="cuda", dtype="bfloat16", memory=gibibytes * 2**30, world=two)
        return settle._parallel(settle.Request("modern_1b", "modern_1b", **request), model, trained, on_two, None)

    assert how(80) == "ddp" and how(12) == "fsdp" and how(80, parallel="fsdp") == "fsdp"
    with pytest.raises(ConfigError, match="float16"):
        on_t4 = replace(machine, device="cuda", dtype="float16", memory=12 * 2**30, world=two)
        settle._parallel(settle.Request("modern_1b", "modern_1b"), model, trained, on_t4, None)
    # In parts, without a trial: what the plan foresees for such cards.
    card = Card("small", 1e12, 24 * 2**30)
    planned, way, recompute = parts_that_fit(model, trained, card, 2, "bfloat16")
    small = replace(machine, device="cuda", dtype="bfloat16", memory=card.memory, world=two)
    fitted = fitting_batch(model, trained, data, small, 0, "fsdp", recompute)
    assert fitted.windows_per_step == trained.windows_per_step and fitted.batch_size > 1
    needed = [
        memory(model, trained.in_parts_of(n), "bfloat16", "cuda", 2, "fsdp", recompute).total
        for n in (fitted.batch_size, 2 * fitted.batch_size)
    ]
    assert needed[0] < 0.9 * card.memory < needed[1]
    assert way == "ddp" or planned == fitted


class Late(training.Report):
    """As on an NVIDIA card."""

    def __init__(self, *given):
        super().__init__(*given)
        self.behind = 1


def written(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_rows_that_come_a_step_late_are_the_same_and_so_is_the_end(train, tmp_path, monkeypatch, capsys):
    assert train("--run a") == 0
    monkeypatch.setattr(training, "Report", Late)
    assert train("--run b") == 0
    assert state(tmp_path / "models/a") == state(tmp_path / "models/b")
    ours, late = (read_metrics(tmp_path / "models" / run, "train") for run in "ab")
    order = [[(row["kind"], row["step"]) for row in written(tmp_path / "models" / run)] for run in "ab"]
    assert order[0] == order[1]  # nothing is measured or saved while a row is still to come
    assert [(row["step"], row["loss"]) for row in late] == [(row["step"], row["loss"]) for row in ours]
    assert all(row["seconds"] > 0 and row["tokens_per_second"] > 0 for row in late)


def test_no_checkpoint_holds_a_step_whose_loss_was_not_looked_at(train, tmp_path, monkeypatch, capsys):
    real, steps = training.training_step, []

    def broken_at_7(*given):
        steps.append(real(*given))
        return torch.full((2,), float("nan")) if len(steps) == 7 else steps[-1]

    monkeypatch.setattr(training, "training_step", broken_at_7)
    monkeypatch.setattr(training, "Report", Late)
    assert train("--run r", "--batch_size 8 --max_steps 12 --eval_every 99 --save_every 1") == 2
    assert "The loss is nan and its gradient nan at step 7" in capsys.readouterr().err.splitlines()[-1]
    saved = sorted(path.name for path in (tmp_path / "models/r/checkpoints").glob("step_*"))
    assert saved == ["step_00000005", "step_00000006"]


class Small(GPTModel):
    """A model on a card that holds two windows at once."""

    MOST = 2

    def loss(self, inputs_BT, targets_BT, reduction="mean"):
        if len(inputs_BT) > self.MOST and self.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return super().loss(inputs_BT, targets_BT, reduction)


@pytest.mark.slow
def test_on_a_card_the_largest_part_is_found_by_trying(data, machine, nano, monkeypatch):
    monkeypatch.setattr(trial, "GPTModel", Small)
    model = replace(nano, vocab_size=data.vocab_size)
    settings = defaults.TrainingSettings(**defaults.TRAINING_SETTINGS["fast"])
    assert trial._fits(model, settings, 2, data, machine, 0) and not trial._fits(model, settings, 4, data, machine, 0)
    assert not trial._fits(model, settings, 2, data, replace(machine, memory=2**20), 0)
    tried = []

    def fits(config, settings, batch_size, *_):
        tried.append(batch_size)
        return batch_size <= 5

    monkeypatch.setattr(trial, "_fits", fits)
    on_card = replace(machine, device="cuda")
    fitted = fitting_batch(model, replace(settings, batch_size=6, gradient_accumulation_steps=3), data, on_card, 0)
    assert (fitted.batch_size, fitted.gradient_accumulation_steps) == (3, 6) and tried == [18, 9, 6, 3]
    monkeypatch.setattr(trial, "_fits", lambda *_: False)
    assert fitting_batch(model, settings, data, on_card, 0) is None


@pytest.mark.slow
def test_out_of_memory_halves_what_is_in_it_and_the_steps_stay_the_same(train, tmp_path, monkeypatch, capsys):
    length = "--max_steps 6 --warmup_steps 2 --eval_every 3 --eval_tokens 500"
    assert train("--run a --batch_size 2 --gradient_accumulation_steps 4", length) == 0
    monkeypatch.setattr(training, "GPTModel", Small)
    assert train("--run b --batch_size 8", length) == 0
    assert "out of memory: from here on batch_size 2 x 4 accumulated" in capsys.readouterr().err
    assert state(tmp_path / "models/a") == state(tmp_path / "models/b")
    rows = [[(row["kind"], row["step"], row.get("loss")) for row in written(tmp_path / "models" / run)] for run in "ab"]
    assert rows[0] == rows[1]
    after = RunConfig.load(tmp_path / "models/b/run.json").training
    assert (after.batch_size, after.gradient_accumulation_steps) == (2, 4)
    longer = length.replace("--max_steps 6", "--max_steps 7")
    assert train("--run b --batch_size 8", longer) == 0  # the same command is no other run
    assert "continuing with another batch_size: 2 -> 8" in capsys.readouterr().err
    assert train("--run c --batch_size 3", length) == 0  # an odd number too
    assert "batch_size 1 x 3 accumulated" in capsys.readouterr().err
    monkeypatch.setattr(Small, "MOST", 0)
    assert train("--run d --batch_size 2", length) == 2
    assert "needs more memory than there is" in capsys.readouterr().err.splitlines()[-1]


QUICK = "--max_steps 2 --batch_size 2 --eval_tokens 100 --dtype float32 --threads 2"


@pytest.mark.slow
def test_one_number_is_a_model_and_its_training(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert wikigpt(f"train --depth 2 {QUICK}", data.path.parent) == 0
    config = RunConfig.load(tmp_path / f"models/{data.name}-depth_2/run.json")
    assert (config.model.n_layers, config.model.emb_dim, config.model.arch) == (2, 128, "qwen3")
    assert config.training_setting == "depth_2" and config.training.tokens_per_parameter == 20
    assert wikigpt(f"train --run {data.name}-depth_2 --max_steps 3", data.path.parent) == 0  # the name is enough
    assert wikigpt(f"train --depth 2 --model_config tiny {QUICK}", data.path.parent) == 2
    assert "were given together" in capsys.readouterr().err
    assert wikigpt(f"train --depth 0 {QUICK}", data.path.parent) == 2
    assert "--depth is 0" in capsys.readouterr().err


@pytest.mark.slow
def test_tokens_per_parameter_end_a_run_before_its_epochs(train, tmp_path, data, capsys):
    short = "--batch_size 8 --eval_every 999"
    parameters = 45_792
    assert train("--run t --tokens_per_parameter 0.2", short) == 0
    assert steps(tmp_path, "t") == -(-0.2 * parameters // (8 * 32))
    assert train("--run t --tokens_per_parameter 0.3", short) == 0  # a longer budget goes on
    assert steps(tmp_path, "t") == -(-0.3 * parameters // (8 * 32))
    assert train("--run both --tokens_per_parameter 0.2 --num_epochs 0.01", short) == 0
    assert steps(tmp_path, "both") == -(-0.2 * parameters // (8 * 32))
    # Another model has other parameters, so the budget is another.
    larger = "train --like t --run u --n_layers 2 --batch_size 8 --eval_every 999"
    assert wikigpt(larger, data.path.parent) == 0
    config = RunConfig.load(tmp_path / "models/u/run.json")
    assert config.total_steps == -(-0.3 * config.model.n_parameters // (8 * 32)) and config.length.startswith("0.3 tok")


@pytest.mark.slow
def test_a_run_of_before_the_modern_model_goes_on(train, tmp_path):
    """Its run.json lacks the fields that came later."""
    assert train("--run r --optimizer adamw --schedule cosine --max_steps 3") == 0
    assert train("--run old --optimizer adamw --schedule cosine --max_steps 2") == 0
    path = tmp_path / "models/old/run.json"
    record = json.loads(path.read_text())
    for name in ("arch", "n_kv_heads", "head_dim", "ffn_dim", "rope_theta", "tie_embeddings"):
        del record["model"][name]
    for name in ("optimizer", "matrix_learning_rate", "momentum", "zero_init", "decay_share", "tokens_per_parameter"):
        del record["training"][name]
    path.write_text(json.dumps(record))
    config = RunConfig.load(path)
    assert (config.model.arch, config.model.ffn_dim, config.training.optimizer) == ("gpt2", 128, "adamw")
    assert wikigpt("train --run old --max_steps 3", path.parents[2] / "nowhere") == 0
    assert RunConfig.load(path).total_steps == 3


def test_run_json_names_everything_back(train, tmp_path):
    train("--run r --max_steps 1")
    path = tmp_path / "models/r/run.json"
    config = RunConfig.load(path)
    assert json.loads(path.read_text())["training"]["schedule"] == "wsd"
    assert replace(config, seed=1) != config and RunConfig.load(path) == config
