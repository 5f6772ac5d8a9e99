"""Under which licence a model is passed on, and what whoever uses it owes.

run.json's sources ──> the hub's licence id, LICENSE
"""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

# The hub's ids of licences that text is under; the others are "other" and a name (hf.co/docs/hub/repositories-licenses).
HUB_IDS = (
    "apache-2.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-4.0 cc-by-nc-nd-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 "
    "cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 gfdl gpl-2.0 gpl-3.0 mit odbl odc-by pddl unlicense wtfpl"
).split()


def hub_licence(sources: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The fields `license`, and where the hub has no id for it `license_name` and `license_link`, of a model card."""
    stated = list(dict.fromkeys(part["licence"] for part in sources))
    words = ["-".join(licence.lower().split()) for licence in stated]
    one = {"cc0": "cc0-1.0", "public-domain": "pddl"}.get(words[0], words[0]) if len(words) == 1 else ""
    if one in HUB_IDS:
        return {"license": one}
    if one in ("", "not-stated") and len(words) < 2:
        return {"license": "unknown"}
    name = "-and-".join("".join(c for c in word if c.isascii() and (c.isalnum() or c in ".-")) for word in words)
    return {"license": "other", "license_name": name.strip("-.") or "see-license", "license_link": "LICENSE"}


def notice(sources: Sequence[dict[str, Any]]) -> str:
    """LICENSE: whose text the weights were made of, and under which licence the code beside them is."""
    texts = "\n".join(
        f"- {part['attribution'] or part['origin']}\n  Licence of this text: {part['licence']}{_link(part['licence'])}"
        for part in sources
    )
    return f"""The weights (model*.safetensors, *.gguf, index.html)

They were trained on this text:

{texts or "- a text that the run does not name"}

Whether weights are a work derived from the text that they were trained on is not settled. They are passed on under the
licence of that text. A trained model may repeat passages of it word for word. Whoever passes such a passage on owes what
its licence asks for: for Wikipedia's text, credit to its contributors (the address of the article will do), a link to the
licence, a word on what was changed, and the same licence for what is made of it.

The code (modeling_gpt2_custom.py, configuration_gpt2_custom.py)

{_code_licence()}"""


def _link(licence: str) -> str:
    known = "-".join(licence.lower().split())
    if known.startswith("cc-by-"):
        kind, _, version = known.removeprefix("cc-").rpartition("-")
        return f", https://creativecommons.org/licenses/{kind}/{version}/"
    return ", https://creativecommons.org/publicdomain/zero/1.0/" if known in ("cc0", "cc0-1.0") else ""


def _code_licence() -> str:
    """Our own, from the clone or from the installed package."""
    clone = Path(__file__).parent.parent.parent / "LICENSE"
    if clone.exists():
        return clone.read_text(encoding="utf-8")
    try:
        found = [path for path in files("wikigpt") or [] if path.name == "LICENSE"]
        return found[0].read_text(encoding="utf-8") if found else "MIT\n"
    except (PackageNotFoundError, OSError):
        return "MIT\n"
