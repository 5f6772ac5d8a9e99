"""From an export's folder to the Hugging Face hub: one commit with exactly these files, or none.

exports/<run>/ ──> may this token write? ──> repository ──> large files ──> commit ──> address

Large files go first and are seen by nobody until the commit names them; one that is there already is not sent again. So an
interrupted push leaves the repository as it was, and the same command goes on from there.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from wikigpt.config import hub_token
from wikigpt.errors import ConfigError, HubError
from wikigpt.export.folder import OURS
from wikigpt.export.huggingface import CUSTOM
from wikigpt.export.trained import ORIGIN

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SETTINGS = "https://huggingface.co/settings/tokens"


@dataclass(frozen=True)
class Destination:
    """Where to: USER/NAME, a model or a static space; what is made is private unless `public`."""

    repository: str
    kind: str = "model"
    public: bool = False
    revision: str | None = None  # a branch, which is made where it is not there; main unless given

    @property
    def what(self) -> str:
        branch = f", branch {self.revision}" if self.revision else ""
        return f"{'public' if self.public else 'private'} {self.kind}{branch}"


def repository_name(asked: str, default: str) -> str:
    """USER/NAME of what was asked for; USER alone takes the default name. Raises ConfigError for what cannot be one."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    name = asked if "/" in asked else f"{asked}/{default}"
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        fix = "Write it as USER/NAME, of letters, digits, '-', '_' and '.', 96 at the most."
        raise ConfigError(f"{asked!r} is no name of a repository.", fix) from error
    return name


def check_token() -> str:
    """The token that there is. Raises ConfigError where there is none."""
    if (token := hub_token()) is None:
        fix = f"Make one with write access at {SETTINGS}, and write HF_TOKEN=... into .env"
        raise ConfigError("There is no HF_TOKEN in the environment or in .env.", fix)
    return token


def push(files: Mapping[str, Path | bytes], destination: Destination) -> str:
    """Uploads these files (names there, and a path or their content) in one commit, which also removes what an earlier
    export left there and is not among them. Returns the address. Raises ConfigError for a token that may not write, and a
    repository that is public unasked or holds something else; HubError where the hub refuses or the network breaks off."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.utils import disable_progress_bars, logging

    token = check_token()
    logging.set_verbosity_error()  # each of its tries would be a warning
    if not sys.stderr.isatty():
        disable_progress_bars()
    api = HfApi(token=token)
    name, kind = destination.repository, destination.kind
    with _told(destination, token):
        _check_access(api)
        sdk = "static" if kind == "space" else None
        url = api.create_repo(name, private=not destination.public, repo_type=kind, space_sdk=sdk, exist_ok=True)
        private = bool(api.repo_info(name, repo_type=kind).private)  # one that was there before keeps what it was
        if not private and not destination.public:
            problem = f"{name} is there and is public."
            raise ConfigError(problem, "Add --public to upload to it all the same, or name another repository.")
        there = api.list_repo_files(name, repo_type=kind)
        _check_content(there, destination)
        where: dict[str, Any] = {"repo_id": name, "repo_type": kind, "revision": destination.revision}
        if destination.revision:
            api.create_branch(name, branch=destination.revision, repo_type=kind, exist_ok=True)
            there = api.list_repo_files(**where)
            _check_content(there, destination)
        stale = [f for f in there if kind == "model" and OURS.fullmatch(f) and f not in files]
        operations: list[Any] = [CommitOperationAdd(name, content) for name, content in files.items()]
        operations += [CommitOperationDelete(f) for f in stale]
        api.create_commit(operations=operations, commit_message="Export from WikiGPT", **where)
        if private and destination.public:  # last of all: what is refused or breaks off makes nothing public
            api.update_repo_settings(name, private=False, repo_type=kind)
    if stale:
        logger.info(f"removed there, since this export lacks it: {', '.join(stale)}")
    return str(url)


def _check_content(there: Sequence[str], destination: Destination) -> None:
    """Raises ConfigError where a repository holds what is no export of ours: a push would write over it."""
    expected = {".gitattributes", "README.md", *({"index.html", "style.css"} if destination.kind == "space" else ())}
    if not {CUSTOM, ORIGIN} & set(there) and (others := sorted(set(there) - expected)):
        problem = f"{destination.repository} holds what is no export ({', '.join(others[:3])})."
        raise ConfigError(problem, "Name another repository.")


def _check_access(api: "HfApi") -> None:
    """Raises ConfigError where the token may only read, which the hub itself says late and in other words."""
    token = api.whoami().get("auth", {}).get("accessToken", {})
    role, fine = token.get("role"), token.get("fineGrained", {})
    scopes = [scope.get("permissions", []) for scope in fine.get("scoped", [])] + [fine.get("global", [])]
    writes = any(permission.startswith("repo.write") for permissions in scopes for permission in permissions)
    if role == "read" or (role == "fineGrained" and not writes):
        problem = f"The token {token.get('displayName', 'in HF_TOKEN')!r} may only read."
        raise ConfigError(problem, f"Make one with write access at {SETTINGS}, and write HF_TOKEN=... into .env")


@contextmanager
def _told(destination: Destination, token: str) -> Iterator[None]:
    """Whatever the hub's client and the network raise, as one line."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        status = (
            error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
        )
        cause = f" {error.__cause__}" if error.__cause__ else ""
        said = " ".join(f"{error}{cause}".split()).replace(token, "...")[:300]
        problem = f"The hub did not take {destination.repository} ({type(error).__name__}: {said})."
        fix = "Nothing of it was published; the same command goes on from there."
        if status == 401:
            problem = "The hub does not know this HF_TOKEN."
            fix = f"Copy it again, or make one with write access at {SETTINGS}."
        elif status == 403:
            problem = f"This HF_TOKEN may not write to {destination.repository} ({said})."
            fix = f"Make one that may at {SETTINGS}, or name a repository of your own. Nothing was published."
        elif status is None and not isinstance(error, ValueError):
            problem = f"The way to the hub broke off ({type(error).__name__}: {said or 'no answer'})."
        raise HubError(problem, fix) from None


def space_files(page: Path, name: str, licence: str, repository: str | None) -> dict[str, Path | bytes]:
    """The files of a static space around a page."""
    models = f"models: [{repository}]\n" if repository else ""
    looks = "emoji: 📖\ncolorFrom: blue\ncolorTo: gray\n"
    head = f"title: {name}\n{looks}sdk: static\napp_file: index.html\nlicense: {licence}\n{models}"
    text = f"---\n{head}---\n\nA small GPT in one page, made with WikiGPT. It runs in the reader's browser.\n"
    return {"index.html": page, "README.md": text.encode()}


def show(files: Mapping[str, Path | bytes], destination: Destination) -> None:
    """Says what a push would send."""
    sizes = {name: len(f) if isinstance(f, bytes) else f.stat().st_size for name, f in files.items()}
    logger.info(
        f"would push to {destination.repository} ({destination.what}): {len(sizes)} files, {sum(sizes.values()):,} bytes"
    )
    for name, size in sizes.items():
        logger.info(f"  {size:>15,}  {name}")
