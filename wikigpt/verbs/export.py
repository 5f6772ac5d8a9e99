"""`wikigpt export`"""

from dataclasses import dataclass, field
from pathlib import Path

import tyro
from loguru import logger

from wikigpt.errors import ConfigError
from wikigpt.verbs.common import Common, Outcome, Settings


@dataclass
class Export:
    """Write a run as a folder that AutoModelForCausalLM and AutoTokenizer load with no code of ours: exports/<run>/."""

    run: str | None = None
    """name or path of the run; the newest finished one unless given"""
    model_config: str | None = None
    """the newest finished run of this preset"""
    checkpoint: str = "latest"
    """latest, best, a step, or the name of a folder in checkpoints/"""
    folder: Path | None = None
    """where to; exports/<run> unless given"""
    push: str | None = None
    """also upload it to this repository of the Hugging Face hub: USER/NAME. Needs HF_TOKEN, in .env or the environment"""
    private: bool = False
    """make the repository private"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt.export.huggingface import export
        from wikigpt.export.push import push
        from wikigpt.runs import choose_run

        if self.private and self.push is None:
            raise ConfigError("--private goes with --push.", "Name the repository with --push USER/NAME.")
        run = choose_run(settings.MODEL_DIR, self.run, self.model_config)
        logger.info(f"run: {run}")
        folder = self.folder or Path("exports") / run.name
        files = export(run, self.checkpoint, folder)
        logger.info(f"exported: {folder} ({', '.join(files)})")
        url = None
        if self.push is not None:
            url = push(folder, files, self.push, self.private)
            logger.info(f"pushed: {url}")
        else:
            logger.info("to publish it: --push USER/NAME; to try it: python hf_infer.py --model " + str(folder))
        return Outcome({"run": run.name, "folder": str(folder), "files": files, "url": url})
