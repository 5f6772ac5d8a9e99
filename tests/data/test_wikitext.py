"""Wikitext becomes what a reader sees: nothing lost, no mark-up left, no holes, in time, in many languages."""

import re
import time

import pytest

from wikigpt.data.article import Article, Dropped, Piece
from wikigpt.data.dump import Page
from wikigpt.data.pages import article_of, is_disambiguation
from wikigpt.data.sources import sample
from wikigpt.data.wikitext import clean_wikitext
from wikigpt.data.wikitext.registry import HERE, language
from wikigpt.data.wikitext.site import site_of
from wikigpt.data.wikitext.templates import show
from wikigpt.data.wikitext.values import FUNCTIONS

EN = site_of("enwiki")


def clean(wikitext: str, wiki: str = "en") -> str:
    return clean_wikitext(wikitext, "Title", site_of(f"{wiki}wiki"))


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("'''Moon''' is a ''rock''.", "Moon is a rock."),
        ("L'''Iliade'' est d''''Homère'''.", "L'Iliade est d'Homère."),
        ("[[Earth|The Earth]], [[Sun]]s, [[Mars (planet)|]] and [[#Orbit]]", "The Earth, Suns, Mars and Orbit"),
        ("[[File:a.png|thumb|A [[link]] in ''it'']]Text[[Category:X|y]] [[fr:Lune]]", "Text"),
        ("[[:Category:Moons]] and [[wikt:moon|moon]]", "Category:Moons and moon"),
        ("A [http://a.b/c page] and [https://x.y] here", "A page and here"),
        ("one<ref>{{cite web|url=x}}</ref>, two<ref name=a /> three<ref group=\"n\">[[x]]</ref>.", "one, two three."),
        ("a<!-- no -->b\n<!-- a line -->\nc", "ab c"),
        ("<math>a_1 < b</math> and <math display=\"block\">\\frac{1}{2}</math>", "$a_1 < b$ and $$\\frac{1}{2}$$"),
        ("10<sup>6</sup> m<sup>2</sup>, 20<sup>th</sup>, H<sub>2</sub>O", "10⁶ m², 20th, H2O"),
        ("<nowiki>[[no link]]</nowiki> &lt;b&gt; &amp;nbsp; x&nbsp;y", "[[no link]] <b> &nbsp; x y"),
        ("one\ntwo\n\nthree<br />four", "one two\n\nthree\nfour"),
        ("__NOTOC__\ntext __init__", "text __init__"),
        (
            "== History ==\nText\n=== Early ===\nMore\n== Empty ==\n== References ==\n{{reflist}}\n* book",
            "## History\n\nText\n\n### Early\n\nMore",
        ),
        (
            "* one\n** two\n* three\n# a\n# b\n; term : meaning\n: indented",
            "- one\n  - two\n- three\n1. a\n2. b\nterm: meaning\nindented",
        ),
        (
            "{| class=\"wikitable\"\n|+ Cap\n! A !! B\n|-\n| style=\"x\" | 1 || [[b|2]]\n|-\n| 3\n| 4\n|}",
            "Cap\nA | B\n1 | 2\n3 | 4",
        ),
        ("{|\n| a\n{|\n| in || ner\n|}\n| b\n|}", "a in | ner | b"),
        ('{|\n! a !! b\n|-\n|rowspan=2|x||y\n|-\n|z\n|-\n|colspan=2|w||v\n|}', "a | b\nx | y\nx | z\nw |  | v"),
        ("{{hlist|[[A|B=C]]|d}}, e<sup>iπ</sup>, log<sub>2</sub>3, <q>x</q>", 'B=C, d, e^(iπ), log₂3, "x"'),
        ("{{val|3|e=<nowiki>5</nowiki>}} {{gone}}, a", "3×105, a"),
        ("{{coord|1|2|display=inline,title}}\n\nA <span style='display:none'>1</span>b", "A b"),
        ("<table><tr><th>A</th><td>b</td></tr></table>", "A | b"),
        ("{{Infobox x\n| a = {{b|c}}\n| d = [[e]]\n}}\nText {{gone|thing}} here.", "Text here."),
        ("<poem>\nlines\nstay\n</poem>", "lines\nstay"),
        ("<syntaxhighlight lang=c>\nint x;\n\nint y;\n</syntaxhighlight>", "```\nint x;\n\nint y;\n```"),
        ("<code>a</code> <syntaxhighlight lang=c>\nint x;\n</syntaxhighlight>", "a\n\nint x;"),
        ("{{lang|fr|{{!}}}} {{nowrap|a {{=}} b}}", "| a = b"),
        ("unclosed {{template and [[link\n\nnext", "unclosed link\n\nnext"),
        ("Cafe\u0301 a\u200bb", "Café ab"),
    ],
)  # fmt: skip
def test_mark_up_becomes_what_it_shows(wikitext, text):
    assert clean(wikitext) == text


