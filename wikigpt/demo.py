"""`wikigpt demo`: the whole path in five minutes, through the verbs that anyone would type."""

import shlex
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import tyro
from loguru import logger

from wikigpt.config import RunConfig
from wikigpt.verbs import Evaluate, Generate, Outcome, Prepare, Settings, Train
from wikigpt.verbs.common import Common

MODEL = "modern_tiny"
TITLES = {"en": "Moon cheese", "es": "Queso de luna", "fr": "Fromage de lune"}


@dataclass
class Demo:
    """Prepare the bundled sample, train three minutes, evaluate, and write an article."""

    wiki: str = "en"
    """en, es or fr"""
    hours: float = 0.05
    """of training"""

    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        data, run = self._data_name(settings), self._run_name(settings)
        title = TITLES.get(self.wiki, "")
        steps = (
            (
                "1. Prepare: Wikipedia's most vital articles become tokens",
                Prepare(wiki=self.wiki, source="sample", name=data),
            ),
            (
                f"2. Train: a small GPT for {self.hours * 60:g} minutes",
                Train(data=data, run=run, model_config=MODEL, training_setting="small_models", hours=self.hours),
            ),
            (
                "3. Evaluate: on articles that it has never seen, beside what only compresses or counts",
                Evaluate(run=run, split="test", ladder=True, common=self.common),
            ),
            (
                f"4. Generate: an article called {title!r}",
                Generate(run=run, title=title, top_k=50, seed=1, stream=True, common=self.common),
            ),
        )
        records = {}
        for heading, verb in steps:
            _say(heading)
            records[type(verb).__name__.lower()], code = verb(settings)
            if code:
                return Outcome(records, code)
        folder = Path(settings.MODEL_DIR) / run
        _say(f"Done. Curves and samples from step 0 on: {folder / 'report.html'}. Go on with:")
        out = sys.stderr if self.common.json else sys.stdout
        print(f"  {own_command()} generate --run {run} --title {shlex.quote(title)} --num_samples 3", file=out)
        print(f"  {own_command()} studio", file=out)
        print(f"  {own_command()} runs inspect --run {run} --writing", file=out)
        print(f"  {own_command()} train --data {data} --model_config modern_small --hours 0.5", file=out, flush=True)
        return Outcome(records)

    def _run_name(self, settings: Settings) -> str:
        """<wiki>-demo, unless that is a run of an earlier version, whose demo had another model."""
        name = f"{self.wiki}-demo"
        path = Path(settings.MODEL_DIR) / name / "run.json"
        if path.exists() and RunConfig.load(path).model_config != MODEL:
            return f"{name}-modern"
        return name

    def _data_name(self, settings: Settings) -> str:
        """The language code, as `wikigpt prepare` has it, unless that folder holds something else."""
        from wikigpt.data.shards import MANIFEST, DataFolder

        folder = Path(settings.DATAFOLDER) / self.wiki
        if (folder / MANIFEST).exists():
            verb, manifest = Prepare(wiki=self.wiki, source="sample"), DataFolder(folder).manifest
            source = verb.make_source(settings, 1)
            wanted = source.name, asdict(verb.make_settings(settings, source.wiki, source.name))
            if (manifest["source"]["name"], manifest["settings"]) != wanted:
                return f"{self.wiki}-sample"
        return self.wiki


def own_command() -> str:
    """How this program was called, to be typed again in the same shell."""
    if Path(sys.argv[0]).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m wikigpt"
    return shlex.quote(sys.argv[0])


def _say(text: str) -> None:
    logger.opt(colors=True).info("\n<bold>{}</bold>", text)
