"""EleutherAI's lm-evaluation-harness on a run, without exporting it.

tasks by name or YAML file ──> requests ──> our model ──> the harness's own scores

What its `hf` backend does with an exported model is done here too: encoding, cutting off, windows, stopping. Both give the
same scores but for rounding.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from loguru import logger

from wikigpt.data.shards import DataFolder
from wikigpt.errors import ConfigError, DataError, WikiGPTError, out_of_memory
from wikigpt.evaluate.held_out import refuse, trained_titles
from wikigpt.evaluate.language_model import LanguageModel, predict
from wikigpt.evaluate.tasks import wikitext_titles
from wikigpt.generate import Sampling, generate_ids, prompt_ids
from wikigpt.tokenizer import Tokenizer
from wikigpt.transformer import GPTModel

try:
    import lm_eval
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import TemplateLM
    from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as error:
    raise ConfigError("--lm_eval needs lm-eval.", "Run: pip install lm-eval==0.4.13") from error


class Harness(TemplateLM):
    """A run as the harness sees it. Contexts that are not empty get no end-of-text in front, as with `hf`."""

    def __init__(self, language_model: LanguageModel, model: GPTModel, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.language_model, self.model, self.tokenizer = language_model, model, tokenizer

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.end_of_text

    @property
    def max_length(self) -> int:
        return self.language_model.context_length

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        return list(self.language_model.encode(string))

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        return list(super().loglikelihood(requests, disable_tqdm=True))

    def _loglikelihood_tokens(
        self, requests: Sequence[Any], disable_tqdm: bool = True, **_: Any
    ) -> list[tuple[float, bool]]:
        """The log-likelihood of each continuation, and whether it is what greedy decoding would write."""
        rows = [(before + after)[-max(self.max_length, len(after)) - 1 :] for _, before, after in requests]
        found = predict(
            self.language_model, rows, self.max_length, self.max_length, [len(after) for *_, after in requests]
        )
        return [(-float(one.nats.sum()), bool(one.greedy.all())) for one in found]

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[float]:
        """Whole texts, in windows that do not overlap, end-of-text in front of the first."""
        totals = []
        for (text,) in (request.args for request in requests):
            windows = get_rolling_token_windows(self.tok_encode(text), self.prefix_token_id, self.max_length, 1)
            pairs = [(None, *make_disjoint_window(window)) for window in windows]
            totals.append(sum(score for score, _ in self._loglikelihood_tokens(pairs)))
        return totals

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = True) -> list[str]:
        """What follows each prompt, until one of its stop sequences; greedy unless a task wants it drawn."""
        return [self._generate(*request.args) for request in requests]

    def _generate(self, prompt: str, asked: dict[str, Any]) -> str:
        settings = normalize_gen_kwargs(asked, default_max_gen_toks=256)
        until = handle_stop_sequences(settings["until"], eos=self.tokenizer.end_word)
        budget = min(int(settings["max_gen_toks"]), self.max_length - 1)
        temperature = float(settings.get("temperature") or 1.0) if settings.get("do_sample") else 0.0
        sampling = Sampling(budget, temperature, settings.get("top_k") or None, settings.get("top_p"))
        ids = (self.tok_encode(prompt) or prompt_ids(self.tokenizer, ""))[-(self.max_length - budget) :]
        new: list[int] = []
        for token in generate_ids(self.model, ids, self.eot_token_id, sampling):
            new.append(token)
            if any(stop in self.tokenizer.decode(new) for stop in until if stop):
                break
        return str(postprocess_generated_text(self.tokenizer.decode(new), until, None))


def harness_scores(
    harness: Harness, names: Sequence[str], limit: int | None, trained: Sequence[DataFolder], told: bool
) -> dict[str, dict[str, Any]]:
    """The harness's results by task. Raises ConfigError for a task that is not there or whose data cannot be got, DataError
    for one that is made of training articles."""
    files = [name for name in names if Path(name).suffix in (".yaml", ".yml")]
    if missing := [name for name in files if not Path(name).is_file()]:
        raise DataError(f"There is no file {missing[0]}.", "Name a task, or its YAML file.")
    with _quietly(names):
        loaded = TaskManager(include_defaults=len(files) < len(names)).load(list(names))
    seen: dict[str, set[str]] = {}
    for name, task in loaded["tasks"].items():
        titles = [title for doc in task.eval_docs for title in document_titles(doc)]
        seen[name] = trained_titles(trained, titles)
        refuse(name, seen[name], len(set(titles)), told)
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=1234)
    logger.info(f"lm-eval {lm_eval.__version__}: {', '.join(loaded['tasks'])}")
    with _quietly(names):
        results = lm_eval.evaluate(lm=harness, task_dict=loaded, limit=limit, bootstrap_iters=1000, log_samples=False)
    marks = {name: {"trained_on": len(titles)} for name, titles in seen.items() if titles}
    return {name: _numbers(found) | marks.get(name, {}) for name, found in results["results"].items()}


@contextmanager
def _quietly(names: Sequence[str]) -> Iterator[None]:
    """Without progress bars, which no setting silences; whatever a task file, its data or the network raise becomes a
    ConfigError."""
    try:
        with redirect_stderr(io.StringIO()):
            yield
    except WikiGPTError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or out_of_memory(error):
            raise
        said = " ".join(str(error).split())[:200]
        fix = "List the tasks with: lm_eval ls tasks. Their data comes from the hub, or from files that a YAML names."
        raise ConfigError(f"{', '.join(names)}: {type(error).__name__}: {said}.", fix) from error


def document_titles(document: dict[str, Any]) -> list[str]:
    """The articles that a document says it is of: its title, or the headings of a page of WikiText."""
    said = [document.get("title"), *wikitext_titles(str(document.get("page") or ""))]
    return [title for title in said if isinstance(title, str) and title]


def _numbers(found: dict[str, Any]) -> dict[str, Any]:
    """acc,none becomes acc; what is no number is left out."""
    return {key.removesuffix(",none"): value for key, value in found.items() if isinstance(value, int | float)}
