"""{{convert|5|to|10|km|mi}}: "5 to 10 kilometres (3.1 to 6.2 mi)".

Units are data (`registry/units.toml`). A unit that is not known is shown as it was written, without a conversion. Rounded as
the template does by default: as precise as what it was given, and to two figures at the least.
"""

import math
import re

from wikigpt.data.wikitext import registry
from wikigpt.data.wikitext.call import Template
from wikigpt.data.wikitext.site import Site

RANGES = {
    "-": "–", "–": "–", "to": " to ", "to(-)": " to ", "to-": " to ", "and": " and ", "and(-)": " and ", "or": " or ",
    "&": " & ", "x": " by ", "×": " × ", "by": " by ", "*": " × ",
    "xx": " × ", "+/-": " ± ", "±": " ± ", "+": " + ", ",": ", ",
}  # fmt: skip
MANY = {"e3": "thousand", "e6": "million", "e9": "billion", "e12": "trillion"}
NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[-+]?[0-9]+)?")
FRACTION = re.compile(r"([-+]?[0-9]*)[ +-]?([0-9]+)[/⁄]([0-9]+)")


def convert(template: Template, site: Site) -> str:
    """What a call of {{convert}} shows."""
    values, joints, rest = [template[1]], [], template.positional[1:]
    while len(values) < 10 and len(rest) >= 2 and rest[0].lower() in RANGES and number_of(rest[1]) is not None:
        joints.append(RANGES[rest[0].lower()])
        values.append(rest[1])
        rest = rest[2:]
    if not template[1]:
        return ""
    source, rest = (rest[0], rest[1:]) if rest else ("", [])
    small = ("", "")  # 6 ft 2 in
    if (
        len(rest) >= 2
        and len(values) == 1
        and number_of(rest[0]) is not None
        and rest[1] in ("in", "ft", "oz", "lb", "yd")
    ):
        small, rest = (rest[0], rest[1]), rest[2:]
    first = _with_unit(values, joints, source, template, site, bool(small[0]))
    if small[0]:
        first += f" {small[0]} {_symbol(small[1])}"
    targets = rest[0].split()[:4] if rest and number_of(rest[0]) is None else []
    if not targets and source in registry.units():
        targets = registry.units()[source][6].split()
    digits = next((text for text in rest if re.fullmatch("-?[0-9]", text)), "")
    outputs = [_converted(values, joints, small, source, target, digits, template) for target in targets]
    return _arranged(first, [output for output in outputs if output], template)


def _arranged(first: str, outputs: list[str], template: Template) -> str:
    shown = template["disp"]
    if outputs and (template["order"] == "flip" or shown == "flip"):
        first, outputs = outputs[0], [first]
    if not outputs or shown in ("x", "unit", "unit2"):
        return first
    if shown in ("output only", "out", "number", "output number only"):
        return outputs[0].split(" ")[0] if "number" in shown else outputs[0]
    if shown in ("or", "comma"):
        return first + (" or " if shown == "or" else ", ") + outputs[0]
    return f"{first} ({'; '.join(outputs)})"


def _joined(values: list[str], joints: list[str]) -> str:
    return values[0] + "".join(joint + value for joint, value in zip(joints, values[1:], strict=True))


def _with_unit(values: list[str], joints: list[str], code: str, template: Template, site: Site, short: bool) -> str:
    """What was given, with its unit: in full, unless the call or the language has it short."""
    number = _joined(values, joints)
    if many := re.fullmatch("(e3|e6|e9|e12)(.+)", code):
        number, code = f"{number} {MANY[many[1]]}", many[2]
    if code not in registry.units():
        return f"{number} {code}".strip()
    symbol, singular, plural = registry.units()[code][:3]
    short = short or site.language not in ("en", "simple") or symbol.startswith("°")
    if short or template.name == "cvt" or template["abbr"] in ("on", "in", "yes", "y", "values"):
        return number + ("" if symbol[0] == "/" else " ") + symbol
    if template["adj"].startswith(("on", "mid")):
        return f"{number}-{_spelled(singular, template)}"
    return f"{number} {_spelled(singular if number_of(values[-1]) in (1, -1) else plural, template)}"


def _spelled(unit: str, template: Template) -> str:
    return unit.replace("metre", "meter").replace("litre", "liter") if template["sp"] == "us" else unit


def _symbol(code: str) -> str:
    return registry.units()[code][0] if code in registry.units() else code


def number_of(text: str) -> float | None:
    """The number that a text is: 1,200 or −3.5 or 1/2 or 3+1/2; else None."""
    if len(text) > 40:
        return None
    text = text.replace(",", "").replace("−", "-")
    if match := FRACTION.fullmatch(text):
        return float(match[1] or 0) + float(match[2]) / (float(match[3]) or 1)
    return float(text) if NUMBER.fullmatch(text) else None


def _converted(
    values: list[str],
    joints: list[str],
    small: tuple[str, str],
    source: str,
    target: str,
    digits: str,
    template: Template,
) -> str:
    """The values in another unit; "" where that cannot be said."""
    units = registry.units()
    if source not in units or target not in units or units[source][3] != units[target][3]:
        return ""
    kind, factor, offset = units[source][3:6]
    into, into_offset = units[target][4:6]
    if small[0]:  # the smaller unit decides how precise it is
        total = (number_of(values[0]) or 0) * factor / units[small[1]][4] + (number_of(small[0]) or 0)
        result = total * units[small[1]][4] / into
        finer = units[small[1]][4] / into / 10  # a height in feet and inches is given in centimetres
        return f"{_rounded(result, small[0], finer, kind, digits, template)} {units[target][0]}"
    out = []
    for text in values:
        number = number_of(text)
        if number is None:
            return ""
        out.append(
            _rounded((number * factor + offset - into_offset) / into, text, factor / into, kind, digits, template)
        )
    symbol = units[target][0]
    return _joined(out, joints) + ("" if symbol[0] == "/" else " ") + symbol


def _rounded(result: float, given: str, ratio: float, kind: str, digits: str, template: Template) -> str:
    if not math.isfinite(result):
        return given
    if digits:
        places = int(digits)
    elif re.fullmatch("[1-9]", template["sigfig"]):
        places = int(template["sigfig"]) - 1 - _magnitude(result)
    else:
        whole, _, decimals = given.replace(",", "").lstrip("-−+").partition(".")
        had = len(decimals) if decimals else len(whole.rstrip("0")) - len(whole)
        places = max(had, 0) if kind == "temperature" else math.floor(had - math.log10(abs(ratio)))
        if kind != "temperature":
            places = max(places, 1 - _magnitude(result))
    places = max(-12, min(places, 9))
    return f"{round(result, places):,.{max(0, places)}f}".replace("-", "−")


def _magnitude(number: float) -> int:
    return math.floor(math.log10(abs(number))) if number else 0
