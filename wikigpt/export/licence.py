"""Under which licence a model is passed on, and what whoever uses it owes.

run.json's sources ──> the hub's licence id, LICENSE
"""

import re
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from wikigpt.config import RunConfig

# The hub's ids of licences that text is under; the others are "other" and a name (hf.co/docs/hub/repositories-licenses).
HUB_IDS = (
    "apache-2.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-4.0 cc-by-nc-nd-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 "
    "cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 gfdl gpl-2.0 gpl-3.0 mit odbl odc-by pddl unlicense wtfpl"
).split()


def texts(run: RunConfig) -> list[dict[str, Any]]:
    """All text that the weights were trained on, as far as it is known: also that of the run that they began with."""
    found = [*run.source, *run.init_source]
    return [part for n, part in enumerate(found) if part not in found[:n]]


def hub_licence(run: RunConfig) -> dict[str, str]:
    """The fields `license`, and where the hub has no id for it `license_name` and `license_link`, of a model card."""
    stated = list(dict.fromkeys(part["licence"] for part in texts(run)))
    words = ["-".join(licence.lower().split()) for licence in stated]
    if _base_unknown(run):
        return {"license": "other", "license_name": "see-license", "license_link": "LICENSE"}
    if len(words) < 2:
        one = words[0] if words else "not-stated"
        if (one := {"cc0": "cc0-1.0", "not-stated": "unknown"}.get(one, one)) in (*HUB_IDS, "unknown"):
            return {"license": one}
    name = "-and-".join("".join(c for c in word if c.isascii() and (c.isalnum() or c in ".-")) for word in words)
    return {"license": "other", "license_name": name.strip("-.") or "see-license", "license_link": "LICENSE"}


def _base_unknown(run: RunConfig) -> bool:
    """Whether it began with weights whose text is not known here."""
    return run.init_from is not None and not run.init_source


def credits(run: RunConfig) -> list[str]:
    """Whose text and whose weights the model was made of, a sentence or two each."""
    found = [f"{part['attribution'] or part['origin']} Licence of this text: {part['licence']}." for part in texts(run)]
    if _base_unknown(run):
        found += [f"It began with the weights of {run.init_name}, whose licence and text count too: see there."]
    return found or ["The run does not name its text."]


def notice(run: RunConfig) -> str:
    """LICENSE: whose text the weights were made of, and under which licence the code beside them is."""
    links = list(dict.fromkeys(link for part in texts(run) if (link := _link(part["licence"]))))
    made_of = "\n".join(f"- {credit}" for credit in credits(run)) + "".join(f"\n  {link}" for link in links)
    return f"""The weights (model*.safetensors, *.gguf, index.html)

They were trained on this text:

{made_of}

Whether weights are a work derived from the text that they were trained on is not settled. They are passed on under the
licence of that text. A trained model may repeat passages of it word for word. Whoever passes such a passage on owes what
its licence asks for: for Wikipedia's text, credit to its contributors (the address of the article will do), a link to the
licence, a word on what was changed, and the same licence for what is made of it.

The code (modeling_gpt2_custom.py, configuration_gpt2_custom.py)

{_code_licence()}"""


def _link(licence: str) -> str:
    known = "-".join(licence.lower().split())
    if found := re.fullmatch(r"cc-(by[a-z-]*)-(\d\.\d)", known):
        return f"https://creativecommons.org/licenses/{found[1]}/{found[2]}/"
    return "https://creativecommons.org/publicdomain/zero/1.0/" if known in ("cc0", "cc0-1.0") else ""


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
