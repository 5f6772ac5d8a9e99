"""`wikigpt evaluate`"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from loguru import logger

from wikigpt.errors import ConfigError, RunError
from wikigpt.verbs.common import Common, Outcome, Settings

if TYPE_CHECKING:
    from wikigpt.data.shards import Data, DataFolder
    from wikigpt.evaluate.articles import Text
    from wikigpt.evaluate.cloze import Choice
    from wikigpt.evaluate.language_model import LanguageModel
    from wikigpt.hardware import Machine
    from wikigpt.runs import Run

# Read by lm-eval and the datasets library when they are imported.
QUIET = {"TQDM_DISABLE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "DISABLE_MULTIPROC": "1", "LOGLEVEL": "ERROR"}


@dataclass
class Evaluate:
    """Score a run on held-out articles, one by one: loss, perplexity, bits per byte with an interval; or on benchmarks."""

    run: str | None = None
    """name or path of the run; the newest finished one unless given"""
    model_config: str | None = None
    """the newest finished run of this preset"""
    checkpoint: str = "latest"
    """latest, best, a step, or the name of a folder in checkpoints/"""
    split: Literal["validation", "test", "both"] = "validation"
    """which articles"""
    data: str | None = None
    """articles of another data folder; those of its own unless given"""
    context: int | None = None
    """tokens before a token that the model sees at the most; all that it can unless given"""
    stride: int | None = None
    """tokens by which the window moves on in a long article; half the context unless given. The smaller, the more each
    token sees, and the longer it takes"""
    ladder: bool = False
    """on the same articles also: xz, zstd, counting one, two and five tokens, and all checkpoints"""
    hf: tuple[str, ...] = ()
    """also these models of transformers: folders, or repositories of the hub (gpt2)"""
    tasks: tuple[str, ...] = ()
    """instead of articles: wikitext2, wikitext103, lambada, hellaswag (from the hub, or NAME=FILE), cloze"""
    lm_eval: tuple[str, ...] = ()
    """instead of articles: tasks of EleutherAI's lm-evaluation-harness, by name or YAML file (extra `eval`)"""
    limit: int | None = None
    """questions of a benchmark at the most"""
    with_trained_on: bool = False
    """count what it was trained on too, and take benchmarks made of it"""
    device: str | None = None
    """cpu, cuda or mps; the best there is unless given"""
    dtype: str | None = None
    """of matrix products; as it was trained unless given, and float32 for benchmarks"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt import hardware
        from wikigpt.report import write_report
        from wikigpt.runs import choose_run

        self._check_flags()
        hardware.keep_freed_memory()
        device = hardware.choose_device(self.device)
        run = choose_run(settings.MODEL_DIR, self.run, self.model_config)
        logger.info(f"run: {run}")
        machine = self._machine(run, device)
        if self.lm_eval:
            record = self._harness(run, machine, settings)
        elif self.tasks:
            record = self._tasks(run, machine, settings)
        else:
            record = self._articles(run, machine, settings)
        if (run.path / "report.html").exists():
            write_report(run.path)
        return Outcome({"run": run.name, "checkpoint": self.checkpoint} | record)

    def _check_flags(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is {self.limit}.", "Give 1 or more.")
        if self.tasks and self.lm_eval:
            raise ConfigError("--tasks and --lm_eval were given together.", "Give one of them.")
        alone = "--tasks" if self.tasks else "--lm_eval" if self.lm_eval else ""
        if alone and self.ladder:
            raise ConfigError(f"--ladder is of articles, {alone} are benchmarks.", "Give one of them.")
        if wrong := [
            path for path in self.hf if not Path(path).exists() and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path)
        ]:
            raise ConfigError(f"There is no folder {wrong[0]}.", "Name one with --hf, or a repository of the hub.")
        if self.lm_eval and self.hf:
            raise ConfigError("--lm_eval scores a run.", "For a model of transformers call: lm_eval --model hf")

    def _machine(self, run: "Run", device: str) -> "Machine":
        """Calculates as in training where that was on such a device; benchmarks in float32, as others do."""
        from wikigpt import hardware
        from wikigpt.backend import choose_backend

        same = device == run.config.device
        dtype = self.dtype or ("float32" if self.tasks or self.lm_eval else run.config.dtype if same else None)
        machine = hardware.detect(device, dtype, run.config.threads if same else None)
        if same and run.config.backend == "kernels" and machine.dtype == run.config.dtype:
            machine = replace(machine, backend=choose_backend(device)[0])
        return machine

    def _model(self, run: "Run", machine: "Machine", checkpoint: str, name: str) -> "LanguageModel":
        from wikigpt.backend import use_backend
        from wikigpt.evaluate.language_model import of_run
        from wikigpt.generate import load_model

        model, tokenizer = load_model(run, machine.device, checkpoint)
        use_backend(model, machine)
        return of_run(name, model, tokenizer, machine)

    def _others(self, machine: "Machine") -> "Iterator[LanguageModel]":
        from wikigpt.evaluate.language_model import of_transformers

        return (of_transformers(path, machine) for path in self.hf)

    def _articles(self, run: "Run", machine: "Machine", settings: Settings) -> dict[str, Any]:
        """One split or both, article by article, and the ladder: said, and written into the run."""
        from wikigpt import tokenizer as tokenizers
        from wikigpt.data.shards import find_data
        from wikigpt.evaluate.articles import read_texts
        from wikigpt.evaluate.held_out import marked, training_data

        own = find_data(settings.DATAFOLDER, run.config.data)
        data = find_data(settings.DATAFOLDER, self.data) if self.data else own
        if own.hash != run.config.data_hash:
            problem = f"{own.spec} is not the data that {run.name} was trained on."
            raise RunError(problem, "Prepare that data again, or train on this.")
        tokenizer, records = tokenizers.load(data.path / "tokenizer"), {}
        model = self._model(run, machine, self.checkpoint, run.name)
        trained = training_data(run.config, settings.DATAFOLDER)
        for split in ("validation", "test") if self.split == "both" else (self.split,):
            texts = self._counted(marked(list(read_texts(data, split, tokenizer)), trained), run)
            name = split if self.data is None else f"{data.name}_{split}"
            records[split] = self._split(run, model, own, data, texts, name)
            if self.ladder or self.hf:
                records[split]["ladder"] = self._climb(run, machine, own, data, texts, name)
        return records[self.split] if self.split != "both" else records

    def _counted(self, texts: "list[Text]", run: "Run") -> "list[Text]":
        """Those that it was not trained on, unless it is told otherwise. Raises RunError where none is left."""
        trained = sum(text.trained_on for text in texts)
        if not trained:
            return texts
        said = f"{trained:,} of {len(texts):,} articles are among those that {run.name} was trained on"
        if self.with_trained_on:
            logger.warning(f"{said}: counted all the same")
            return texts
        if trained == len(texts):
            raise RunError(f"{said}.", "To measure them all the same: --with_trained_on.")
        logger.warning(f"{said}: left out (--with_trained_on counts them)")
        return [text for text in texts if not text.trained_on]

    def _split(
        self, run: "Run", model: "LanguageModel", own: "Data", data: "Data", texts: "list[Text]", name: str
    ) -> dict[str, Any]:
        """The figures of a split, of each folder of a mixture too."""
        from wikigpt import tokenizer as tokenizers
        from wikigpt.checkpoint import find_checkpoint
        from wikigpt.config import write_json
        from wikigpt.evaluate import kept
        from wikigpt.evaluate.articles import in_words, score_articles, summary, write_articles
        from wikigpt.evaluate.ladder import counter
        from wikigpt.evaluate.language_model import checked_context

        tokenizer = tokenizers.load(run.path / "tokenizer")
        context, stride = checked_context(self.context, self.stride, model)
        articles = score_articles(model, texts, data.tokenizer_hash, context, stride)

        def figures(what: str, trained: "Data", folder: str | None = None) -> dict[str, Any]:
            inside = [n for n, text in enumerate(texts) if folder in (None, text.folder)]
            found = summary([articles[n] for n in inside])
            bigram = counter("bigram", trained, [texts[n] for n in inside], tokenizer)
            found["bigram_bits_per_byte"] = bigram.bits_per_byte
            logger.info(f"{what}: {in_words(found)}")
            return found

        checkpoint = find_checkpoint(run.path, self.checkpoint).name
        record: dict[str, Any] = {"split": name, "data": data.name, "step": int(checkpoint.rpartition("_")[2])}
        record |= {"context": context, "stride": stride} | figures(name, own)
        logger.info(f"context {context:,}, stride {stride:,}; {_extremes(record)}")
        if len(data.parts) > 1:
            parts = {folder.name: folder for folder, _ in data.parts}
            record["folders"] = {key: figures(f"{name} of {key}", part, key) for key, part in parts.items()}
        folder = kept.folder_of(run.path, checkpoint)
        write_json(folder / f"{name}.json", record)
        write_articles(folder / f"{name}.tsv", articles)
        logger.info(f"every article: {folder / name}.tsv")
        return record

    def _climb(
        self, run: "Run", machine: "Machine", own: "Data", data: "Data", texts: "list[Text]", name: str
    ) -> list[dict[str, Any]]:
        """The ladder: said, and written and drawn into the run."""
        from wikigpt import tokenizer as tokenizers
        from wikigpt.checkpoint import find_checkpoint
        from wikigpt.config import write_json
        from wikigpt.evaluate import kept
        from wikigpt.evaluate.articles import score_articles
        from wikigpt.evaluate.ladder import COUNTERS, compressors, counter, model_rung, ordered, plot_ladder, table
        from wikigpt.evaluate.language_model import checked_context
        from wikigpt.runs import checkpoints

        tokenizer = tokenizers.load(run.path / "tokenizer")
        rungs = []
        if self.ladder:
            rungs += compressors(own, texts, tokenizer)
            rungs += [counter(kind, own, texts, tokenizer) for kind in COUNTERS]
        asked = find_checkpoint(run.path, self.checkpoint)
        paths = dict.fromkeys([asked, *(checkpoints(run.path) if self.ladder else [])])
        models = [(f"{run.name}, step {int(path.name.rpartition('_')[2]):,}", path.name) for path in paths]
        ours = (("model", self._model(run, machine, checkpoint, title)) for title, checkpoint in models)
        for kind, model in chain(
            ours, (("other", model) for model in self._others(machine))
        ):  # one at a time in memory
            context, stride = checked_context(self.context, self.stride, model)
            articles = score_articles(model, texts, data.tokenizer_hash, context, stride)
            rungs.append(model_rung(model.name, f"context {context:,}, stride {stride:,}", articles, kind))
        found: dict[str, Any] = {"run": run.name, "split": name, "data": data.name, "articles": len(texts)}
        found["rungs"] = ordered(rungs)
        write_json(run.path / kept.FOLDER / f"ladder_{name}.json", found)
        picture = plot_ladder(run.path / kept.FOLDER / f"ladder_{name}.png", found)
        if not self.common.json:
            print(table(found))
        logger.info(f"ladder: {picture}")
        return list(found["rungs"])

    def _tasks(self, run: "Run", machine: "Machine", settings: Settings) -> dict[str, Any]:
        """Benchmarks, for the run and all --hf models: said, and written into the run."""
        from wikigpt.checkpoint import find_checkpoint
        from wikigpt.evaluate import kept
        from wikigpt.evaluate.held_out import refuse, trained_titles, training_data
        from wikigpt.evaluate.tasks import in_line, prepared, read_task, read_wikitext, wikitext_titles

        named = [read_task(task) for task in self.tasks]
        trained = training_data(run.config, settings.DATAFOLDER)
        for task, path in named:
            if path is not None and task.startswith("wikitext"):
                titles = wikitext_titles(read_wikitext(path))
                refuse(task, trained_titles(trained, titles), len(titles), self.with_trained_on)
        choices = self._cloze(run, trained, settings) if ("cloze", None) in named else []
        measures = {task: prepared(task, path, choices, self.context, self.stride, self.limit) for task, path in named}
        checkpoint = find_checkpoint(run.path, self.checkpoint).name
        found: dict[str, dict[str, Any]] = {task: {} for task in measures}
        for model in chain([self._model(run, machine, self.checkpoint, run.name)], self._others(machine)):
            for task, measure in measures.items():
                found[task][model.name] = measure(model)
                logger.info(f"{task}, {model.name}: {in_line(found[task][model.name])}")
        kept.add(kept.folder_of(run.path, checkpoint) / "tasks.json", found)
        return {"tasks": found}

    def _cloze(self, run: "Run", trained: "list[DataFolder]", settings: Settings) -> "list[Choice]":
        """Questions about held-out articles."""
        from wikigpt import tokenizer as tokenizers
        from wikigpt.data.shards import find_data
        from wikigpt.evaluate.articles import read_texts
        from wikigpt.evaluate.cloze import cloze
        from wikigpt.evaluate.held_out import marked

        data = find_data(settings.DATAFOLDER, self.data or run.config.data)
        tokenizer = tokenizers.load(data.path / "tokenizer")
        splits = ("validation", "test") if self.split == "both" else (self.split,)
        texts = [text for split in splits for text in read_texts(data, split, tokenizer)]
        return cloze(self._counted(marked(texts, trained), run), self.limit)

    def _harness(self, run: "Run", machine: "Machine", settings: Settings) -> dict[str, Any]:
        """lm-evaluation-harness's tasks: said, and written into the run."""
        os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
        from wikigpt.backend import use_backend
        from wikigpt.checkpoint import find_checkpoint
        from wikigpt.evaluate import kept
        from wikigpt.evaluate.harness import Harness, harness_scores
        from wikigpt.evaluate.held_out import training_data
        from wikigpt.evaluate.language_model import of_run
        from wikigpt.evaluate.tasks import in_line
        from wikigpt.generate import load_model

        model, tokenizer = load_model(run, machine.device, self.checkpoint)
        use_backend(model, machine)
        harness = Harness(of_run(run.name, model, tokenizer, machine), model, tokenizer)
        trained = training_data(run.config, settings.DATAFOLDER)
        with redirect_stderr(io.StringIO()):  # progress bars that no setting silences
            found = harness_scores(harness, self.lm_eval, self.limit, trained, self.with_trained_on)
        for task, scores in found.items():
            logger.info(f"{task}: {in_line(scores)}")
        kept.add(kept.folder_of(run.path, find_checkpoint(run.path, self.checkpoint).name) / "lm_eval.json", found)
        return {"lm_eval": found}


def _extremes(record: dict[str, Any]) -> str:
    """The best and the worst article."""
    best, worst = record["best"][0], record["worst"][0]
    return f"best {best['title']} ({best['bits_per_byte']:.2f}), worst {worst['title']} ({worst['bits_per_byte']:.2f})"