@pytest.mark.parametrize(
    ("wikitext", "text"),
    [
        ("At {{gone}}, Alabama has", "At, Alabama has"),
        ("Aristotle ({{gone}}; {{gone}}, ''Aristotélēs''; 384 BC) was", "Aristotle (Aristotélēs; 384 BC) was"),
        ("Name ({{gone}}) was ({{gone}}; ) and (born {{gone}}) .", "Name was and (born) ."),
        ("one, {{gone}}, two {{gone}}. Three{{gone}} four", "one, two. Three four"),
        ("an author's own ( ) and , stay , so", "an author's own ( ) and , stay , so"),
    ],
)
def test_where_something_is_cut_out_no_hole_stays(wikitext, text):
    assert clean(wikitext) == text


@pytest.mark.parametrize(
    ("wiki", "call", "shown"),
    [
        ("en", "convert|5|km|mi", "5 kilometres (3.1 mi)"),
        ("en", "convert|5|to|10|km|mi|abbr=on", "5 to 10 km (3.1 to 6.2 mi)"),
        ("en", "convert|6|ft|2|in|m", "6 ft 2 in (1.88 m)"),
        ("en", "cvt|5,280|ft|m|abbr=on", "5,280 ft (1,610 m)"),
        ("en", "convert|100|F", "100 °F (38 °C)"),
        ("en", "lang-de|Mond", "German: Mond"),
        ("en", "langx|grc|Σελήνη", "Ancient Greek: Σελήνη"),
        ("en", "IPAc-en|m|uː|n", "/muːn/"),
        ("en", "as of|2012|5|lc=y", "as of May 2012"),
        ("en", "frac|3|1|2", "3 1/2"),
        ("en", "val|1.2|0.1|e=5|u=km", "1.2±0.1×10⁵ km"),
        ("en", "chem|H|2|O", "H2O"),
        ("en", "birth date|1969|7|20|df=y", "20 July 1969"),
        ("en", "circa|1610", "c. 1610"),
        ("en", "nihongo|Moon|月|tsuki", "Moon (月, tsuki)"),
        ("en", "USS|Enterprise|CV-6|6", "USS Enterprise"),
        ("en", "Template:Nowrap|a", "a"),
        ("en", "formatnum:1234", "1234"),
        ("en", "PAGENAME", "Title"),
        ("en", "yes", "Yes"),
        ("en", "cite book|last=A|first=B|title=T|year=2001|publisher=P", "A, B (2001). T. P."),
        ("en", "coord|57|18|22|N|4|27|32|W", "57°18′22″N 4°27′32″W"),
        ("simple", "convert|5|km|mi|abbr=on", "5 km (3.1 mi)"),
        ("fr", "date|11|novembre|1866", "11 novembre 1866"),
        ("fr", "s|XIX|e", "XIXe siècle"),
        ("fr", "unité|4203|hab./km|2", "4203 hab./km²"),
        ("en", "music|flat", "♭"),
        ("en", "e|24", "×10²⁴"),
        ("en", "#if:a|b|c", "b"),
        ("en", "track listing|title1=A|length1=3:05|title2=B", "\n# A (3:05)\n# B\n"),
        ("en", "zh|s=软件|t=軟體", "simplified Chinese: 软件; traditional Chinese: 軟體"),
        ("fr", "unité|77.80|€", "77,80 €"),
        ("de", "IPA|bɛɐ̯ˈliːn", "[bɛɐ̯ˈliːn]"),
        ("en", "columns-list|2|\n* a\n* b", "\n* a\n* b\n"),
        ("fr", "84e", "84e"),
        ("fr", "lang-de|Mond", "en allemand : Mond"),
        ("es", "siglo|XIX", "siglo XIX"),
        ("de", "lang|en|moon", "moon"),
        ("ru", "lang-en|moon", "англ. moon"),
        ("ja", "仮リンク|月|de|Mond", "月"),
        ("zh", "lang|en|moon", "moon"),
        ("sv", "lang-en|moon", "engelska: moon"),
        ("xx", "nowrap|a", "a"),
    ],
)
def test_a_template_shows_its_value(wiki, call, shown):
    assert show(call, "Title", site_of(f"{wiki}wiki")) == shown


@pytest.mark.parametrize("wiki", sorted({path.stem for path in HERE.glob("*.toml")} - {"all", "units"}))
def test_the_registry_is_sound(wiki):
    known = language(wiki)
    assert len(known.months) == 12 and len(known.date.format(y=1, m=2, n=3, d=4)) > 4
    for name, value in known.templates.items():
        assert name == name.lower() and "_" not in name, name
        assert not value.startswith("=") or value == "=" or value[1:] in FUNCTIONS, value
        show(f"{name}|1|2|3|text=x", "Title", site_of(f"{wiki}wiki"))


