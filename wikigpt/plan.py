"""What training a model costs, before a run starts: parameters, FLOPs, memory, time, money, and text.

ModelConfig, Card ──> parameters by part ──> FLOPs per token ──> tokens per second ──> hours
                  ──> memory by part                                                   (all estimates, none needs torch)
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from wikigpt.cards import Card
from wikigpt.config import TOKENS_PER_PARAMETER, TRAINING_SETTINGS, ModelConfig, TrainingSettings, modern
from wikigpt.errors import ConfigError

EPOCHS = 4.0  # up to so many, text that comes again is worth nearly as much as new text
EPOCHS_SOURCE = "Muennighoff et al. 2023, arXiv 2305.16264"
MUCH_TEXT = 100e6  # tokens


def parameters_by_part(config: ModelConfig) -> dict[str, int]:
    """How many numbers are learned, part by part; together `config.n_parameters`."""
    one = replace(config, n_layers=1).n_parameters
    block = replace(config, n_layers=2).n_parameters - one
    feed_forward = config.emb_dim * config.ffn_dim * (2 if config.arch == "gpt2" else 3)
    if config.arch == "gpt2":
        feed_forward += config.ffn_dim + config.emb_dim
    embeddings = config.vocab_size * config.emb_dim
    positions = config.context_length * config.emb_dim if config.arch == "gpt2" else 0
    norms = config.emb_dim * (2 if config.arch == "gpt2" else 1)
    return {
        "token embedding": embeddings,
        "positions": positions,
        "attention": config.n_layers * (block - feed_forward - 2 * norms),
        "feed-forward": config.n_layers * feed_forward,
        "norms": (2 * config.n_layers + 1) * norms,
        "output head": 0 if config.tie_embeddings else embeddings,
    }


def flops_per_token(config: ModelConfig) -> float:
    """FLOPs to train on one token, forward and backward.

    Six per weight of a matrix (the head is one, embeddings are look-ups and cost nothing), and 12 * L * T * H * K for
    attention scores and their use. Attention counts as if nothing were masked, which is the convention of MFU.
    Source: Chowdhery et al. 2022, "PaLM", appendix B.
    """
    attention = config.n_layers * config.context_length * config.n_heads * config.head_dim
    return 6.0 * config.n_matrix_parameters + 12.0 * attention


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the moment when most are in use."""

    weights: float
    gradients: float  # with ddp in two places: as calculated, and where those of all ranks are averaged
    optimizer: float
    activations: float  # what the forward pass keeps for the way back
    logits: float  # of a chunk, and what the head's gradient takes
    total: float


