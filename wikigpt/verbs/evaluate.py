"""`wikigpt evaluate`"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import tyro
from loguru import logger

from wikigpt.errors import RunError
from wikigpt.verbs.common import Common, Outcome, Settings


@dataclass
class Evaluate:
    """Score a run on a whole split: loss, perplexity, bits per byte, beside a Kneser-Ney bigram."""

    run: str | None = None
    """name or path of the run; the newest finished one unless given"""
    model_config: str | None = None
    """the newest finished run of this preset"""
    checkpoint: str = "latest"
    """latest, best, a step, or the name of a folder in checkpoints/"""
    split: Literal["validation", "test"] = "validation"
    """which articles"""
    device: str | None = None
    """cpu, cuda or mps; the best there is unless given"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt import hardware
        from wikigpt.backend import choose_backend, use_backend
        from wikigpt.data.shards import find_data
        from wikigpt.evaluate import Score, bigram_score, evaluate_split, words
        from wikigpt.generate import load_model
        from wikigpt.runs import choose_run

        hardware.keep_freed_memory()
        device = hardware.choose_device(self.device)
        run = choose_run(settings.MODEL_DIR, self.run, self.model_config)
        logger.info(f"run: {run}")
        data = find_data(settings.DATAFOLDER, run.config.data)
        if data.hash != run.config.data_hash:
            problem = f"{data.spec} is not the data that {run.name} was trained on."
            raise RunError(problem, "Prepare that data again, or train on this.")
        model, tokenizer = load_model(run, device, self.checkpoint)
        same = device == run.config.device
        machine = hardware.detect(device, *((run.config.dtype, run.config.threads) if same else ()))
        if same and run.config.backend == "kernels":
            machine = replace(machine, backend=choose_backend(device)[0])
        use_backend(model, machine)
        record: dict[str, Any] = {"run": run.name, "checkpoint": self.checkpoint, "split": self.split}
        total, rows = Score(0.0, 0, 0), {}
        for folder, _ in data.parts:
            score = evaluate_split(model, folder, self.split, tokenizer.token_bytes, machine)
            total += score
            if len(data.parts) > 1:
                bigram = bigram_score(folder, self.split, tokenizer.token_bytes)
                rows[folder.name] = score.row() | {"bigram_bits_per_byte": bigram.bits_per_byte}
                logger.info(f"{self.split} of {folder.name}: {words(score, bigram)}")
        bigram = bigram_score(data, self.split, tokenizer.token_bytes)
        logger.info(f"{self.split}: {words(total, bigram)}")
        record |= total.row() | {"bigram_bits_per_byte": bigram.bits_per_byte}
        return Outcome(record | ({"folders": rows} if rows else {}))
