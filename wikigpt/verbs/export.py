"""`wikigpt export`"""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from loguru import logger

from wikigpt.errors import ConfigError
from wikigpt.verbs.common import Common, Outcome, Settings

if TYPE_CHECKING:
    from wikigpt.export.push import Destination
    from wikigpt.export.trained import Trained


@dataclass
class Export:
    """Publish a run: exports/<run>/, a folder that AutoModelForCausalLM and AutoTokenizer load with no code of ours."""

    run: str | None = None
    """name or path of the run; the newest finished one unless given"""
    model_config: str | None = None
    """the newest finished run of this preset"""
    checkpoint: str = "latest"
    """latest, best, a step, or the name of a folder in checkpoints/"""
    folder: Path | None = None
    """where to; exports/<run> unless given"""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """of the weights in model.safetensors"""
    max_shard_size: str = "5GB"
    """a larger model becomes several files"""
    gguf: tuple[Literal["f32", "f16", "q8_0"], ...] | None = None
    """also files for llama.cpp in these types (f16 where none is named), and a Modelfile for Ollama with the first"""
    html: bool = False
    """also index.html: one page that holds the model and writes offline in any browser (up to 25 million parameters)"""
    push: str | None = None
    """also upload it to this repository of the Hugging Face hub: USER/NAME, or USER (the name is then
    wikigpt-<language>-<size>). Needs HF_TOKEN, in .env or the environment"""
    space: str | None = None
    """also upload the page as this static space: USER/NAME, or USER"""
    public: bool = False
    """make what is uploaded public; private unless given"""
    revision: str | None = None
    """upload to this branch, which is made where it is not there; main unless given"""
    dry_run: bool = False
    """write the folder, and say what --push and --space would send"""
    common: tyro.conf.OmitArgPrefixes[Common] = field(default_factory=Common)

    def __call__(self, settings: Settings) -> Outcome:
        from wikigpt.export.card import example, snippet
        from wikigpt.export.folder import check_folder, check_form, write_folder
        from wikigpt.export.trained import Form, read_trained
        from wikigpt.runs import choose_run

        self._check_flags()
        run = choose_run(settings.MODEL_DIR, self.run, self.model_config)
        logger.info(f"run: {run}")
        folder = self.folder or Path("exports") / run.name
        gguf: tuple[Literal["f32", "f16", "q8_0"], ...] = () if self.gguf is None else self.gguf or ("f16",)
        form = Form(self.dtype, self.max_shard_size, gguf, self.html or self.space is not None)
        whole = folder.resolve()  # the working folder may be the one that is replaced
        check_folder(folder)
        trained = read_trained(run, self.checkpoint)
        check_form(trained, form)
        model, space = self._destinations(trained)
        before = {path.name for path in whole.iterdir()} if whole.exists() else set()
        repository = model.repository if model else f"USER/{trained.name}"
        files = write_folder(trained, form, folder, repository, self.revision if model else None)
        if self.checkpoint == "latest" and trained.step != run.step:
            logger.warning(f"the checkpoint of step {run.step:,} is damaged: step {trained.step:,} is taken")
        logger.info(f"exported: {folder}, step {trained.step:,} ({', '.join(files)})")
        if gone := sorted(name for name in before - set(files) if name.endswith((".gguf", ".html"))):
            logger.warning(f"no longer there: {', '.join(gone)}; --gguf and --html make such files")
        url, space_url = self._push(whole, files, model), self._push_page(whole, trained, space, model)
        if url and model:
            logger.info("to use it:\n\n" + snippet(model.repository, example(trained), self.revision))
        if not (self.push or self.space):
            named = ["--run", run.name, *self._where(), *form.flags]
            again = f"wikigpt export {shlex.join(named)} --push USER/NAME"
            logger.info(f"to try it: python hf_infer.py --repo_id {shlex.quote(str(folder))}; to publish it: {again}")
        record = {"run": run.name, "step": trained.step, "name": trained.name, "folder": str(folder), "files": files}
        return Outcome(record | {"url": url, "space_url": space_url})

    def _where(self) -> list[str]:
        """The flags that say which checkpoint, and where to."""
        words = ["--checkpoint", self.checkpoint] if self.checkpoint != "latest" else []
        return words + (["--folder", str(self.folder)] if self.folder else [])

    def _check_flags(self) -> None:
        """Raises ConfigError for flags that go with others, before anything is read."""
        given = {"--public": self.public, "--revision": self.revision, "--dry_run": self.dry_run}
        if not (self.push or self.space) and (alone := [flag for flag, value in given.items() if value]):
            raise ConfigError(f"{alone[0]} goes with --push or --space.", "Name a repository with --push USER/NAME.")

    def _destinations(self, trained: "Trained") -> "tuple[Destination | None, Destination | None]":
        """Where the model and its page go; what is wrong with a name or the token is said before anything is written."""
        from wikigpt.export.push import Destination, check_token, repository_name

        if (self.push or self.space) and not self.dry_run:
            check_token()

        def destination(asked: str | None, kind: str) -> Destination | None:
            if asked is None:
                return None
            return Destination(repository_name(asked, trained.name), kind, self.public, self.revision)

        return destination(self.push, "model"), destination(self.space, "space")

    def _push(self, folder: Path, names: list[str], destination: "Destination | None") -> str | None:
        return self._send({name: folder / name for name in names}, destination)

    def _push_page(
        self, folder: Path, trained: "Trained", destination: "Destination | None", model: "Destination | None"
    ) -> str | None:
        from wikigpt.export.html import PAGE
        from wikigpt.export.licence import hub_licence
        from wikigpt.export.push import space_files

        if destination is None:
            return None
        licence = hub_licence(trained.run.config)["license"]
        repository = model.repository if model else None
        return self._send(space_files(folder / PAGE, trained.name, licence, repository), destination)

    def _send(self, files: "dict[str, Path | bytes]", destination: "Destination | None") -> str | None:
        """The address, where something was sent."""
        from wikigpt.export.push import push, show

        if destination is None:
            return None
        if self.dry_run:
            show(files, destination)
            return None
        url = push(files, destination)
        logger.info(f"pushed: {url} ({destination.what})")
        return url
