"""What those templates show that need more than a text with holes: dates, units, pronunciations, works, places. Each
function takes a call and the wiki that it stands in, and is named in the registry ("=date")."""

import re
from collections.abc import Callable

from wikigpt.data.wikitext import registry
from wikigpt.data.wikitext.call import Template
from wikigpt.data.wikitext.convert import convert
from wikigpt.data.wikitext.site import Site

Rule = Callable[[Template, Site], str]

SUPERSCRIPTS = str.maketrans("0123456789+-−", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻")


def _lang_name(template: Template, site: Site) -> str:
    """{{lang-de|Wort}} and {{langx|de|Wort}}: "German: Wort"; with what it means or how it is written in our letters."""
    called = template.name.partition("-")[2]
    code, word = (called, template.first(1, "text")) if called else (template[1], template.first(2, "text"))
    english = site.language in ("en", "simple")
    if word and (letters := template.first("translit", "r", 2 if called else 3)):
        word += f", romanized: {letters}" if english else f", {letters}"
    if word and (meaning := template.first("lit", "translation", 3 if called else 4)):
        word += f", lit. '{meaning}'" if english else f", «{meaning}»"
    language = registry.language(site.language)
    label = template["label"] or language.labels.get(code.lower(), language.labels.get(code.lower().split("-")[0], ""))
    if not word or not label or template["label"] in ("none", "no"):
        return word
    return language.label.format(label=label, text=word)


def _ipa(template: Template, site: Site) -> str:
    """A pronunciation between its slashes or brackets."""
    name, values = template.name, [value for value in template.positional if value]
    if name.startswith("ipac"):
        skipped = {"lang", "local", "pron", "also", "audio", "us", "uk", "au", "ca", "nz", "gb", "en", "icon", "all"}
        sounds = "".join(" " if value == "_" else value for value in values if value.lower() not in skipped)
        return f"/{sounds}/" if name == "ipac-en" and sounds else f"[{sounds}]" if sounds else ""
    if name == "ipa" and len(values) > 1 and re.fullmatch("[a-z]{2,3}(-[A-Za-z]+)*", values[0]):  # {{IPA|fr|aʁis}}
        label = registry.language(site.language).labels.get(values[0].lower(), "")
        sound = values[1] if re.match(r"[\[/]", values[1]) else f"[{values[1]}]"
        return f"{label}: {sound}" if label and site.language in ("en", "simple") else sound
    if not values:
        return ""
    bare = re.match(r"[^\W_]", values[0]) and (name.startswith("ipa-") or site.language not in ("en", "simple"))
    return f"[{values[0]}]" if bare else values[0]


def _date(template: Template, site: Site) -> str:
    """{{birth date|1970|5|12}}, {{start date|1970}} and their like; text is shown as it is."""
    values = [value for value in template.positional[:3] if value]
    if len(values) == 1 and re.fullmatch("[0-9]{1,2} [0-9]{1,2} [0-9]{4}|[0-9]{4}-[0-9]{2}-[0-9]{2}", values[0]):
        values = re.split("[ -]", values[0])
    if not values or not all(re.fullmatch("[0-9]{1,6}", value) for value in values):
        in_words = len(values) > 1 and values[0].isdecimal() and not values[1].isdecimal()  # {{date|11|novembre|1866}}
        return " ".join(values) if in_words else template[1]
    if len(values) == 3 and int(values[2]) > 31 >= int(values[0]):  # {{date|11|11|1866}}
        values.reverse()
    numbers = [value.lstrip("0") or "0" for value in values]
    return _written_date(numbers, site, template.on("df") or not template.name.startswith(AMERICAN))


AMERICAN = ("birth", "death", "start", "end", "bda", "dda", "film", "dts", "dob")


def _written_date(numbers: list[str], site: Site, day_first: bool) -> str:
    language = registry.language(site.language)
    if len(numbers) == 1 or not 1 <= int(numbers[1]) <= 12:
        return numbers[0]
    month, order = language.months[int(numbers[1]) - 1], language.date
    if len(numbers) == 2:
        parts = re.match(r".*?(\{[mn]\}.*\{y\})", order) or re.match(r"(\{y\}.*?\{[mn]\}\w?)", order)
        order = parts[1] if parts else "{m} {y}"
    elif site.language in ("en", "simple") and not day_first:
        order = "{m} {d}, {y}"
    return order.format(y=numbers[0], m=month, n=numbers[1], d=numbers[2] if len(numbers) > 2 else "")


def _as_of(template: Template, site: Site) -> str:
    if template["alt"]:
        return template["alt"]
    word = "since" if template.on("since") else "as of"
    numbers = [value.lstrip("0") for value in template.positional[:3] if value]
    if numbers and all(re.fullmatch("[0-9]{1,6}", number) for number in numbers):
        when = _written_date(numbers, site, not template["df"].lower().startswith("us"))
    else:
        when = " ".join(reversed(template.positional[:3]))
    return f"{word if template.on('lc') else word.capitalize()} {when}{template['post'] or template['bare']}".strip()


def _frac(template: Template, site: Site) -> str:
    match [value for value in template.positional if value]:
        case []:
            return "/"
        case [below]:
            return f"1/{below}"
        case [above, below]:
            return f"{above}/{below}"
        case [whole, above, below, *_]:
            return f"{whole} {above}/{below}"
    return ""


def _val(template: Template, site: Site) -> str:
    """{{val|1.2|0.1|e=5|u=km}}: 1.2±0.1×10⁵ km."""
    number = template[1]
    if template[2]:
        number += (
            template[2]
            if template[2][0] == "("
            else f"±{template[2]}"
            if not template[3]
            else f" (+{template[2].lstrip('+')} −{template[3].lstrip('-−')})"
        )
    number = re.sub(r"\(([0-9]+)\)$", r"(\1)", template["p"] + number + template["s"])
    if template["e"]:
        number += ("×" if template[1] else "") + "10" + template["e"].translate(SUPERSCRIPTS)
    unit, below = template.first("u", "ul"), template.first("up", "upl")
    unit = f"{unit}/{below}" if below else unit
    return number + ("" if unit in ("%", "°", "") else " ") + unit


def _chem(template: Template, site: Site) -> str:
    """H2O, with charges raised."""
    parts = (re.sub(r"^[0-9]*[+−-]$", lambda m: m[0].translate(SUPERSCRIPTS), part) for part in template.positional)
    return "".join(parts).replace("_", "").replace("->", " → ")


def _list(template: Template, site: Site) -> str:
    items = [value for value in template.positional if value]
    if len(items) == 1 and re.search(r"^\s*[*#]", items[0], re.M):
        return "\n" + items[0] + "\n"
    return ", ".join(items)


def _quote(template: Template, site: Site) -> str:
    """A quotation is a paragraph of its own, with its author below."""
    text = template.first("text", "quote", "quotetext", "content", 1)
    places: tuple[str | int, ...] = (4, 5) if template.name in ("cquote", "quotation", "rquote") else (2, 3)
    author = template.first("author", "sign", "by", "cite", "autor", "auteur", "автор", places[0])
    source = template.first("source", "quelle", "источник", places[1])
    if template.name.startswith(("poem", "verse")):
        text = text.replace("\n", "<br>")
    below = ", ".join(part for part in (author, source) if part)
    return f"\n\n{text}\n\n" + (f"— {below}\n\n" if below else "") if text else ""


def _columns(template: Template, site: Site) -> str:
    parts = [*template.positional, template["content"], *(template[f"col{n}"] for n in range(1, 6))]
    inside = "\n".join(part for part in parts if "\n" in part or part.startswith(("*", "#")))
    return f"\n{inside}\n" if inside else ""


def _ship(template: Template, site: Site) -> str:
    prefix, name, hull, form = template.name.removesuffix(" ship").upper(), template[1], template[2], template[3]
    if form in ("1", "2", "3", "5"):
        return {"1": hull or name, "2": name, "3": f"{name} ({hull})", "5": f"{prefix} {hull}"}[form]
    return f"{prefix} {name} ({hull})" if hull and form != "6" else f"{prefix} {name}"


def _ordinal(template: Template, site: Site) -> str:
    number = template[1]
    if not number.isdecimal() or site.language not in ("en", "simple"):
        return number
    teen = number[-2:] in ("11", "12", "13")
    return number + ("th" if teen else {"1": "st", "2": "nd", "3": "rd"}.get(number[-1], "th"))


def _roman(template: Template, site: Site) -> str:
    if not re.fullmatch("[0-9]{1,4}", template[1]) or not 0 < int(template[1]) < 4000:
        return template[1].upper()
    number, out = int(template[1]), ""
    for value, sign in zip(
        (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1), "M CM D CD C XC L XL X IX V IV I".split(), strict=True
    ):
        out += sign * (number // value)
        number %= value
    return out


def _interlanguage(template: Template, site: Site) -> str:
    """{{ill|Title|de|Titel}}, of old {{ill|de|Title}}: a link to a page that is in another language only."""
    if label := template.first("lt", "label"):
        return label
    older = template[1] in registry.hidden_prefixes() and template[2]
    return template.first(3, 2) if older else template[1]


def _chinese(template: Template, site: Site) -> str:
    """{{zh|s=软件|t=軟體|p=ruǎnjiàn}}: with labels, what is the same in both scripts once."""
    simplified, traditional = template.first("s", "c", 1), template.first("t", "c", 1)
    named = [("Chinese", simplified)]
    if simplified != traditional and simplified and traditional:
        named = [("simplified Chinese", simplified), ("traditional Chinese", traditional)]
    elif not simplified:
        named = [("Chinese", traditional)]
    named += [("pinyin", template.first("p", "hp")), ("Wade–Giles", template["w"]), ("lit.", template["l"])]
    bare = template["labels"] == "no"
    return "; ".join(word if bare else f"{name}: {word}" for name, word in named if word)


def _tracks(template: Template, site: Site) -> str:
    """{{track listing|title1=A|length1=3:05}}: a list."""
    tracks = ((template[f"title{n}"], template[f"length{n}"]) for n in range(1, 60))
    lines = [f"# {title}" + (f" ({length})" if length else "") for title, length in tracks if title]
    return "\n" + "\n".join(lines) + "\n" if lines else ""


def _music(template: Template, site: Site) -> str:
    """{{music|flat}}: ♭."""
    signs = {"flat": "♭", "b": "♭", "sharp": "♯", "#": "♯", "natural": "♮", "doublesharp": "𝄪", "doubleflat": "𝄫"}
    return signs.get(template[1], "/".join(template.positional[1:]) or template[1])


def _unit(template: Template, site: Site) -> str:
    """{{unité|25,5|km|2}}: a number with a decimal comma, and units, each of which a power may follow."""
    shown = re.sub(r"(?<=[0-9])\.(?=[0-9])", ",", template[1])
    if template["e"]:
        shown += " × 10" + template["e"].translate(SUPERSCRIPTS)
    for part in filter(None, template.positional[1:]):
        power = re.fullmatch(r"[-−]?[0-9]", part)
        shown += part.translate(SUPERSCRIPTS) if power else ("" if part[0] in "/·" else " ") + part
    return shown


def _raised(template: Template, site: Site) -> str:
    """{{sup|6}}: mark-up that is looked at again with the rest of the page."""
    return f"<sup>{template[1]}</sup>" if template[1] else ""


def _lowered(template: Template, site: Site) -> str:
    return f"<sub>{template[1]}</sub>" if template[1] else ""


def _cite(template: Template, site: Site) -> str:
    """A work that is named in a list, in the order that most have: Last, First (2001). Title. Publisher. In <ref> nobody
    comes here."""
    last = template.first("last", "last1", "surname", "surname1", "nom", "nom1", "apellido", "apellidos", "cognome")
    first = template.first("first", "first1", "given", "given1", "prénom", "prénom1", "nombre", "nome")
    whole = template.first(
        "author",
        "author1",
        "authors",
        "vauthors",
        "autor",
        "auteur",
        "auteur1",
        "autore",
        "автор",
        "editor",
        "editor-last",
    )
    author = f"{last}, {first}" if last and first else last or whole
    if more := template.first("last2", "author2", "nom2", "auteur2"):
        author += f"; {more}" + (f", {template['first2']}" if template["first2"] else "")
    year = template.first("year", "date", "année", "jahr", "datum", "año", "fecha", "anno", "год", "publication-date")
    title = template.first("title", "titre", "titel", "título", "titolo", "заглавие", "название", "script-title")
    if chapter := template.first("chapter", "contribution", "entry", "article"):
        title = f"{chapter}. {title}"
    place = template.first(
        *("journal", "work", "website", "newspaper", "magazine", "encyclopedia", "périodique", "sammelwerk", "издание"),
        *("publisher", "éditeur", "verlag", "editorial", "editore", "издательство"),
    )
    if not title:
        return ""
    named = f"{author} ({year})" if author and year else author or (f"({year})" if year else "")
    parts = [part.rstrip(". ") for part in (named, title, place) if part]
    return " ".join(part if part[-1:] in "?!…" else f"{part}." for part in parts if part)


def _coord(template: Template, site: Site) -> str:
    """Where a place is, if the page shows it in the text: {{coord|57|18|22|N|4|27|32|W}}: 57°18′22″N 4°27′32″W."""
    shown = template["display"].lower()
    if ("title" in shown and "inline" not in shown) or shown in ("t", "none"):
        return ""
    parts = [part.upper() for part in template.positional]
    ends = [number for number, part in enumerate(parts) if part in ("N", "S", "E", "W", "O")][:2]
    if len(ends) == 2:
        one, other = parts[: ends[0]], parts[ends[0] + 1 : ends[1]]
        return " ".join(_angle(angle) + parts[end] for angle, end in zip((one, other), ends, strict=True))
    if len(parts) < 2 or not all(re.fullmatch(r"[-−]?[0-9]{1,3}(\.[0-9]+)?", part) for part in parts[:2]):
        return ""
    north, east = (part.replace("−", "-") for part in parts[:2])
    return f"{north.lstrip('-')}°{'S' if north[0] == '-' else 'N'} {east.lstrip('-')}°{'W' if east[0] == '-' else 'E'}"


def _angle(parts: list[str]) -> str:
    return "".join(part + sign for part, sign in zip(parts, "°′″", strict=False) if part)


def _nothing(template: Template, site: Site) -> str:
    return ""


FUNCTIONS: dict[str, Rule] = {
    "convert": convert, "date": _date, "age_date": _date, "as_of": _as_of, "frac": _frac, "val": _val, "chem": _chem,
    "ordinal": _ordinal, "roman": _roman, "sup": _raised, "sub": _lowered, "ipa": _ipa, "lang_name": _lang_name,
    "list": _list, "columns": _columns, "quote": _quote, "cite": _cite, "coord": _coord, "ship": _ship,
    "zh": _chinese, "unit": _unit, "tracks": _tracks, "music": _music,
    "interlanguage": _interlanguage, "main": _nothing, "inflation": _nothing,
}  # fmt: skip
