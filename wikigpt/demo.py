"""`wikigpt demo`: the whole path in five minutes, through the verbs that anyone would type."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from wikigpt.verbs import Evaluate, Generate, Prepare, Settings, Train

TITLES = {"en": "Moon cheese", "es": "Queso de luna", "fr": "Fromage de lune"}


@dataclass
class Demo:
    """Prepare the bundled sample, train three minutes, evaluate, and write an article."""

    wiki: str = "en"
    """en, es or fr"""
    hours: float = 0.05
    """of training"""

    def __call__(self, settings: Settings) -> int:
        data, run = f"sample-{self.wiki}", f"sample-{self.wiki}-tiny"
        title = TITLES.get(self.wiki, TITLES["en"])
        self._say("1. Prepare: Wikipedia's most vital articles become tokens")
        Prepare(wiki=self.wiki, name=data)(settings)
        self._say(f"2. Train: a small GPT for {self.hours * 60:g} minutes")
        folder = Path(settings.MODEL_DIR) / run
        Train(data=data, run=run, model_config="tiny", training_setting="cpu", hours=self.hours)(settings)
        self._say("3. Evaluate: on articles that it has never seen")
        Evaluate(run=run, split="test")(settings)
        self._say(f"4. Generate: an article called {title!r}")
        Generate(run=run, title=title, top_k=50, max_gen=150, seed=1, stream=True)(settings)
        self._say(f"Done. Curves: {folder / 'loss.png'}. Samples from step 0 on: {folder / 'samples.md'}. Go on with:")
        wikigpt = shlex.quote(sys.argv[0])
        print(f"  {wikigpt} generate --run {run} --title {shlex.quote(title)} --num_samples 3")
        print(f"  {wikigpt} evaluate --run {run}")
        print(f"  {wikigpt} train --data {data} --model_config small --training_setting cpu --hours 0.5", flush=True)
        return 0

    def _say(self, text: str) -> None:
        logger.opt(colors=True).info("\n<bold>{}</bold>", text)
