"""What a run costs, from its settings alone, and what suits a machine."""

from dataclasses import replace

from loguru import logger

from wikigpt.config import ModelConfig, TrainingSettings


def flops_per_token(config: ModelConfig) -> float:
    """FLOPs to train on one token, forward and backward.

    Six per weight of a matrix (the tied head is one, the two embeddings are look-ups and cost nothing), and 12 * L * T * D
    for attention scores and their use. Attention counts as if nothing were masked, which is the convention of MFU.
    Source: Chowdhery et al. 2022, "PaLM", appendix B.
    """
    D, L, T = config.emb_dim, config.n_layers, config.context_length
    return 6.0 * (L * 12 * D * D + config.vocab_size * D) + 12.0 * L * T * D


def training_memory(config: ModelConfig, batch_size: int) -> float:
    """Bytes that training takes at the most, within a third or so: 16 per parameter (weight, gradient, two moments of
    AdamW) and about 36 per position, width and layer of what the backward pass needs (Korthikanti et al. 2022, table 2,
    without the quadratic term, which SDPA never stores)."""
    activations = 36.0 * batch_size * config.context_length * config.emb_dim * config.n_layers
    return 16.0 * config.n_parameters + activations


def choose_presets(device: str, memory: int, training_tokens: int) -> tuple[str, str, str]:
    """Presets of model and training for a machine and its data, and why."""
    gigabytes = f"{memory / 2**30:.0f} GiB"
    if device == "cpu":
        return "tiny", "cpu", "a CPU trains it in minutes"
    if training_tokens < 100e6:
        return "small", "cpu", f"{training_tokens / 1e6:.1f} million tokens are too few for a larger one"
    if memory < 7 * 2**30:
        return "small", "cpu", f"{gigabytes} are too little for GPT-2"
    return "gpt2_original", "gpu", f"{gigabytes} hold GPT-2 with 124 million parameters"


def fitting_batch(config: ModelConfig, settings: TrainingSettings, memory: int) -> TrainingSettings:
    """Halves the batch and doubles the accumulation until training fits into 0.8 of the memory: a step stays the same."""
    batch_size, accumulation = settings.batch_size, settings.gradient_accumulation_steps
    while batch_size % 2 == 0 and training_memory(config, batch_size) > 0.8 * memory:
        batch_size, accumulation = batch_size // 2, accumulation * 2
    if batch_size != settings.batch_size:
        logger.info(
            f"batch_size: {batch_size} x {accumulation} accumulated, since {memory / 2**30:.0f} GiB hold no more"
        )
    return replace(settings, batch_size=batch_size, gradient_accumulation_steps=accumulation)
