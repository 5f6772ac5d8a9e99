"""Anything that gives texts probabilities, seen alike: a run of ours, or a causal model of transformers.

ids ──> windows of at most context_length ──> logits where they are wanted ──> nats of each token
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wikigpt.backend import as_written
from wikigpt.errors import ConfigError, RunError
from wikigpt.hardware import Machine
from wikigpt.tokenizer import Tokenizer
from wikigpt.transformer import GPTModel

LOGITS = 2**26  # at once, as far as possible: 256 MB in 32 bits
POSITIONS = 2**15  # and positions of a batch
AT_ONCE = 512  # rows that are cut into windows together, and these sorted by length


@dataclass(frozen=True)
class LanguageModel:
    """`logits_of(inputs_BT, wanted_BT)` gives the logits (N, V) after each of the N wanted positions, without gradients.
    `start` stands before every text, `end` behind it (None where the model knows none); `prefix` is what its tokenizer puts
    before everything. `whole_logits`: those of all positions are made on the way."""

    name: str
    logits_of: Callable[[Tensor, Tensor], Tensor]
    encode: Callable[[str], list[int]]
    start: int
    end: int | None
    context_length: int
    vocab_size: int
    device: str
    tokenizer_hash: str = ""  # of one of ours: data with the same hash need not be encoded again
    prefix: tuple[int, ...] = ()
    whole_logits: bool = False

    def whole(self, text: str) -> list[int]:
        """Ids of a text from its beginning to its end."""
        return [self.start, *self.encode(text), *([] if self.end is None else [self.end])]


def of_run(name: str, model: GPTModel, tokenizer: Tokenizer, machine: Machine) -> LanguageModel:
    """A model of ours, calculating in the machine's way."""
    model.eval()

    @torch.no_grad()
    def logits_of(inputs_BT: Tensor, wanted_BT: Tensor) -> Tensor:
        with as_written(machine), machine.autocast():
            return model.head(model.hidden(inputs_BT)[wanted_BT])

    return LanguageModel(
        name=name,
        logits_of=logits_of,
        encode=lambda text: tokenizer.encode(text).tolist(),
        start=tokenizer.end_of_text,
        end=tokenizer.end_of_text,
        context_length=model.config.context_length,
        vocab_size=model.config.vocab_size,
        device=machine.device,
        tokenizer_hash=tokenizer.sha256,
    )


LONGEST = 2048  # tokens of context that a model of transformers is given at the most


def check_transformers(path: str) -> Any:
    """The configuration and tokenizer of a causal model of transformers, got before anything takes long. Raises ConfigError
    where transformers is not installed, RunError where there is no such model."""
    try:
        from transformers import AutoConfig, AutoTokenizer
    except ImportError as error:
        raise ConfigError("--hf needs transformers.", "Run: pip install -r requirements.txt") from error
    with _said_in_one_line(path):
        return AutoConfig.from_pretrained(path).get_text_config(), AutoTokenizer.from_pretrained(path)


def context_of(config: Any) -> int:
    """Tokens that a model of transformers is given at the most."""
    names = ("max_position_embeddings", "n_positions")
    return min(LONGEST, next((n for name in names if (n := getattr(config, name, None))), LONGEST))


