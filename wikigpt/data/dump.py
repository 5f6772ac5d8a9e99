"""A dump of a wiki, read from any place in the middle: MediaWiki's export XML, compressed with bzip2 or plain.

    enwiki-…-pages-articles.xml.bz2, bytes 8,000,000 to 16,000,000 ──> the pages that begin there

bzip2 packs each 900 kB on their own and begins such a block with 48 bits that stand (but for one chance in 2⁴⁸) nowhere
else. So a file of any size can be read in pieces, by as many processes as there are, whether it is one stream, as MediaWiki
Content File Exports are, or many, as the legacy multistream dumps. A piece's pages are those that begin in its blocks.
"""

import bz2
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

from wikigpt.data.wikitext.site import Site, site_of
from wikigpt.errors import DataError

LONGEST_PAGE = 64 * 2**20  # bytes of XML; MediaWiki allows 2 MB of wikitext
BLOCK, END = 0x314159265359, 0x177245385090  # how a block of bzip2 begins, and what follows the last one (π and √π)
READ = 2**20  # bytes


@dataclass(frozen=True)
class Page:
    """One page as the dump has it."""

    id: str
    revision: str
    namespace: int
    title: str
    redirect: bool
    text: str  # wikitext


class TooLong(Exception):
    """A page of more than LONGEST_PAGE bytes was left out."""


def read_site(path: Path, wiki: str = "") -> Site:
    """What the head of a dump says of its wiki; `wiki` (a database name) takes precedence where it is given. Raises
    DataError where the file is no dump."""
    head = _head(path)
    if re.search(r"<!(DOCTYPE|ENTITY)", head, re.I):
        problem = f"{path}, at its head: a document type is declared, which no dump of a wiki has."
        raise DataError(problem, "Get it again from dumps.wikimedia.org.")
    if "<mediawiki" not in head:
        raise DataError(f"{path} is no dump of a wiki: it does not begin with <mediawiki>.", "Check its name.")
    names = re.findall(r'<namespace key="(-?[0-9]+)"[^>]*?(?:/>|>([^<]*)</namespace>)', head)
    found = re.search(r"<dbname>([a-z0-9_-]+)</dbname>", head)
    base = re.search(r"<base>(https?://[^<\s]+/)[^</]*</base>", head)
    named = found[1] if found else "enwiki"
    if wiki and wiki != named:
        return site_of(wiki, {int(key): name for key, name in names})
    return site_of(named, {int(key): name for key, name in names}, base[1] if base else "")


def _head(path: Path) -> str:
    data = b""
    for _, block in _blocks(path, 0, None):
        data += block
        if b"</siteinfo>" in data or len(data) > READ:
            break
    return data[:READ].decode("utf-8", "replace")


def pages(path: Path, start: int = 0, end: int | None = None) -> Iterator[tuple[int, Page | TooLong]]:
    """The pages that begin between two bytes of a file (None: its end), each with the byte that reading has come to.

    Raises DataError with the file and the place where it is cut short, damaged, or no XML."""
    data = b""
    skipping = False  # the rest of a page that is too long
    last = b""  # what the file ends with
    for position, block in _blocks(path, start, end):
        last = (last + block[-100:])[-100:]
        inside = end is None or position < end
        if not inside and not _open_page(data):
            return
        before = len(data)  # past the end, only a page that began before it is ours
        searched = max(0, before - 6)  # "<page>" and "</page>" may stand across two blocks
        data += block
        begin = 0
        while True:
            if skipping:
                close = data.find(b"</page>", searched)
                if close < 0:
                    data, begin = data[-6:], 0
                    break
                skipping, begin = False, close + 7
            open_ = data.find(b"<page>", begin)
            if not inside and (open_ < 0 or open_ >= before):
                return
            if open_ < 0:
                begin = max(begin, len(data) - 5)
                break
            close = data.find(b"</page>", max(open_, searched))
            if close < 0:
                begin = open_
                break
            page = data[open_ : close + 7]
            yield position, TooLong(_title(page)) if len(page) > LONGEST_PAGE else _page(page, path, position)
            begin = close + 7
            if not inside:
                return
        data = data[begin:]
        if len(data) > LONGEST_PAGE:
            yield position, TooLong(_title(data))
            data, skipping = b"", True
    if _open_page(data) or skipping:
        raise _damaged(path, path.stat().st_size, "ends inside a page")
    seen = last.rstrip()  # of a last piece of a few bytes, less than the mark
    if not seen.endswith(b"</mediawiki>") and not b"</mediawiki>".endswith(seen):
        raise _damaged(path, path.stat().st_size, "does not end with </mediawiki>; it was cut short")


def _open_page(data: bytes) -> bool:
    """Whether a page has begun, or may have: its "<page>" may be cut in two."""
    return b"<page>" in data or any(data.endswith(b"<page>"[:length]) for length in range(1, 6))


def _title(xml: bytes) -> str:
    found = re.search(rb"<title>([^<]*)</title>", xml[:10_000])
    return found[1].decode("utf-8", "replace") if found else "?"


def _page(xml: bytes, path: Path, position: int) -> Page:
    try:
        page = ElementTree.fromstring(xml)
        namespace = int(page.findtext("ns") or 0)
    except (ElementTree.ParseError, ValueError) as error:
        raise _damaged(path, position, f"the page {_title(xml)!r} is no XML ({error})") from error
    revision = page.findall("revision")[-1:] or [page]  # the newest, where there are several
    text = revision[0].find("text")
    return Page(
        id=page.findtext("id") or "",
        revision=revision[0].findtext("id") or "",
        namespace=namespace,
        title=page.findtext("title") or "",
        redirect=page.find("redirect") is not None,
        text=(text.text or "") if text is not None else "",
    )


