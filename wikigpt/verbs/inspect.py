"""`wikigpt runs inspect`"""

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import tyro
from loguru import logger

from wikigpt.errors import ConfigError, DataError, RunError, WikiGPTError
from wikigpt.verbs.common import Common, Outcome, Settings, colour_on

if TYPE_CHECKING:
    from wikigpt.analysis.memory import Passage
    from wikigpt.data.passages import Passages
    from wikigpt.hardware import Machine
    from wikigpt.runs import Run
    from wikigpt.tokenizer import Tokenizer
    from wikigpt.transformer import GPTModel

Part = Literal["surprise", "passages", "attention", "lens", "norms"]
INSIDE = 96  # tokens whose attention and lens are shown
PASSAGE = 8  # tokens from which on a passage is shown
MOST = 10_000  # tokens of a text that are looked at: a browser takes seconds for so many


@dataclass
class RunsInspect:
    """Look inside a run: its surprise at a text, attention, logit lens, where it learned a phrase, what it memorised."""

    run: str | None = None
    """name or path of the run; the newest finished one unless given"""
    title: str | None = None
    """the article of this title (or page id, or that holds a token: train:123), from its data; without any text the first of
    validation"""
    input: str | None = None
    """this text"""
    file: Path | None = None
    """the text of this file"""
    show: tuple[Part, ...] | None = None
    """what of it; all unless given (passages only where the training text is indexed already, or small)"""
    neighbours: str | None = None
    """instead: the nearest embeddings of the tokens of this text"""
    learned_from: str | None = None
    """instead: the longest passage of this phrase that the training text holds, and its article"""
    memorised: bool = False
    """instead: how much of what it writes stands in the training text, in rows of 50 tokens or more"""
    num_samples: int = 20
    """texts for --memorised"""
    max_gen: int = 200
    """tokens of each"""
    temperature: float = 1.0
    """of each; 1 is the model itself"""
    writing: bool = False
    """instead: writing.svg, what it wrote from its first step on for one --title of samples.md"""
    checkpoint: str = "latest"
    """latest, best, a step, or the name of a folder in checkpoints/"""
    device: str | None = None
    """cpu, cuda or mps; the best there is unless given"""
    out: Path | None = None
    """the page (or picture) to write; in the run unless given"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt.runs import choose_run

        self._check_flags()
        run = choose_run(settings.MODEL_DIR, self.run, None)
        logger.info(f"run: {run}")
        if self.writing:
            from wikigpt.analysis.writing import write_writing

            path = write_writing(run, self.title, self.out)
            logger.info(f"picture: {path}")
            return Outcome({"run": run.name, "picture": str(path)})
        if self.learned_from is not None:
            return Outcome({"run": run.name} | self._learned(run, settings))
        from wikigpt import hardware
        from wikigpt.generate import load_model

        hardware.keep_freed_memory()
        device = hardware.choose_device(self.device)
        model, tokenizer = load_model(run, device, self.checkpoint)
        if self.neighbours is not None:
            return Outcome({"run": run.name} | self._neighbours(model, tokenizer))
        if self.memorised:
            return Outcome({"run": run.name} | self._memorised(run, model, tokenizer, settings))
        machine = hardware.detect(device, "float32")
        return Outcome({"run": run.name} | self._text(run, model, tokenizer, machine, settings))

    def _check_flags(self) -> None:
        what = {"--neighbours": self.neighbours is not None, "--learned_from": self.learned_from is not None}
        what |= {"--memorised": self.memorised, "--writing": self.writing}
        texts = {"--title": self.title is not None and not self.writing, "--input": self.input is not None}
        texts |= {"--file": self.file is not None}
        for group in (what, texts):
            if len(given := [flag for flag, value in group.items() if value]) > 1:
                raise ConfigError(f"{' and '.join(given)} were given together.", "Give one of them.")
        both = [flag for group in (what, texts) for flag, value in group.items() if value]
        if len(both) > 1:
            raise ConfigError(f"{both[0]} looks at no text of its own.", f"Leave out {both[1]}.")
        if self.out is not None and (alone := [flag for flag in what if what[flag] and flag != "--writing"]):
            raise ConfigError(f"{alone[0]} writes no file.", "Leave out --out.")
        if self.show == ():
            raise ConfigError("--show says nothing.", "Name a part, or leave it out.")
        for flag, text in (
            ("--learned_from", self.learned_from),
            ("--neighbours", self.neighbours),
            ("--title", self.title),
        ):
            if text is not None and not text.strip():
                raise ConfigError(f"{flag} is empty.", "Give some text.")
        for name, value in (("num_samples", self.num_samples), ("max_gen", self.max_gen)):
            if value < 1:
                raise ConfigError(f"{name} is {value}.", "Give 1 or more.")

    def _index(self, run: "Run", settings: Settings) -> "list[Passages]":
        from wikigpt.data.passages import Passages
        from wikigpt.data.shards import find_data

        data = find_data(settings.DATAFOLDER, run.config.data)
        if data.hash != run.config.data_hash:
            problem = f"{data.spec} is not the data that {run.name} was trained on."
            raise RunError(problem, "Prepare that data again; then its passages can be found.")
        return [Passages(folder) for folder, _ in data.parts]

    def _learned(self, run: "Run", settings: Settings) -> dict[str, Any]:
        from wikigpt import tokenizer as tokenizers
        from wikigpt.analysis.memory import longest_of_text

        tokenizer = tokenizers.load(run.path / "tokenizer")
        found = longest_of_text(self.learned_from or "", self._index(run, settings), tokenizer)
        if not self.common.json:
            if found is None:
                print("not even one token of it stands in the training text")
            else:
                print(f"{found.tokens} tokens: {found.text!r}")
                print(f"in: {found.title or '(untitled)'}" + (f", revision {found.revision}" if found.revision else ""))
                print(found.url or "(no address)")
        return {"passage": asdict(found) if found else None}

    def _neighbours(self, model: "GPTModel", tokenizer: "Tokenizer") -> dict[str, Any]:
        from wikigpt.analysis.inside import nearest, shown

        found = []
        for token in tokenizer.encode(self.neighbours or "").tolist():
            near = nearest(model, tokenizer, token)
            found.append({"id": token, "text": shown(tokenizer, token), "nearest": near})
            if not self.common.json:
                print(f"{shown(tokenizer, token)!r}: " + ", ".join(f"{word!r} {cosine:.2f}" for word, cosine in near))
        return {"neighbours": found}

    def _memorised(self, run: "Run", model: "GPTModel", tokenizer: "Tokenizer", settings: Settings) -> dict[str, Any]:
        from wikigpt.analysis.memory import LONG, memorised
        from wikigpt.data.shards import find_data
        from wikigpt.generate import Sampling

        index = self._index(run, settings)
        folder = find_data(settings.DATAFOLDER, run.config.data).parts[0][0]
        held_out = folder.stream("validation").read(0, self.num_samples * self.max_gen)
        sampling = Sampling(self.max_gen, self.temperature)
        found = memorised(model, tokenizer, index, held_out, self.num_samples, sampling)
        if not self.common.json:
            rows = f"stand in the training text in rows of {LONG} or more"
            print(f"{found.share:.1%} of {found.tokens:,} generated tokens {rows}")
            print(f"{found.held_out_share:.1%} of {found.held_out_tokens:,} tokens of held-out articles do")
            for one in found.longest:
                print(f"{one.tokens:4} tokens from {one.title or '(untitled)'} {one.url}: {one.text!r}")
        return asdict(found)

    def _text(
        self, run: "Run", model: "GPTModel", tokenizer: "Tokenizer", machine: "Machine", settings: Settings
    ) -> dict[str, Any]:
        """The page of one text, and its surprise in the terminal."""
        from wikigpt.analysis.inside import lens_words, look_inside, norms
        from wikigpt.analysis.pages import Look, html, in_colours, in_lines
        from wikigpt.analysis.surprise import pieces, surprise
        from wikigpt.config import write_text
        from wikigpt.evaluate.language_model import of_run

        show: tuple[Part, ...] = get_args(Part) if self.show is None else self.show
        about, ids, context = *self._chosen_text(run, tokenizer, settings), model.config.context_length
        if len(ids) > MOST:
            about["note"] += f" The first {MOST:,} of {len(ids) - 1:,} tokens."
            ids = ids[: MOST + 1]
        found: dict[str, Any] = {}
        if "surprise" in show:
            language_model = of_run(run.name, model, tokenizer, machine)
            found["tokens"] = surprise(language_model, tokenizer, ids, context, max(1, context // 2))
        if "passages" in show and (self.show is not None or not about["trained_on"]):  # else it would find itself
            found["passages"] = self._passages(run, ids[1:], tokenizer, settings)
        short = ids[: min(INSIDE, context)]
        found["words"] = list(pieces(tokenizer, short))
        if "attention" in show or "lens" in show:
            inside = look_inside(model, short)
            found["attention_LHTT"] = inside.attention_LHTT if "attention" in show else None
            found["lens"] = lens_words(model, tokenizer, inside) if "lens" in show else ()
        if "norms" in show:
            found |= {"norms": norms(model, ids[: context + 1]), "norms_of": min(len(ids) - 1, context)}
        del about["trained_on"]
        path = self.out or run.path / "look.html"
        write_text(path, html(Look(run.name, **about, **found)))
        if not self.common.json and "tokens" in found:
            print(in_colours(found["tokens"]) if colour_on(sys.stdout) else in_lines(found["tokens"]))
        logger.info(f"page: {path}")
        record = {name: [asdict(one) for one in found.get(name) or ()] for name in ("tokens", "norms", "passages")}
        return {"page": str(path), "what": about["what"], "lens": found.get("lens", ())} | record

    def _passages(
        self, run: "Run", ids: list[int], tokenizer: "Tokenizer", settings: Settings
    ) -> "list[Passage] | None":
        """None where they cannot be found and were not asked for by name."""
        from wikigpt.analysis.memory import passages_of
        from wikigpt.data.passages import SMALL, is_indexed
        from wikigpt.data.shards import find_data

        try:
            folders = [folder for folder, _ in find_data(settings.DATAFOLDER, run.config.data).parts]
            waiting = sum(folder.training_tokens for folder in folders if not is_indexed(folder))
            if self.show is None and waiting > SMALL:
                raise RunError("The training text is not indexed yet.", "Ask for it with: --show passages")
            return passages_of(ids, self._index(run, settings), tokenizer, PASSAGE)
        except WikiGPTError as error:
            if self.show is not None:
                raise
            logger.warning(f"without passages: {error.problem} {error.fix}")
            return None

    def _chosen_text(self, run: "Run", tokenizer: "Tokenizer", settings: Settings) -> tuple[dict[str, Any], list[int]]:
        """What it is called and where it is from, and its ids behind an end-of-text."""
        if self.input is not None or self.file is not None:
            try:
                text = self.input if self.file is None else self.file.read_text(encoding="utf-8-sig")
            except UnicodeDecodeError as error:
                raise ConfigError(f"{self.file} is no UTF-8 text ({error.reason}).", "Name another --file.") from error
            ids = tokenizer.encode(text or "").tolist()
            if not ids:
                raise ConfigError("The text is empty.", "Give some with --input, --file or --title.")
            name = str(self.file.name) if self.file else "A text"
            return {"what": name, "note": "", "trained_on": False}, [tokenizer.end_of_text, *ids]
        from wikigpt.data.lookup import look_up
        from wikigpt.data.shards import find_data
        from wikigpt.evaluate.articles import Text
        from wikigpt.evaluate.held_out import marked, training_data

        data = find_data(settings.DATAFOLDER, run.config.data)
        if data.hash != run.config.data_hash:
            problem = f"{data.spec} is not the data that {run.name} was trained on."
            raise RunError(problem, "Prepare that data again, or give the text with --input or --file.")
        for number, (folder, _) in enumerate(data.parts, 1):
            try:
                article = look_up(folder, self.title or "validation:0")
                break
            except DataError:
                if number == len(data.parts):
                    raise
        row = article.row
        (held,) = marked([Text(row, article.ids, "", folder)], training_data(run.config, settings.DATAFOLDER))
        trained_on = row["split"] == "train" or held.trained_on
        seen = "trained on" if trained_on else "never trained on"
        note = f"An article of {folder.name} that it was {seen} ({row['split']})."
        about = {"what": row["title"], "note": note, "url": row["url"], "trained_on": trained_on}
        return about, [tokenizer.end_of_text, *article.ids.tolist()]