@contextmanager
def _said_in_one_line(path: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever the library, the hub and the network raise
        said = " ".join(str(error).split())[:200]
        raise RunError(
            f"{path} gives no causal model and tokenizer ({type(error).__name__}: {said}).",
            "Name a folder that transformers can load, or a repository of the hub.",
        ) from error


def of_transformers(path: str, machine: Machine) -> LanguageModel:
    """A causal model of transformers with its own tokenizer: a folder, or a repository of the hub. Raises ConfigError and
    RunError as `check_transformers` does."""
    config, tokenizer = check_transformers(path)
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    with _said_in_one_line(path):
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    model = model.to(machine.device).eval()  # type: ignore[arg-type]
    if isinstance(tokenizer, PreTrainedTokenizerFast):  # text never yields a special id
        tokenizer.backend_tokenizer.encode_special_tokens = True
    tokenizer.model_max_length = 2**60  # it need not warn: what is longer is cut into windows
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        raise RunError(f"The tokenizer of {path} has no token that begins or ends a text.", "Take another model.")
    bos = tokenizer.bos_token_id
    prefix = (bos,) if bos is not None and tokenizer("a")["input_ids"][0] == bos else ()

    @torch.no_grad()
    def logits_of(inputs_BT: Tensor, wanted_BT: Tensor) -> Tensor:
        with machine.autocast():
            return model(inputs_BT).logits[wanted_BT]

    return LanguageModel(
        name="/".join(Path(path).resolve().parts[-2:]) if Path(path).exists() else path,
        logits_of=logits_of,
        encode=lambda text: tokenizer(text, add_special_tokens=False)["input_ids"],
        start=start,
        end=tokenizer.eos_token_id,
        context_length=context_of(config),
        vocab_size=config.vocab_size,
        device=machine.device,
        prefix=prefix,
        whole_logits=True,
    )


class Predicted(NamedTuple):
    """Of some tokens, one after the other: what each costs, and whether it was the likeliest."""

    nats: np.ndarray
    greedy: np.ndarray


class Window(NamedTuple):
    """Of row `row` the tokens start..end go in; those after positions first..end are wanted."""

    row: int
    start: int
    first: int
    end: int


def windows(tokens: int, context: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Cuts a row of which `tokens` are to be predicted, each once: (start, first, end), so that the tokens after positions
    first..end are predicted from start..end. But in the first window each is predicted from at least context - stride
    + 1 tokens before it."""
    done = 0
    while done < tokens:
        end = min(tokens, context if done == 0 else done + stride)
        yield max(0, end - context), done, end
        done = end


def predict(
    model: LanguageModel, rows: Iterable[Sequence[int]], context: int, stride: int, last: Iterable[int] | None = None
) -> Iterator[Predicted]:
    """For each row of ids what its tokens after the first cost, from at most `context` tokens before them; `last` gives for
    each row how many at its end are wanted (all unless given)."""
    wanted = iter(last) if last is not None else None
    source = iter(rows)
    while chunk := [np.asarray(row, np.int64) for row in islice(source, AT_ONCE)]:
        counts = list(islice(wanted, len(chunk))) if wanted is not None else [len(row) - 1 for row in chunk]
        found = [Predicted(np.zeros(count), np.zeros(count, bool)) for count in counts]
        cut = []
        for number, (row, count) in enumerate(zip(chunk, counts, strict=True)):
            skipped = len(row) - 1 - count
            for start, first, end in windows(len(row) - 1, context, stride):
                if end > skipped:
                    cut.append(Window(number, start, max(first, skipped), end))
        for batch in _batches(sorted(cut, key=lambda window: window.end - window.start), model):
            for window, nats, greedy in _run(model, chunk, batch):
                skipped = len(chunk[window.row]) - 1 - counts[window.row]
                here = slice(window.first - skipped, window.end - skipped)
                found[window.row].nats[here], found[window.row].greedy[here] = nats, greedy
        yield from found


def _batches(cut: list[Window], model: LanguageModel) -> Iterator[list[Window]]:
    """Windows of about one length together, until their logits, the largest tensor, are LOGITS."""
    while cut:
        longest, size, rows = cut[-1].end - cut[-1].start, 0, 0
        while size < len(cut) and (size + 1) * longest <= max(longest, POSITIONS):
            window = cut[-1 - size]
            rows += longest if model.whole_logits else window.end - window.first
            if size and rows * model.vocab_size > LOGITS:
                break
            size += 1
        yield cut[-size:]
        cut = cut[:-size]


def _run(
    model: LanguageModel, rows: list[np.ndarray], batch: list[Window]
) -> Iterator[tuple[Window, np.ndarray, np.ndarray]]:
    """One forward pass. What pads stands behind a window, where a causal model does not see it."""
    longest = max(window.end - window.start for window in batch)
    inputs_BT = torch.zeros(len(batch), longest, dtype=torch.int64)
    wanted_BT = torch.zeros(len(batch), longest, dtype=torch.bool)
    targets = []
    for number, window in enumerate(batch):
        row = torch.from_numpy(rows[window.row][window.start : window.end + 1])
        inputs_BT[number, : len(row) - 1] = row[:-1]
        wanted_BT[number, window.first - window.start : len(row) - 1] = True
        targets.append(row[1 + window.first - window.start :])
    logits_NV = model.logits_of(inputs_BT.to(model.device), wanted_BT.to(model.device)).float()
    targets_N = torch.cat(targets).to(model.device)
    nats = F.cross_entropy(logits_NV, targets_N, reduction="none").cpu().double().numpy()
    if not np.isfinite(nats).all():
        raise RunError(f"The weights of {model.name} are no longer numbers.", "Take an earlier --checkpoint.")
    greedy = (logits_NV.argmax(-1) == targets_N).cpu().numpy()
    done = 0
    for window in batch:
        count = window.end - window.first
        yield window, nats[done : done + count], greedy[done : done + count]
        done += count


def checked_context(asked: int | None, stride: int | None, model: LanguageModel) -> tuple[int, int]:
    """The context and stride to score with: as asked, else all that the model has, and half of it. Raises ConfigError where
    they cannot be."""
    context = model.context_length if asked is None else asked
    if not 1 <= context <= model.context_length:
        raise ConfigError(f"context is {context}.", f"{model.name} has 1 to {model.context_length:,}.")
    stride = max(1, context // 2) if stride is None else stride
    if not 1 <= stride <= context:
        raise ConfigError(f"stride is {stride}.", f"Give 1 to the context, {context:,}.")
    return context, stride
