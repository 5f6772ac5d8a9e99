"""A dump is read in pieces of any size, page for page, and what is damaged is said with its place."""

import bz2
import random
from importlib.metadata import distribution
from pathlib import Path

import pytest

from wikigpt.data.article import Article
from wikigpt.data.dump import Page, TooLong, pages, read_site
from wikigpt.data.sources import EXCERPT, dump
from wikigpt.errors import DataError

HEAD = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="{lang}">\n<siteinfo><dbname>{lang}wiki</dbname>\
<base>https://{lang}.wikipedia.org/wiki/Main_Page</base><namespaces><namespace key="6" case="first-letter">Datei</namespace>\
<namespace key="0" case="first-letter" /></namespaces></siteinfo>\n'
)


def xml(number: int, text: str = "", lang: str = "de") -> bytes:
    """A dump of so many pages."""
    made = [
        f"<page><title>T {n} &amp; x</title><ns>0</ns><id>{n}</id><revision><id>{n + 1000}</id>"
        f"<text bytes='1'>{text or random.Random(n).randbytes(2000).hex()} &lt;b&gt;</text></revision></page>\n"
        for n in range(number)
    ]
    return (HEAD.format(lang=lang) + "".join(made) + "</mediawiki>\n").encode()


def in_pieces(path: Path, step: int) -> list[Page]:
    size = path.stat().st_size
    return [page for start in range(0, size, step) for _, page in pages(path, start, min(start + step, size))]


def excerpt() -> Path:
    return Path(str(distribution("gensim").locate_file(EXCERPT)))


def test_a_dump_is_what_the_standard_library_reads():
    from xml.etree import ElementTree

    root = ElementTree.fromstring(bz2.decompress(excerpt().read_bytes()))
    space = root.tag.removesuffix("mediawiki")
    expected = [page.findtext(f"{space}title") for page in root.iter(f"{space}page")]
    assert [page.title for _, page in pages(excerpt())] == expected and len(expected) == 206


@pytest.mark.parametrize("kind", ["one stream", "many streams", "plain", "level 1"])
@pytest.mark.parametrize("step", [20_011, 10**9])
def test_any_pieces_hold_each_page_once(tmp_path, kind, step):
    raw = xml(300)
    path = tmp_path / ("a.xml" if kind == "plain" else "a.xml.bz2")
    cut = [raw[n : n + 90_001] for n in range(0, len(raw), 90_001)]  # not at the pages, as pbzip2 does it
    packed = {
        "one stream": bz2.compress(raw),
        "many streams": b"".join(map(bz2.compress, [cut[0], b"", *cut[1:]])),
        "plain": raw,
        "level 1": bz2.compress(raw, 1),
    }
    path.write_bytes(packed[kind])
    whole = [page for _, page in pages(path)]
    assert [page.id for page in whole] == [str(n) for n in range(300)]
    assert whole[7] == Page("7", "1007", 0, "T 7 & x", False, whole[7].text) and whole[7].text.endswith(" <b>")
    assert in_pieces(path, step) == whole


def test_pieces_of_a_few_bytes_hold_each_page_once(tmp_path):
    """Where a piece may end inside "<page>", or in a "<" that begins something else."""
    path = write(tmp_path / "a.xml", xml(12, text="&lt;page> a"))
    whole = [page for _, page in pages(path)]
    for step in range(1, 40):
        assert in_pieces(path, step) == whole


@pytest.mark.slow
def test_the_real_dump_in_pieces_of_many_sizes():
    whole = [page for _, page in pages(excerpt())]
    for step in (1, 10, 100, 1000, 10_000, 33_333, 100_000, 500_000, 1_000_000):
        if step >= 10_000:
            assert in_pieces(excerpt(), step) == whole
    size = excerpt().stat().st_size
    for cut in random.Random(0).sample(range(size), 25):
        assert [p for a, b in ((0, cut), (cut, size)) for _, p in pages(excerpt(), a, b)] == whole


