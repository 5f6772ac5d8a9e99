"""Text from a model: sampling in five small functions, a key-value cache, and text that never breaks a character.

prompt ──> ids ──> [ model ──> logits ──> temperature ──> top-k ──> top-p ──> draw ──> id ]* ──> text, piece by piece
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wikigpt import tokenizer as tokenizers
from wikigpt.checkpoint import find_checkpoint, load_weights
from wikigpt.errors import ConfigError, RunError
from wikigpt.runs import Run
from wikigpt.tokenizer import Tokenizer
from wikigpt.transformer import GPTModel, KVCache

COLDEST = 1e-5


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Raises ConfigError where it cannot be."""

    max_gen: int = 200
    temperature: float = 0.8
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, possible, fix in (
            ("max_gen", self.max_gen, self.max_gen >= 0, "Give 0 or more."),
            ("temperature", self.temperature, self.temperature >= 0, "Give 0 (always the likeliest token) or more."),
            ("top_k", self.top_k, self.top_k is None or self.top_k > 0, "Give 1 or more."),
            ("top_p", self.top_p, self.top_p is None or 0 < self.top_p <= 1, "Give a number above 0, up to 1."),
        ):
            if not possible:
                raise ConfigError(f"{name} is {value}.", fix)


def load_model(run: Run, device: str, checkpoint: str = "latest") -> tuple[GPTModel, Tokenizer]:
    """A checkpoint of a run (latest, best, or a step), ready to generate, and its tokenizer. Raises RunError where there is
    none."""
    model = GPTModel(run.config.model)
    load_weights(find_checkpoint(run.path, checkpoint), model)
    tokenizer = tokenizers.load(run.path / "tokenizer")
    if tokenizer.vocab_size < run.config.model.vocab_size:  # rows that only pad: they can never be drawn
        model.tok_emb = torch.nn.Embedding.from_pretrained(model.tok_emb.weight[: tokenizer.vocab_size], freeze=False)
        if model.out_head is not None:
            model.out_head.weight = torch.nn.Parameter(model.out_head.weight[: tokenizer.vocab_size])
    return model.to(device).eval(), tokenizer


def with_temperature(logits_V: Tensor, temperature: float) -> Tensor:
    """Above 1 flattens the choice, below 1 sharpens it."""
    return logits_V / temperature


def keep_top_k(logits_V: Tensor, k: int) -> Tensor:
    """Rules out all but the k likeliest tokens."""
    worst_kept = logits_V.topk(min(k, len(logits_V))).values[-1]
    return logits_V.masked_fill(logits_V < worst_kept, float("-inf"))


def keep_top_p(logits_V: Tensor, p: float) -> Tensor:
    """Keeps the likeliest tokens until they hold the share p of all probability (Holtzman et al. 2020)."""
    ordered, indices = logits_V.sort(descending=True)
    probabilities = ordered.softmax(-1)
    too_many = probabilities.cumsum(-1) - probabilities >= p  # what comes before this token is enough already
    return logits_V.masked_fill(too_many.scatter(0, indices, too_many), float("-inf"))


def draw(logits_V: Tensor, generator: torch.Generator) -> int:
    """One token by its probability. Drawn on the CPU, so that a seed means the same on every device."""
    return int(torch.multinomial(logits_V.softmax(-1), 1, generator=generator))


def next_token(logits_V: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """The likeliest token where the temperature is 0, else one drawn after temperature, top-k and top-p."""
    logits_V = logits_V.float().cpu()
    if logits_V.isnan().any():
        fix = "Train anew with a lower --learning_rate (or --matrix_learning_rate), or --dtype float32, and --fresh."
        raise RunError("The model's weights are no longer numbers.", fix)
    if sampling.temperature < COLDEST:  # dividing by less would leave the range of numbers
        return int(logits_V.argmax())
    logits_V = with_temperature(logits_V, sampling.temperature)
    if sampling.top_k is not None:
        logits_V = keep_top_k(logits_V, sampling.top_k)
    if sampling.top_p is not None:
        logits_V = keep_top_p(logits_V, sampling.top_p)
    return draw(logits_V, generator)


def window_start(length: int, context_length: int) -> int:
    """Where the window of a text of `length` tokens begins. Positions are absolute, so sliding by one would mean reading
    everything anew for each token: the window jumps by half a context instead, the same with a cache and without."""
    if length <= context_length:
        return 0
    jump = max(1, context_length // 2)
    return -(-(length - context_length) // jump) * jump


class Drawn(NamedTuple):
    """A token, and the model's scores for all tokens where it was drawn, before temperature, top-k and top-p."""

    id: int
    logits_V: Tensor


def generate_ids(
    model: GPTModel, prompt: list[int], end_of_text: int, sampling: Sampling, use_cache: bool = True
) -> Iterator[int]:
    """Ids after a prompt (not empty), until end-of-text, which is not handed out, or `max_gen` of them. Of a prompt longer
    than the context its end is read. With and without the cache the ids are the same."""
    return (drawn.id for drawn in generate_tokens(model, prompt, end_of_text, sampling, use_cache))


@torch.no_grad()
def generate_tokens(
    model: GPTModel, prompt: list[int], end_of_text: int, sampling: Sampling, use_cache: bool = True
) -> Iterator[Drawn]:
    """The same with what the model thought of each."""
    device = model.tok_emb.weight.device
    context_length = model.config.context_length
    generator = torch.Generator().manual_seed(sampling.seed)
    ids, start, cache = list(prompt), -1, None
    for _ in range(sampling.max_gen):
        begin = window_start(len(ids), context_length)
        if begin != start or not use_cache:  # the window moved: read it from its beginning
            start = begin
            cache = KVCache(model.config, 1, device, model.tok_emb.weight.dtype) if use_cache else None
            unread = ids[start:]
        else:
            unread = ids[-1:]
        logits_1V = model.next_logits(torch.tensor([unread], device=device), cache)
        token = next_token(logits_1V[0], sampling, generator)
        if token == end_of_text:
            return
        ids.append(token)
        yield Drawn(token, logits_1V[0])


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Ids of a prompt as they would stand inside a longer text. At the end of a text GPT-2's pattern takes all white space
    as one piece, which "# Title\n\n" before an article never is: so a letter follows while it is encoded. An empty prompt
    is the end of a text before."""
    if not prompt:
        return [tokenizer.end_of_text]
    if prompt.endswith("\n"):
        return tokenizer.encode(prompt + "A").tolist()[:-1]
    return tokenizer.encode(prompt).tolist()


def generate_text(
    model: GPTModel,
    tokenizer: Tokenizer,
    prompt: str,
    sampling: Sampling,
    use_cache: bool = True,
    to_the_end: bool = False,
) -> Iterator[str]:
    """Pieces of text after a prompt. A character that is spread over several tokens comes when it is whole; an empty
    prompt begins a new document. `to_the_end`: the model is asked for all `max_gen` tokens, also when the text is over:
    of a model in parts each rank must ask as often as the others."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    ids = prompt_ids(tokenizer, prompt)
    over, end_of_text = False, -1 if to_the_end else tokenizer.end_of_text
    for token in generate_ids(model, ids, end_of_text, sampling, use_cache):
        over = over or token == tokenizer.end_of_text
        if over:
            continue
        if piece := decoder.decode(tokenizer.decode_bytes([token])):
            yield piece
    if rest := decoder.decode(b"", final=True):
        yield rest
