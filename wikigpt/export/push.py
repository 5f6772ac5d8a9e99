"""From an export's folder to the Hugging Face hub."""

from collections.abc import Sequence
from pathlib import Path

from wikigpt.config import hub_token
from wikigpt.errors import ConfigError, HubError


def push(folder: Path, files: Sequence[str], repository: str, private: bool) -> str:
    """Uploads exactly these files of a folder to a model repository, which is made where it is not there, and returns its
    address. Raises ConfigError without a token, HubError where the hub does not take it."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HFValidationError
    except ImportError as error:
        raise ConfigError("Pushing needs huggingface_hub.", "Run: pip install -r requirements.txt") from error
    if (token := hub_token()) is None:
        fix = "Make one with write access at https://huggingface.co/settings/tokens, and write HF_TOKEN=... into .env"
        raise ConfigError("There is no HF_TOKEN in the environment or in .env.", fix)
    try:
        api = HfApi(token=token)
        url = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=url.repo_id, folder_path=folder, allow_patterns=list(files), commit_message="Export from WikiGPT"
        )
        return str(url)
    except HFValidationError as error:
        raise ConfigError(f"{repository!r} is no name of a repository.", "Write it as USER/NAME.") from error
    except Exception as error:  # whatever the hub's client and the network raise
        said = " ".join(str(error).split()).replace(token, "...")
        problem = f"The hub did not take it ({type(error).__name__}: {said[:300]})."
        raise HubError(problem, f"The export is in {folder}; push it again with --push {repository}.") from None