# ── bytes ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _blocks(path: Path, start: int, end: int | None) -> Iterator[tuple[int, bytes]]:
    """The uncompressed bytes from the first block at or after `start` on, each block with the byte that it begins at; past
    `end` too, for the one who reads may need the rest of a page."""
    try:
        with open(path, "rb") as file:
            magic = file.read(4)
            file.seek(start)
            if magic[:2] in (b"\xff\xfe", b"\xfe\xff"):
                yield from _transcoded([(0, path.read_bytes())] if start == 0 else [])
            elif magic[:3] != b"BZh":
                while block := file.read(min(READ, end - file.tell()) if end and file.tell() < end else READ):
                    yield file.tell() - len(block), block
            elif path.stat().st_size < 100:  # an empty file, compressed
                yield 0, bz2.decompress(file.read())
            else:
                blocks = _bzip2_blocks(file, start, path)
                first = next(blocks, None)
                if first and first[1][:2] in (b"\xff\xfe", b"\xfe\xff"):
                    yield from _transcoded([first, *blocks])
                elif first:
                    yield first
                    yield from blocks
    except (EOFError, ValueError) as error:
        raise _damaged(path, start, str(error)) from error
    except OSError as error:
        if error.errno is None:  # the decompressor's
            raise _damaged(path, start, str(error)) from error
        raise DataError(f"{path} cannot be read ({error.strerror}).", "Check its name and permissions.") from error


def _transcoded(blocks: list[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """UTF-16, as no Wikipedia writes it, but some tools do."""
    if blocks:
        yield blocks[0][0], b"".join(block for _, block in blocks).decode("utf-16").encode()


def _bzip2_blocks(file: BinaryIO, start: int, path: Path) -> Iterator[tuple[int, bytes]]:
    """Each block that begins at or after a byte, on its own: the file is cut wherever a block begins or a stream ends."""
    data, base = file.read(READ), start  # `data` begins at byte `base` of the file
    marks: list[tuple[int, bool]] = []  # bits from the beginning of `data`: where, and whether a block begins there
    searched = 0  # bytes of `data`
    more = True
    while more or marks:
        fresh = _marks(data, searched)
        marks += [mark for mark in fresh if not marks or mark[0] > marks[-1][0]]
        searched = max(0, len(data) - 7)
        while len(marks) >= 2:
            (bit, begins), (until, _) = marks[:2]
            if begins:
                block = _decompressed(data, bit, until, path, base)
                if block is None:  # a mark by chance inside a block: 48 bits are not for ever
                    del marks[1]
                    continue
                yield base + bit // 8, block
            del marks[0]
        if not more:
            break
        keep = (marks[0][0] // 8) if marks else max(0, len(data) - 7)
        chunk = file.read(READ)
        more = bool(chunk)
        data, base, searched = data[keep:] + chunk, base + keep, max(0, searched - keep)
        marks = [(bit - 8 * keep, begins) for bit, begins in marks]
        if len(data) > 16 * READ:
            raise _damaged(path, base, "no block of bzip2 ends here")
    if marks and marks[0][1]:
        raise _damaged(path, base + len(data), "the file ends inside a block of bzip2")


def _decompressed(data: bytes, bit: int, until: int, path: Path, base: int) -> bytes | None:
    """The block between two bits; None where it does not end there."""
    begin, shift = divmod(bit, 8)
    piece = data[begin : until // 8 + 1]
    if shift:
        piece = (int.from_bytes(piece) << shift).to_bytes(len(piece) + 1)[1:]
    piece = piece[: (until - bit + 7) // 8]  # fewer than 8 bits too many, which the decompressor does not look at
    try:
        decompressor = bz2.BZ2Decompressor()
        parts = [decompressor.decompress(b"BZh9" + piece)]
        while parts[-1]:  # it hands out a part, and says no more than what it has read
            parts.append(decompressor.decompress(b""))
        return b"".join(parts) or None
    except OSError as error:
        if until - bit < 8 * 100:
            return None
        raise _damaged(path, base + begin, "a block of bzip2 is not what was written") from error


def _marks(data: bytes, searched: int) -> list[tuple[int, bool]]:
    """The bits at which a block begins (True) or the last block of a stream has ended (False)."""
    found = []
    for magic in (BLOCK, END):
        for shift, (head, body, tail) in enumerate(_PATTERNS[magic]):
            position = data.find(body, searched)
            while position >= 0:
                before, after = position - 1, position + len(body)
                if shift == 0:
                    found.append((8 * position, magic == BLOCK))
                elif before >= 0 and after < len(data):
                    low = (1 << (8 - shift)) - 1
                    if data[before] & low == head and data[after] >> (8 - shift) == tail:
                        found.append((8 * before + shift, magic == BLOCK))
                position = data.find(body, position + 1)
    return sorted(found)


def _patterns(magic: int) -> list[tuple[int, bytes, int]]:
    """48 bits that begin `shift` bits into a byte: the end of that byte, the whole bytes, the beginning of the last."""
    patterns = [(0, magic.to_bytes(6), 0)]
    for shift in range(1, 8):
        whole = (magic << (8 - shift)).to_bytes(7)
        patterns.append((whole[0], whole[1:6], whole[6] >> (8 - shift)))
    return patterns


_PATTERNS = {magic: _patterns(magic) for magic in (BLOCK, END)}


def _damaged(path: Path, position: int, what: str) -> DataError:
    problem = f"{path}, near byte {position:,}: {what}."
    return DataError(problem, "Get the file again; what is finished is kept.")
