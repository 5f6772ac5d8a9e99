"""`wikigpt plan`"""

import shlex
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import tyro

from wikigpt.cards import Card, card_called, find_card
from wikigpt.config import TOKENS_PER_PARAMETER, ModelConfig, TrainingSettings, from_preset, modern
from wikigpt.errors import ConfigError
from wikigpt.verbs.common import Common, Outcome, Settings

if TYPE_CHECKING:
    from wikigpt.plan import Plan as Figures


@dataclass
class Plan:
    """What a training run will cost, before it starts: memory, hours, money, text. All figures are estimates."""

    model_config: str | None = None
    """preset of the model; with --hours the largest modern one that is worth them, else modern_124m, unless given"""
    depth: int | None = None
    """instead: the modern model of so many layers"""
    training_setting: str | None = None
    """preset of the training; what goes with the model unless given"""
    gpu: str | None = None
    """h100, a100, rtx4090, rtx4060, ...; the one in this machine, else h100, unless given"""
    gpus: int = 1
    """how many"""
    hours: float | None = None
    """that there are"""
    price: float | None = None
    """of an hour of one GPU, in any currency"""
    mfu: float = 0.4
    """share of the datasheet's speed that training reaches; others' large runs reach 0.3 to 0.5 (docs/scaling.md)"""
    data: str | None = None
    """prepared data, by name or path: how much text there is, and its vocabulary"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt.data.shards import find_data
        from wikigpt.plan import make_plan, record

        self._check()
        card = self._card()
        data = find_data(settings.DATAFOLDER, self.data) if self.data is not None else None
        tokens, vocab_size = (data.training_tokens, data.vocab_size) if data is not None else (0, 50257)
        dtype = "float16" if card.name in NO_BFLOAT16 else "bfloat16"
        names, model, training = self._presets(settings, card, dtype, tokens, vocab_size)
        plan = make_plan(names, model, training, card, self.gpus, self.mfu, dtype, tokens)
        chosen = self.model_config is None and self.depth is None
        if self.hours is not None and not (chosen and plan.hours <= self.hours):
            plan = make_plan(names, model, training, card, self.gpus, self.mfu, dtype, tokens, self.hours)
        command = self._command(plan)
        cost = None if self.price is None else self.price * plan.hours * self.gpus
        warnings = _warnings(plan, tokens)
        if not self.common.json:
            self._print(plan, card, tokens, cost)
            for line in warnings:
                print(f"\n{line}")
            print(f"\n{command}")
        about = {"gpu": card.key, "gpus": self.gpus, "mfu": self.mfu, "data_tokens": tokens or None, "cost": cost}
        return Outcome({**about, **record(plan), "warnings": warnings, "command": command})

    def _check(self) -> None:
        for name in ("hours", "price", "mfu", "gpus"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{name} is {value}.", "Give a number above 0.")
        if self.mfu > 1:
            raise ConfigError(f"mfu is {self.mfu}.", "Give a share, up to 1.")
        if self.depth is not None and self.model_config is not None:
            raise ConfigError("--depth and --model_config were given together.", "Give one of them.")
        if self.gpus > 8 and self.gpus % 8:
            raise ConfigError(f"gpus is {self.gpus}.", "Give up to 8, or a multiple of 8: machines have 8 each here.")

    def _card(self) -> Card:
        """The card asked for, or what this machine has."""
        if self.gpu is not None:
            return find_card(self.gpu)
        if shutil.which("nvidia-smi"):
            command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            name, _, mebibytes = done.stdout.split("\n")[0].rpartition(", ")
            if done.returncode == 0 and (card := card_called(name)):
                return replace(card, memory=int(mebibytes) * 2**20)  # one name may be of two sizes
        return find_card("h100")

    def _presets(
        self, settings: Settings, card: Card, dtype: str, tokens: int, vocab_size: int
    ) -> tuple[tuple[str, str], ModelConfig, TrainingSettings]:
        from wikigpt.plan import MUCH_TEXT, best_depth, choose_training

        models, trainings = dict(settings.MODEL_CONFIGS), dict(settings.TRAINING_SETTINGS)
        name, depth = self.model_config, self.depth
        if name is None and depth is None and self.hours is not None:
            depth = best_depth(self.hours, card, self.gpus, self.mfu, dtype, vocab_size, tokens)
        if depth is not None:
            name = f"depth_{depth}"
            models[name], trainings[name] = modern(depth, vocab_size)
        name = name or "modern_124m"
        changes = {"vocab_size": vocab_size} if self.data is not None else {}
        model = from_preset(ModelConfig, models, name, changes)
        if self.training_setting is not None:
            setting = self.training_setting
        elif name in trainings:
            setting = name
        else:
            setting = choose_training(name, model, "cuda", tokens or int(MUCH_TEXT))[0]
        return (name, setting), model, from_preset(TrainingSettings, trainings, setting, {})

    def _command(self, plan: "Figures") -> str:
        """The line that trains exactly that; on each of several machines, with a number of its own."""
        words = ["wikigpt", "train"]
        if self.gpus > 1:
            many = (
                ["--standalone"]
                if self.gpus <= 8
                else [f"--nnodes={self.gpus // 8}", "--node_rank=N", "--master_addr=HOST"]
            )
            words = ["torchrun", *many, f"--nproc_per_node={min(self.gpus, 8)}", "-m", *words]
        words += [] if self.common.config is None else ["--config", str(self.common.config)]
        words += [] if self.data is None else ["--data", self.data]
        if plan.model_config.startswith("depth_"):
            words += ["--depth", plan.model_config.removeprefix("depth_")]
        else:
            words += ["--model_config", plan.model_config]
        if not (plan.model_config.startswith("depth_") and plan.training_setting == plan.model_config):
            words += ["--training_setting", plan.training_setting]
        if self.data is None and not plan.training.tokens_per_parameter and self.hours != plan.hours:
            words += ["--tokens_per_parameter", f"{TOKENS_PER_PARAMETER:g}"]  # or it would be epochs of what there is
        if self.hours == plan.hours:
            words += ["--hours", f"{self.hours:g}"]
        if plan.parallel == "fsdp":
            words += ["--parallel", "fsdp"]
        return shlex.join(words)

    def _print(self, plan: "Figures", card: Card, tokens: int, cost: float | None) -> None:
        from wikigpt.plan import flops_per_token, parameters_by_part

        model, training = plan.model, plan.training
        cards = f"{self.gpus} x {card.name}" if self.gpus > 1 else card.name
        print(f"{plan.model_config} on {cards}, {card.flops / 1e12:g} TFLOP/s and {card.memory / 2**30:.0f} GiB each\n")
        rows = [(name, f"{n:,}") for name, n in parameters_by_part(model).items() if n]
        _table("parameters", [*rows, ("all", f"{model.n_parameters:,}")])
        held = plan.memory
        parts = ("weights", "gradients", "optimizer", "activations", "logits")
        rows = [(part, f"{getattr(held, part) / 2**30:.2f}") for part in parts]
        _table("memory of a card, GiB", [*rows, ("at the most", f"{held.total / 2**30:.2f}")])
        share = training.windows_per_step // self.gpus or 1
        how = {"": "", "ddp": ", whole models (ddp)", "fsdp": ", models in parts (fsdp)"}[plan.parallel]
        how += ", with activation checkpointing" if plan.activation_checkpointing else ""
        step = f"{training.windows_per_step} x {model.context_length} tokens"
        rows = [
            ("a step", f"{step}, on a card {min(training.batch_size, share)} windows at once{how}"),
            ("FLOPs per token", f"{flops_per_token(model) / 1e9:.3f} billion"),
            ("tokens per second", f"{plan.tokens_per_second:,.0f} at an MFU of {self.mfu:.0%}"),
            ("tokens", f"{_number(plan.tokens)}; best spent on {_number(plan.optimal_tokens)} (20 per parameter)"),
            ("hours", f"{plan.hours:,.2f}" if plan.hours < 10 else f"{plan.hours:,.0f}"),
        ]
        if cost is not None:
            rows.append(("cost", f"{cost:,.0f} at {self.price:g} per GPU and hour"))
        if plan.epochs is not None:
            rows.append(("epochs", f"{plan.epochs:.2f} over the {_number(tokens)} tokens of {self.data}"))
        if plan.bits_per_byte is not None:
            rows.append(("bits per byte", f"about {plan.bits_per_byte:.2f} (of English, by Chinchilla's law: +- 10%)"))
        _table("training", rows)


NO_BFLOAT16 = ("T4", "V100")


def _warnings(plan: "Figures", tokens: int) -> list[str]:
    from wikigpt.plan import EPOCHS, EPOCHS_SOURCE

    lines = []
    if tokens and max(plan.tokens, plan.optimal_tokens) > EPOCHS * tokens:
        times, largest = max(plan.tokens, plan.optimal_tokens) / tokens, EPOCHS * tokens / TOKENS_PER_PARAMETER
        lines.append(
            f"This model would want to read its text {times:.1f} times; beyond {EPOCHS:g} more of the same is worth less "
            f"and less ({EPOCHS_SOURCE}). Take one of {_number(largest)} parameters or less, or prepare more languages: "
            "wikigpt prepare --wiki pt,es"
        )
    if plan.tokens < 0.5 * plan.optimal_tokens:
        lines.append(
            f"That is {plan.tokens / plan.model.n_parameters:.1f} tokens per parameter; a smaller model would learn more in "
            "the same time."
        )
    return lines


def _number(n: float) -> str:
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if n >= size:
            return f"{n / size:.1f} {word}"
    return f"{n:,.0f}"


def _table(title: str, rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    numbers = all(value.replace(",", "").replace(".", "").isdecimal() for _, value in rows)
    wide = max(len(value) for _, value in rows) if numbers else 0
    print(title)
    for name, value in rows:
        print(f"  {name:{width}}  {value:>{wide}}")
