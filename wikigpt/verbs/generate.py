"""`wikigpt generate`"""

import secrets
from dataclasses import dataclass, field

import tyro
from loguru import logger

from wikigpt.errors import ConfigError
from wikigpt.verbs.common import Common, Outcome, Settings


@dataclass
class Generate:
    """Write text with a trained model. A base model continues text; it does not answer questions."""

    input: str | None = None
    """text to continue"""
    title: str | None = None
    """write the article of this title"""
    run: str | None = None
    """name or path of the run; the newest finished one unless given"""
    model_config: str | None = None
    """the newest finished run of this preset"""
    checkpoint: str = "latest"
    """latest, best, a step, or the name of a folder in checkpoints/"""
    max_gen: int = 200
    """tokens at the most; an article may end before"""
    temperature: float = 0.8
    """0 takes the likeliest token always; above 1 is bolder than the model itself"""
    top_k: int | None = None
    """draw from the k likeliest tokens only"""
    top_p: float | None = None
    """draw from the likeliest tokens that together have this probability"""
    seed: int | None = None
    """the same seed gives the same text; drawn and shown unless given"""
    num_samples: int = 1
    """how many texts"""
    stream: bool = False
    """print the text while it is written"""
    device: str | None = None
    """cpu, cuda or mps; the best there is unless given"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt import hardware
        from wikigpt.data.article import prompt
        from wikigpt.generate import Sampling, generate_text, load_model
        from wikigpt.runs import choose_run

        if (self.input is None) == (self.title is None):
            raise ConfigError("Nothing or too much to write about.", "Give one of --input TEXT and --title TITLE.")
        if self.num_samples < 1:
            raise ConfigError(f"num_samples is {self.num_samples}.", "Give 1 or more.")
        start = self.input if self.input is not None else prompt(self.title or "")
        seed = self.seed if self.seed is not None else secrets.randbelow(10_000)
        Sampling(self.max_gen, self.temperature, self.top_k, self.top_p, seed)  # a wrong flag is said before loading
        device = hardware.choose_device(self.device)
        run = choose_run(settings.MODEL_DIR, self.run, self.model_config)
        logger.info(f"run: {run}, seed {seed}")
        model, tokenizer = load_model(run, device, self.checkpoint)
        texts = []
        for number in range(self.num_samples):
            sampling = Sampling(self.max_gen, self.temperature, self.top_k, self.top_p, seed + number)
            pieces = generate_text(model, tokenizer, start, sampling)
            if self.common.json:
                texts.append(start + "".join(pieces))
                continue
            if number:
                print("\n---")
            if self.stream:
                print(start, end="", flush=True)
                for piece in pieces:
                    print(piece, end="", flush=True)
                print()
            else:
                print(start + "".join(pieces), flush=True)
        return Outcome({"run": run.name, "checkpoint": self.checkpoint, "seed": seed, "prompt": start, "texts": texts})