@pytest.mark.parametrize(
    ("wiki", "wikitext", "text"),
    [
        ("de", "[[Datei:a.png|mini|Text]][[Bild:b.png]]Der '''Mond'''[[Kategorie:X]]", "Der Mond"),
        ("ar", "[[ملف:a.png|تصغير]]القمر[[تصنيف:x]]", "القمر"),
        ("ja", "月は\n[[地球]]の[[ファイル:a.png]]衛星である。", "月は地球の衛星である。"),
        ("zh", "-{zh-hans:软件; zh-hant:軟體}-和-{T|x}--{原样}-", "软件和原样"),
        ("ru", "'''Луна́''' ({{lang-la|Luna}}; {{gone}}) — [[спутник]]", "Луна́ (лат. Luna) — спутник"),
        ("hi", "चाँद{{gone}} [[पृथ्वी]] का\u200d है", "चाँद पृथ्वी का\u200d है"),
    ],
)
def test_it_knows_other_languages(wiki, wikitext, text):
    assert clean(wikitext, wiki) == text


@pytest.mark.parametrize(
    ("wiki", "wikitext"),
    [
        ("en", "#REDIRECT [[Moon]]"),
        ("de", "#WEITERLEITUNG [[Mond]]"),
        ("ar", "#تحويل [[قمر]]"),
        ("ja", "#転送 [[月]]"),
        ("ru", "#перенаправление [[Луна]]"),
    ],
)  # fmt: skip
def test_redirects_are_known_by_any_word(wiki, wikitext):
    assert site_of(f"{wiki}wiki").is_redirect(wikitext)
    assert not site_of(f"{wiki}wiki").is_redirect("# [[item]] of a list")


def test_disambiguation_pages_are_known():
    for wiki, call in (("en", "Disambiguation"), ("de", "Begriffsklärung"), ("fr", "Homonymie"), ("ja", "Aimai")):
        assert is_disambiguation("x\n{{" + call + "|a}}", site_of(f"{wiki}wiki")), call
    assert not is_disambiguation("{{About|x|y|Z (disambiguation)}} text", EN)


HOSTILE = [
    *("{{", "[[", "}}", "{{{", "{|\n", "|-\n", "|\n", "!!", "||", "{{nowrap|", "{{#if:", "{{convert|1|", "-{"),
    *("<ref>", '<ref name="', "<!--", "<math>", "<sup>", "<poem>", "[http://", "[[File:", "&amp;", "\u0301\u0323"),
    *("'''''", "'", "* ", ":", "==", " ", "\n"),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_page_takes_long(piece):
    """Time in proportion to the length: 200 kB of anything in less than the limit for a page."""
    wikitext = "text " + piece * (200_000 // len(piece)) + " text"
    start = time.process_time()
    found = article_of(Page("1", "1", 0, "Title", False, wikitext), EN)
    assert time.process_time() - start < 5 and isinstance(found, Article | Dropped)


def test_a_page_that_takes_too_long_or_grows_is_left_out(monkeypatch):
    page = Page("1", "1", 0, "Title", False, "text " * 1000)
    monkeypatch.setattr("wikigpt.data.pages.clean_wikitext", lambda *_: "x" * 100_000)
    assert article_of(page, EN) == Dropped("grows", "Title")
    monkeypatch.setattr("wikigpt.data.pages.SECONDS", 0.05)
    monkeypatch.setattr("wikigpt.data.pages.clean_wikitext", lambda *_: re.match("(a+)+b", "a" * 40))
    assert article_of(page, EN) == Dropped("too slow", "Title")
    monkeypatch.setattr("wikigpt.data.pages.clean_wikitext", lambda *_: [][1])
    assert article_of(page, EN) == Dropped("cannot be cleaned", "Title")


def test_real_articles_keep_their_text_and_lose_their_mark_up():
    """The 98 whole articles of the sample: how much is kept is measured in benchmarks/extraction.py."""
    source = sample("en")
    piece = Piece(source.files[0].path, 0, source.files[0].bytes)
    texts = [found.text for _, found in source.read(piece) if isinstance(found, Article)]
    text = "\n".join(texts)
    without_formulas = re.sub(r"\$[^$\n]*\$", "", text)
    assert len(texts) == 98 and 2.9e6 < len(text) < 3.2e6
    left = re.findall(r"\[\[|\]\]|\{\{|\}\}|\{\||''|<ref|thumb\||Category:|\[http|&nbsp;|style=", without_formulas)
    holes = re.findall(r"\( *[;,)]| ,(?=\s)|,,", without_formulas)
    assert len(left) < 10 and len(holes) < 60, (left, len(holes))
    assert "Aristotle (/ˈærɪˌstɒtəl/; Greek: Ἀριστοτέλης [aristotélɛːs], Aristotélēs; 384–322 BC) was" in text