@pytest.mark.parametrize("seed", range(6))
def test_what_is_damaged_is_said_with_its_place(tmp_path, seed):
    """Cut short or changed anywhere: the pages before it come, then an error; never other pages, never silence."""
    raw, draw = bz2.compress(xml(300), 1), random.Random(seed)
    whole = [page for _, page in pages(write(tmp_path / "whole.xml.bz2", raw))]
    cut = draw.randrange(200, len(raw) - 20)
    changed = raw[:cut] + bytes([raw[cut] ^ 0x55]) + raw[cut + 1 :]
    for name, damaged in (("cut", raw[:cut]), ("changed", changed)):
        path, read = write(tmp_path / f"{name}.xml.bz2", damaged), []
        with pytest.raises(DataError, match=rf"{name}.xml.bz2.*(near byte [0-9,]+|no dump)"):
            read_site(path)
            for _, page in pages(path):
                read.append(page)
        assert read == whole[: len(read)]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no dump of a wiki"),
        (b"<html>", "no dump of a wiki"),
        (b'<!DOCTYPE x [<!ENTITY a "aaaa">]>' + xml(1), "document type"),
        (xml(3).replace(b"T 1 &amp; x", b"T 1 &bomb; x"), "'T 1 &bomb; x' is no XML"),
        (xml(3).replace(b"</mediawiki>", b"<page><title>x</title>"), "ends inside a page"),
        (xml(2).replace(b"<ns>0</ns>", b"<ns>0</n>"), "is no XML"),
        (xml(2).replace(b"</mediawiki>\n", b""), "does not end with </mediawiki>"),
    ],
)
def test_what_is_no_dump_is_refused(tmp_path, content, says):
    for path in (write(tmp_path / "a.xml", content), write(tmp_path / "b.xml.bz2", bz2.compress(content))):
        with pytest.raises(DataError, match=says):
            list(dump([path], ""))


def test_a_page_without_end_fills_no_memory(tmp_path, monkeypatch):
    """A bomb: 300 MB of one page in a few hundred bytes."""
    monkeypatch.setattr("wikigpt.data.dump.LONGEST_PAGE", 2**20)
    begin, end = xml(2)[:-14], b"</mediawiki>"
    bomb = b"<page><title>Bomb</title><ns>0</ns><revision><text>" + b"x" * 30_000_000 + b"</text></revision></page>"
    after = xml(3)[len(HEAD.format(lang="de")) :].split(b"\n")[2]
    path = write(tmp_path / "a.xml.bz2", bz2.compress(begin + bomb + after + end))
    found = [page for _, page in pages(path)]
    assert [page.id if isinstance(page, Page) else str(page) for page in found] == ["0", "1", "Bomb", "2"]
    assert isinstance(found[2], TooLong)


def test_a_site_knows_its_names_and_may_be_told_otherwise(tmp_path):
    site = read_site(write(tmp_path / "a.xml", xml(1)))
    assert (site.wiki, site.language) == ("dewiki", "de") and site.url("A b") == "https://de.wikipedia.org/wiki/A_b"
    assert "datei" in site.hidden_prefixes and "kategorie" in site.hidden_prefixes
    told = read_site(tmp_path / "a.xml", "frwiki")
    assert (told.language, told.url("É")) == ("fr", "https://fr.wikipedia.org/wiki/%C3%89")


def test_files_of_a_dump_are_read_in_the_order_of_their_pages(tmp_path):
    """Their names do not sort so; and a dump of two wikis is refused."""
    names = ["x-p2000p3000.xml", "x-p10000p20000.xml", "x-p1p1999.xml"]
    for name in names:
        write(tmp_path / name, xml(1, text="w " * 40 + name))
    source = dump([tmp_path / name for name in names], "")
    assert [file.path.name for file in source.files] == [names[2], names[0], names[1]]
    assert all(isinstance(found, Article) for found in source)
    write(tmp_path / "y-p5p6.xml", xml(1, lang="fr"))
    with pytest.raises(DataError, match="two wikis, frwiki and dewiki"):
        dump([tmp_path / names[0], tmp_path / "y-p5p6.xml"], "")


def test_utf_16_is_read_too():
    path = Path(str(distribution("gensim").locate_file(EXCERPT))).parent
    read = [page.title for _, page in pages(path / "bgwiki-latest-pages-articles-shortened.xml.bz2")]
    assert len(read) == 3 and not read[0].isascii()
