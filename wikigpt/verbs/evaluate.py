"""`wikigpt evaluate`"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from loguru import logger

from wikigpt.config import write_json
from wikigpt.errors import ConfigError, RunError, WikiGPTError
from wikigpt.verbs.common import Common, Outcome, Settings

if TYPE_CHECKING:
    from wikigpt.data.shards import Data, DataFolder
    from wikigpt.evaluate.articles import ArticleScore, Text
    from wikigpt.evaluate.ladder import Rung
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
        from wikigpt.checkpoint import find_checkpoint
        from wikigpt.evaluate import kept
        from wikigpt.report import write_report
        from wikigpt.runs import choose_run

        self._check_flags()
        hardware.keep_freed_memory()
        device = hardware.choose_device(self.device)
        run = choose_run(settings.MODEL_DIR, self.run, self.model_config)
        logger.info(f"run: {run}")
        self._check_models()
        machine = self._machine(run, device)
        folder = kept.folder_of(run.path, find_checkpoint(run.path, self.checkpoint).name)
        measured = self._harness if self.lm_eval else self._tasks if self.tasks else self._articles
        record = measured(run, machine, folder, settings)
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
        if self.limit is not None and not alone:
            raise ConfigError("--limit is for benchmarks.", "Leave it out, or name some with --tasks or --lm_eval.")
        if self.lm_eval and (self.context or self.stride):
            raise ConfigError("--lm_eval has windows of its own.", "Leave out --context and --stride.")
        names = [task.partition("=")[0] for task in self.tasks]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"{twice[0]} was named twice.", "Name each once.")
        if self.lm_eval and self.hf:
            raise ConfigError("--lm_eval scores a run.", "For a model of transformers call: lm_eval --model hf")

    def _check_models(self) -> None:
        """What is wrong with another model is said before anything takes long."""
        for path in self.hf:
            if not Path(path).exists() and not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path):
                raise ConfigError(f"There is no folder {path}.", "Name one with --hf, or a repository of the hub.")
            from wikigpt.evaluate.language_model import check_transformers, context_of

            most = context_of(check_transformers(path)[0])
            if self.context is not None and self.context > most:
                raise ConfigError(f"context is {self.context}.", f"{path} has 1 to {most:,}.")

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
        """Loaded one after the other."""
        from wikigpt.evaluate.language_model import of_transformers

        return (of_transformers(path, machine) for path in self.hf)

    @property
    def _splits(self) -> tuple[str, ...]:
        return ("validation", "test") if self.split == "both" else (self.split,)

    def _articles(self, run: "Run", machine: "Machine", folder: Path, settings: Settings) -> dict[str, Any]:
        """One split or both, article by article, and the ladder: said, and written into the run."""
        from wikigpt.evaluate.articles import score_articles, write_articles
        from wikigpt.evaluate.held_out import training_data
        from wikigpt.evaluate.language_model import checked_context

        data, own = self._find_data(run, settings)
        model, records = self._model(run, machine, self.checkpoint, run.name), {}
        trained = training_data(run.config, settings.DATAFOLDER)
        context, stride = checked_context(self.context, self.stride, model)
        for split in self._splits:
            name = split if self.data is None else f"{data.name}_{split}"
            texts = self._texts(run, data, (split,), trained)
            articles = score_articles(model, texts, data.tokenizer_hash, context, stride)
            write_articles(folder / f"{name}.tsv", articles)
            counted = [n for n, text in enumerate(texts) if self.with_trained_on or not text.trained_on]
            record: dict[str, Any] = {"split": name, "data": data.name, "step": int(folder.name.rpartition("_")[2])}
            record |= {
                "context": context,
                "stride": stride,
                "dtype": machine.dtype,
                "left_out": len(texts) - len(counted),
            }
            texts, articles = [texts[n] for n in counted], [articles[n] for n in counted]
            records[split] = self._figures(record, data, own, texts, articles)
            write_json(folder / f"{name}.json", records[split])
            logger.info(f"context {context:,}, stride {stride:,}; every article: {folder / name}.tsv")
            if self.ladder or self.hf:
                rungs = self._climb(run, machine, own, records[split], texts, articles, folder.name)
                records[split]["ladder"] = rungs
        return records[self.split] if self.split != "both" else records

    def _find_data(self, run: "Run", settings: Settings) -> "tuple[Data, Data | None]":
        """The articles' data, and the run's own, which only other data can do without."""
        from wikigpt.data.shards import find_data

        try:
            own = find_data(settings.DATAFOLDER, run.config.data)
            if own.hash != run.config.data_hash:
                problem = f"{own.spec} is not the data that {run.name} was trained on."
                raise RunError(problem, "Prepare that data again, train on this, or score other articles with --data.")
        except WikiGPTError as error:
            if self.data is None or self.ladder:
                raise
            logger.warning(f"no bigram beside it: {error.problem}")
            return find_data(settings.DATAFOLDER, self.data), None
        return (own if self.data is None else find_data(settings.DATAFOLDER, self.data)), own

    def _texts(self, run: "Run", data: "Data", splits: tuple[str, ...], folders: "list[DataFolder]") -> "list[Text]":
        """The articles of some splits; those that the run was trained on, in `folders`, are marked and said. Raises RunError
        where none is left that counts."""
        from wikigpt import tokenizer as tokenizers
        from wikigpt.evaluate.articles import read_texts
        from wikigpt.evaluate.held_out import marked

        tokenizer = tokenizers.load(data.path / "tokenizer")
        texts = [text for split in splits for text in read_texts(data, split, tokenizer)]
        texts = marked(texts, folders)
        if trained := sum(text.trained_on for text in texts):
            said = f"{trained:,} of {len(texts):,} articles are among those that {run.name} was trained on"
            if trained == len(texts) and not self.with_trained_on:
                raise RunError(f"{said}.", "To measure them all the same: --with_trained_on.")
            how = "counted all the same" if self.with_trained_on else "left out (--with_trained_on counts them)"
            logger.warning(f"{said}: {how}")
        return texts

    def _figures(
        self,
        record: dict[str, Any],
        data: "Data",
        own: "Data | None",
        texts: "list[Text]",
        articles: "list[ArticleScore]",
    ) -> dict[str, Any]:
        """All that is said of some articles, beside the run's bigram; of each folder of a mixture too."""
        from wikigpt import tokenizer as tokenizers
        from wikigpt.evaluate.articles import in_words, summary
        from wikigpt.evaluate.ladder import counter

        def figures(what: str, inside: list[int], trained: "Data | None") -> dict[str, Any]:
            found = summary([articles[n] for n in inside])
            if trained is not None:
                tokenizer = tokenizers.load(trained.path / "tokenizer")
                bigram = counter("bigram", trained, [texts[n] for n in inside], tokenizer)
                found["bigram_bits_per_byte"] = bigram.bits_per_byte
            logger.info(f"{what}: {in_words(record | found)}")
            return found

        name = record["split"]
        record = record | figures(name, list(range(len(texts))), own)
        best, worst = record["best"][0], record["worst"][0]
        logger.info(
            f"best: {best['title']} ({best['bits_per_byte']:.2f}), worst: {worst['title']} ({worst['bits_per_byte']:.2f})"
        )
        if len(data.parts) > 1:
            record["folders"] = {}
            for folder, _ in data.parts:
                inside = [n for n, text in enumerate(texts) if text.data is folder]
                trained = own if self.data else folder
                if inside:
                    record["folders"][folder.name] = figures(f"{name} of {folder.name}", inside, trained)
        return record

    def _climb(
        self,
        run: "Run",
        machine: "Machine",
        own: "Data | None",
        record: dict[str, Any],
        texts: "list[Text]",
        articles: "list[ArticleScore]",
        checkpoint: str,
    ) -> list[dict[str, Any]]:
        """The ladder: said, and written and drawn into the run after every rung that takes long."""
        from wikigpt import tokenizer as tokenizers
        from wikigpt.evaluate import kept, ladder
        from wikigpt.evaluate.articles import score_articles
        from wikigpt.evaluate.language_model import checked_context
        from wikigpt.runs import checkpoints

        path = run.path / kept.FOLDER / f"ladder_{record['split']}.json"
        what = {"run": run.name, "split": record["split"], "data": record["data"]}
        what |= {"articles": len(texts), "bytes": sum(text.bytes for text in texts)}
        what["trained_on"] = sum(text.trained_on for text in texts)

        def add(*rungs: "Rung") -> None:
            found = ladder.climbed(rungs, kept.read(path), **what)
            write_json(path, found)
            ladder.plot_ladder(path.with_suffix(".png"), found)

        def score(model: "LanguageModel", kind: str) -> None:
            context, stride = checked_context(self.context, self.stride, model)
            scored = score_articles(model, texts, texts[0].data.tokenizer_hash, context, stride)
            add(ladder.model_rung(model.name, context, stride, scored, kind))

        if self.ladder and own is not None:
            tokenizer = tokenizers.load(run.path / "tokenizer")
            add(*ladder.compressors(own, texts, tokenizer))
            add(*(ladder.counter(kind, own, texts, tokenizer) for kind in ladder.COUNTERS))
        title = title_of(run.name, checkpoint)
        add(ladder.model_rung(title, record["context"], record["stride"], articles, "model"))
        for other in [path.name for path in checkpoints(run.path) if self.ladder and path.name != checkpoint]:
            score(self._model(run, machine, other, title_of(run.name, other)), "model")
        for model in self._others(machine):
            score(model, "other")
        found = kept.read(path)
        if not self.common.json:
            print(ladder.table(found))
        logger.info(f"ladder: {path.with_suffix('.png')}")
        return list(found["rungs"])

    def _tasks(self, run: "Run", machine: "Machine", folder: Path, settings: Settings) -> dict[str, Any]:
        """Benchmarks, for the run and all --hf models: said, and written into the run after each."""
        from wikigpt.evaluate import kept
        from wikigpt.evaluate.cloze import cloze
        from wikigpt.evaluate.held_out import refuse, trained_titles, training_data
        from wikigpt.evaluate.tasks import in_line, measure, read_task, read_wikitext, wikitext_titles

        named, questions = [read_task(task) for task in self.tasks], []
        trained: dict[str, dict[str, Any]] = {}
        folders = training_data(run.config, settings.DATAFOLDER)
        for task, path in named:
            if path is not None and task.startswith("wikitext"):
                titles = wikitext_titles(read_wikitext(path))
                seen = trained_titles(folders, titles)
                refuse(task, seen, len(titles), self.with_trained_on)
                trained[task] = {"trained_on": len(seen)} if seen else {}
        if ("cloze", None) in named:
            data, _ = self._find_data(run, settings)
            texts = self._texts(run, data, self._splits, folders)
            texts = [text for text in texts if self.with_trained_on or not text.trained_on]
            questions = cloze(texts)[: self.limit]
            trained["cloze"] = {"of": f"{' and '.join(self._splits)} articles of {data.name}"}
            if seen_here := sum(text.trained_on for text in texts):
                trained["cloze"] |= {"trained_on": seen_here}
        measures = {task: measure(task, path, questions, self.context, self.stride, self.limit) for task, path in named}
        found: dict[str, dict[str, Any]] = {task: {} for task in measures}
        for model in chain([self._model(run, machine, self.checkpoint, run.name)], self._others(machine)):
            for task, ask in measures.items():
                name = model.name if model.name != run.name or not found[task] else f"{model.name} (transformers)"
                found[task][name] = ask(model) | trained.get(task, {})
                logger.info(f"{task}, {name}: {in_line(found[task][name])}")
                before = kept.read(folder / "tasks.json").get(task, {})
                kept.add(folder / "tasks.json", {task: before | found[task]})
        return {"tasks": found}

    def _harness(self, run: "Run", machine: "Machine", folder: Path, settings: Settings) -> dict[str, Any]:
        """lm-evaluation-harness's tasks: said, and written into the run."""
        os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
        from wikigpt.backend import use_backend
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
        found = harness_scores(harness, self.lm_eval, self.limit, trained, self.with_trained_on)
        for task, scores in found.items():
            logger.info(f"{task}: {in_line(scores)}")
        kept.add(folder / "lm_eval.json", found)
        return {"lm_eval": found}


def title_of(run: str, checkpoint: str) -> str:
    """How a checkpoint is called on the ladder: "en-demo, step 873"."""
    kind, _, number = checkpoint.partition("_")
    return f"{run}, {kind} {int(number):,}"