def memory(
    config: ModelConfig,
    training: TrainingSettings,
    dtype: str = "bfloat16",
    device: str = "cuda",
    world_size: int = 1,
    parallel: str = "",
    recompute: bool = False,
    kernels: bool = False,
) -> Memory:
    """What one device holds. Weights, gradients and moments are float32: 4 + 4 + 8 bytes per parameter, 4 less where Muon
    has one moment (Rajbhandari et al. 2020, "ZeRO", section 3, without its 16-bit copies); with fsdp a part of that, and
    two gathered blocks, the embeddings and their gradient whole (section 5.3). Activations: `kept_per_token`. The most is in
    use when the backward pass begins or when the optimiser moves: blocks have no gradients before the first part's
    backward pass has come to them."""
    wide = 4 if dtype == "float32" else 2
    N, V, D = config.n_parameters, config.vocab_size, config.emb_dim
    parts = parameters_by_part(config)
    blocks = parts["attention"] + parts["feed-forward"]
    outside = parts["token embedding"] + parts["positions"] + parts["output head"]
    share = world_size if parallel == "fsdp" else 1
    windows = min(training.batch_size, -(-training.windows_per_step // world_size))
    accumulated = -(-training.windows_per_step // world_size) > windows
    tokens = windows * config.context_length

    weights, gradients = 4.0 * N / share, 4.0 * N / share
    moments = (8.0 * N - (4.0 * blocks if training.optimizer == "muon" else 0.0)) / share
    layer = tokens * kept_per_token(config, wide, device, kernels)
    stream = tokens * 4.0 * D
    kept = config.n_layers * (stream if recompute else layer)
    kept += stream + tokens * 16.0  # the last norm's input; ids and targets
    if share > 1:
        kept += 2 * wide * blocks / config.n_layers + 4.0 * outside + 4.0 * blocks / config.n_layers
    elif dtype != "float32" and not recompute:
        kept += wide * blocks  # autocast's copies of weights
    rows = min(tokens, -(-tokens // max(1, -(-tokens * V // CHUNK))))
    softmax = rows * V * (0.0 if kernels else 8.0 if wide < 4 else 4.0)  # in 32 bits
    head = wide * V * D + (4.0 * V * D if wide < 4 else 0.0)  # its gradient, as it is calculated and as it is kept
    logits = wide * V * D + stream + rows * wide * D + rows * V * wide + max(softmax, head)
    there = gradients if accumulated else 0.0
    buckets = 4.0 * N if parallel == "ddp" else 0.0  # beside the gradients: where those of all ranks are averaged
    again = kept + layer + 4.0 * V * D + there if recompute else 0.0
    moving = gradients + (8.0 + 3 * wide) * (_largest_group(config) if training.optimizer == "muon" else 0.0) / share
    total = weights + moments + buckets + max(kept + logits + there, again, gradients + layer, moving)
    return Memory(weights, gradients + buckets, moments, kept + (layer if recompute else 0.0), logits, total)


CHUNK = 2**27  # ChunkedCrossEntropy.CHUNK


def kept_per_token(config: ModelConfig, wide: int, device: str, kernels: bool) -> float:
    """Bytes that one layer keeps of one token for the way back, where matrices are multiplied in `wide` bytes: what each
    operation needs, added up (the method of Korthikanti et al. 2022, section 4.1). Exact for the CPU, where a test counts it
    with PyTorch's hooks; a compiled block on a card keeps less."""
    D, F = config.emb_dim, config.ffn_dim
    Q, G = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    scores = 0.0  # a score for each position that is seen, where attention is not fused
    if device == "cpu" and config.context_length <= (256 if kernels and not config.drop_rate else 512):
        scores = wide * config.n_heads * config.context_length * (3 if config.drop_rate else 1)
    dropped = (2.0 * wide if device == "cpu" else 2.0) * D if config.drop_rate else 0.0
    if config.arch == "gpt2":  # norms; q, k, v and the answer; before and after GELU
        return 2 * D * (4.0 + wide) + 4 * wide * D + 2 * wide * F + scores + dropped
    if kernels:  # norms; q and the answer, k and v, before and after they are turned; gate, up and their product
        return 2 * D * (4.0 + wide) + 3 * wide * Q + 3 * wide * G + 3 * wide * F + scores
    # Plain: every product has its own copy of its input in 16 bits; norms of heads are in 32; k and v are repeated.
    norm = 8.0 if device == "cpu" else 4.0  # bytes: a CPU has no fused RMSNorm
    copies = 5 * wide if wide < 4 else 8
    return (2 * norm + copies) * D + (norm + 4 * wide) * Q + norm * G + 4 * wide * F + scores


def _largest_group(config: ModelConfig) -> float:
    """Parameters in the largest group of matrices of one shape, which Muon moves at once."""
    D, F = config.emb_dim, config.ffn_dim
    Q, G = config.n_heads * config.head_dim, config.n_kv_heads * config.head_dim
    shapes = [(3 * D, D), (D, D), (F, D), (D, F)]
    if config.arch == "qwen3":
        shapes = [(Q, D), (G, D), (G, D), (D, Q), (F, D), (F, D), (D, F)]
    sizes = {shape: shapes.count(shape) * shape[0] * shape[1] for shape in shapes}
    return float(config.n_layers * max(sizes.values()))


def choose_model(device: str, memory: int, training_tokens: int) -> tuple[str, str]:
    """The model preset that suits a machine and its data, and why."""
    gigabytes = f"{memory / 2**30:.0f} GiB"
    if device == "cpu":
        return "modern_tiny", "a CPU trains it in minutes"
    if training_tokens < MUCH_TEXT:
        return "modern_small", f"{training_tokens / 1e6:.1f} million tokens are too few for a larger one"
    if memory < 7 * 2**30:
        return "modern_small", f"{gigabytes} are too little for a larger one"
    return "modern_124m", f"{gigabytes} hold one with 124 million parameters"


def choose_training(name: str, model: ModelConfig, device: str, training_tokens: int) -> tuple[str, str]:
    """The training preset that suits a model, its machine and its data, and why."""
    if model.n_parameters < 30e6:
        return "small_models", "the model has less than 30 million parameters"
    if device == "cpu" or training_tokens < MUCH_TEXT:
        return "fast", "the steps of larger ones are too large for a CPU or so little text"
    if name in TRAINING_SETTINGS:
        return name, "it is made for that model"
    return "large_models", "the model has 30 million parameters or more"


LARGE = 2**17  # tokens of a forward pass; more at once are no faster on any card


def sizes_at_once(training: TrainingSettings, ranks: int, most: int) -> list[int]:
    """How many windows a rank's forward pass may have, the largest first, so that a step stays what it is."""
    windows = training.windows_per_step
    return [size for size in range(min(most, -(-windows // ranks)), 0, -1) if windows % size == 0]


def parts_that_fit(
    config: ModelConfig, training: TrainingSettings, card: Card, gpus: int, dtype: str
) -> tuple[TrainingSettings, str, bool] | None:
    """How a step is cut so that it fits on such cards by `memory`: the largest parts, in what way the cards share the model
    ("" of one), and whether with activation checkpointing; None where it does not fit in any way."""
    ways = ("",) if gpus == 1 else ("ddp",) if dtype == "float16" else ("ddp", "fsdp")  # as wikigpt.settle has it
    sizes = sizes_at_once(training, gpus, max(1, LARGE // config.context_length))
    for parallel in ways:
        for recompute in (False, True):
            for size in sizes:
                setting = training.in_parts_of(size)
                needed = memory(config, setting, dtype, "cuda", gpus, parallel, recompute).total
                if needed < 0.9 * card.memory:
                    return setting, parallel, recompute
    return None


def tokens_per_second(config: ModelConfig, card: Card, gpus: int, mfu: float, recompute: bool = False) -> float:
    """Of training, at a share of what the cards' datasheets promise. With activation checkpointing the forward pass, a third
    of the work, is done twice."""
    return mfu * gpus * card.flops / flops_per_token(config) / (4 / 3 if recompute else 1)


def expected_bits_per_byte(n_parameters: int, tokens: float, unique_tokens: float) -> float | None:
    """Of English Wikipedia, give or take a tenth; None outside of what the law was fitted to (50 million parameters, a
    billion tokens, and more).

        nats per token = 1.82 + 482 / N^0.348 + 2085 / D^0.366

    Source: Besiroglu et al. 2024 (arXiv 2404.10102), mending Hoffmann et al. 2022. D counts text that comes again for less:
    U + 15.4 U (1 - exp(-R / 15.4)) for R repetitions of U tokens (Muennighoff et al. 2023, section 4). A token is 4.21 bytes
    of Wikipedia (Gao et al. 2020, "The Pile", table 7). For a model of theirs of 1.3 billion parameters and 40 GB of text
    it gives 0.89; they measured 0.896 (table 4).
    """
    if n_parameters < 50e6 or tokens < 1e9:
        return None
    repetitions = max(0.0, tokens / unique_tokens - 1) if unique_tokens else 0.0
    fresh = min(tokens, unique_tokens or tokens)
    worth = fresh + 15.39 * fresh * (1 - math.exp(-repetitions / 15.39))
    nats = 1.8172 + 482.01 / n_parameters**0.3478 + 2085.43 / worth**0.3658
    return nats / math.log(2) / 4.214


@dataclass(frozen=True)
class Plan:
    """One training run, as far as it can be foreseen."""

    model_config: str
    training_setting: str
    model: ModelConfig
    training: TrainingSettings  # cut into parts that fit
    parallel: str
    activation_checkpointing: bool
    memory: Memory
    tokens: float  # that it is trained on
    optimal_tokens: float  # that its compute is best spent on
    tokens_per_second: float
    hours: float
    epochs: float | None  # over the prepared data, where that is known
    bits_per_byte: float | None


def make_plan(
    names: tuple[str, str],
    model: ModelConfig,
    training: TrainingSettings,
    card: Card,
    gpus: int,
    mfu: float,
    dtype: str,
    data_tokens: int,
    hours: float | None = None,
) -> Plan:
    """Of a model and how it is trained: until its hours or its budget are over. `data_tokens`: 0 where it is not known.
    Raises ConfigError where it does not fit on such cards."""
    if training.windows_per_step < gpus:
        problem = f"A step has {training.windows_per_step} windows, which {gpus} GPUs cannot share out."
        raise ConfigError(problem, "Take fewer --gpus, or a --training_setting with larger steps.")
    fitting = parts_that_fit(model, training, card, gpus, dtype)
    if fitting is None:
        needed = memory(model, training.in_parts_of(1), dtype, "cuda", gpus, "fsdp", True).total
        problem = f"Not even one window fits: {needed / 2**30:.1f} GiB on a card of {card.memory / 2**30:.1f}."
        raise ConfigError(problem, "Take more --gpus, a larger --gpu, or a smaller model.")
    training, parallel, recompute = fitting
    speed = tokens_per_second(model, card, gpus, mfu, recompute)
    optimal = TOKENS_PER_PARAMETER * model.n_parameters
    tokens = speed * hours * 3600 if hours is not None else tokens_of(training, model, data_tokens)
    return Plan(
        *names,
        model,
        training,
        parallel,
        recompute,
        memory(model, training, dtype, "cuda", gpus, parallel, recompute),
        tokens,
        optimal,
        speed,
        hours if hours is not None else tokens / speed / 3600,
        tokens / data_tokens if data_tokens else None,
        expected_bits_per_byte(model.n_parameters, tokens, data_tokens),
    )


def tokens_of(training: TrainingSettings, model: ModelConfig, data_tokens: int) -> float:
    """How many a run reads that is told nothing else: its budget, or all epochs where these are over before."""
    budget = (training.tokens_per_parameter or TOKENS_PER_PARAMETER) * model.n_parameters
    epochs = training.num_epochs * data_tokens
    if not data_tokens:
        return budget
    return min(budget, epochs) if training.tokens_per_parameter else epochs


def best_depth(hours: float, card: Card, gpus: int, mfu: float, dtype: str, vocab_size: int, data_tokens: int) -> int:
    """The deepest modern model that such cards train on all the tokens that it is worth within some hours, that fits, and
    that does not read its data more than EPOCHS times; 1 where none does."""
    best = 1
    for depth in range(1, 100):
        preset, setting = modern(depth, vocab_size)
        model, training = ModelConfig(**preset), TrainingSettings(**setting)
        tokens = TOKENS_PER_PARAMETER * model.n_parameters
        enough = not data_tokens or tokens <= EPOCHS * data_tokens
        if training.windows_per_step < gpus:
            continue
        fitting = parts_that_fit(model, training, card, gpus, dtype)
        if fitting is None or not enough:
            break
        if tokens / tokens_per_second(model, card, gpus, mfu, fitting[2]) / 3600 > hours:
            break
        best = depth
    return best


def record(plan: Plan) -> Mapping[str, Any]:
    """A plan as JSON has it."""
    return asdict(plan) | {
        "parameters": parameters_by_part(plan.model) | {"all": plan.model.n_parameters},
        "flops_per_token": flops_per_token(plan.model),
    }
