"""As much of dumps.wikimedia.org as a download needs, on 127.0.0.1: both layouts, their files, and bad days."""

import bz2
import hashlib
import json
import re
import threading
import time
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

CONTENT = "/other/mediawiki_content_current"


class Request(NamedTuple):
    """What one request asked for, and the status of its answer."""

    method: str
    path: str
    range: str
    agent: str
    status: int


class Loopback(ThreadingHTTPServer):
    """A server on a free port that remembers what it was asked. `most`: the highest number of connections at once that
    asked for something; `pause`: seconds before each answer, so that connections overlap."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.requests: list[Request] = []
        self.busy = self.most = 0
        self.pause = 0.0
        self.lock = threading.Lock()

    def __enter__(self) -> Any:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def asked(self, end: str) -> list[Request]:
        """The requests for files whose path ends so."""
        return [request for request in self.requests if request.path.endswith(end)]


class Handler(BaseHTTPRequestHandler):
    """Counts, and answers with what `respond` of a subclass says."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.busy += 1
            server.most = max(server.most, server.busy)
        try:
            time.sleep(server.pause)
            self.respond()
        except ConnectionError:  # the client has gone
            self.close_connection = True
        finally:
            with server.lock:
                server.busy -= 1

    do_HEAD = do_POST = do_GET

    def answer(self, status: int, body: bytes = b"", cut: int | None = None, **headers: str) -> None:
        """Sends a body; with `cut` only so many bytes of it, and then the line breaks."""
        asked = self.headers.get("Range", ""), self.headers.get("User-Agent", "")
        with self.server.lock:
            self.server.requests.append(Request(self.command, self.path, *asked, status))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        self.close_connection = self.close_connection or cut is not None

    def answer_file(self, data: bytes, cut: int | None = None, whole: bool = False, **headers: str) -> None:
        """Sends a file, or that part of it which was asked for (`whole`: does not know of parts)."""
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if whole or not asked:
            return self.answer(200, data, cut, **headers)
        first = int(asked[1]) if asked[1] else max(0, len(data) - int(asked[2]))
        last = min(int(asked[2]) if asked[1] and asked[2] else len(data), len(data) - 1)
        if first > last:
            return self.answer(416, Content_Range=f"bytes */{len(data)}")
        self.answer(206, data[first : last + 1], cut, Content_Range=f"bytes {first}-{last}/{len(data)}", **headers)


class Dumps(Loopback):
    """Serves `files` (path -> bytes)."""

    def __init__(self) -> None:
        super().__init__(DumpsHandler)
        self.files: dict[str, bytes] = {}
        self.cut: dict[str, int] = {}  # path's end -> bytes of the next answer before the line breaks
        self.unavailable: dict[str, int] = {}  # path's end -> Retry-After of the next answer, a 503; -1: a 502
        self.ignore_range = False
        self.slow: float = 0  # seconds for each 64 kB of a file

    def add_legacy(self, wiki: str, date: str, pages: list[bytes], parts: int = 1, done: bool = True) -> None:
        """A run (date 20261101) at /<wiki>/<date>/; with parts, split files and the recombined one, as big wikis have."""
        start, jobs = f"{wiki}-{date}-pages-articles", {}
        split = {f"{start}-multistream.xml.bz2": multistream(wiki, pages)}
        if parts > 1:
            jobs["articlesmultistreamdumprecombine"] = split
            runs = enumerate(portions(pages, parts), 1)
            split = {f"{start}-multistream{n}.xml-p{n}00p{n}99.bz2": multistream(wiki, some) for n, some in runs}
        index = {name.replace(".xml", "-index.txt"): b"its index" for name in split}
        jobs |= {"articlesdump": {f"{start}.xml.bz2": b"the same"}, "articlesmultistreamdump": split | index}
        status = {}
        for job, files in jobs.items():
            self.files |= {f"/{wiki}/{date}/{name}": data for name, data in files.items()}
            facts = {name: {"size": len(d), "sha1": hashlib.sha1(d).hexdigest()} for name, d in files.items()}
            status[job] = {"status": "done" if done else "in-progress", "files": facts}
        self.files[f"/{wiki}/{date}/dumpstatus.json"] = json.dumps({"version": "0.8", "jobs": status}).encode()
        self.files[f"/{wiki}/latest/{wiki}-latest-sha1sums.txt"] = b""

    def add_content(self, wiki: str, date: str, pages: list[bytes], parts: int = 1, done: bool = True) -> None:
        """An export (date 2026-11-01): files of one stream each, and their sums when it is done."""
        folder = f"{CONTENT}/{wiki}/{date}/xml/bzip2"
        made = enumerate(portions(pages, parts), 1)
        files = {f"{wiki}-{date}-p{n}00p{n}99.xml.bz2": bz2.compress(document(wiki, some)) for n, some in made}
        self.files |= {f"{folder}/{name}": data for name, data in files.items()}
        if done:
            sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items())
            self.files[f"{folder}/SHA256SUMS"] = sums.encode()

    def add_statistics(self, wiki: str, articles: int) -> str:
        """What a wiki tells of itself; returns the address, to be put into download.STATISTICS."""
        facts = {"batchcomplete": "", "query": {"statistics": {"pages": 3 * articles, "articles": articles}}}
        self.files[f"/{wiki}/w/api.php"] = json.dumps(facts).encode()
        return self.url + "/{}wiki/w/api.php?action=query"

    def dumps(self) -> dict[str, bytes]:
        """The files of pages, by name."""
        return {path.rpartition("/")[2]: data for path, data in self.files.items() if re.search(r"[m0-9]\.xml", path)}

    def downloads(self) -> list[Request]:
        """The requests for them."""
        return [request for request in self.requests if request.method == "GET" and request.path.endswith(".bz2")]


class DumpsHandler(Handler):
    server: Dumps

    def respond(self) -> None:
        server, path = self.server, self.path.split("?")[0]
        data = server.files.get(path, self.listing(path))
        wait = self.once(server.unavailable, path)
        if wait == -1:
            return self.answer(502, b"Bad Gateway")
        if wait is not None:
            return self.answer(503, b"busy", Retry_After=str(wait))
        if data is None:
            return self.answer(404, b"Not Found")
        cut = self.once(server.cut, path) if self.command == "GET" else None
        if server.slow and path.endswith(".bz2"):
            self.wfile = Slow(self.wfile, server.slow)
        self.answer_file(data, cut, server.ignore_range)

    def once(self, kind: dict[str, int], path: str) -> int | None:
        with self.server.lock:
            return next((kind.pop(end) for end in list(kind) if path.endswith(end)), None)

    def listing(self, path: str) -> bytes | None:
        """A folder as nginx lists it, if this is one."""
        below = [name.removeprefix(path).split("/") for name in self.server.files if name.startswith(path)]
        names = sorted({steps[0] + "/" * (len(steps) > 1) for steps in below})
        rows = "".join(f'<a href="{name}">{name}</a>   01-Nov-2026 00:00   -\n' for name in ["../", *names])
        return f"<html><body><pre>{rows}</pre></body></html>\n".encode() if path.endswith("/") and names else None


class Slow:
    """A connection that takes its time."""

    def __init__(self, out: Any, seconds: float) -> None:
        self.out, self.seconds = out, seconds

    def write(self, data: bytes) -> None:
        for first in range(0, len(data), 2**16):
            self.out.write(data[first : first + 2**16])
            time.sleep(self.seconds * (len(data) > 2**16))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.out, name)


def page(number: int, title: str, text: str) -> bytes:
    """One article as both layouts write it."""
    return f"""  <page>
    <title>{escape(title)}</title>\n    <ns>0</ns>\n    <id>{number}</id>
    <revision>\n      <id>{number + 10**6}</id>\n      <model>wikitext</model>\n      <format>text/x-wiki</format>
      <text bytes="{len(text.encode())}" xml:space="preserve">{escape(text, quote=False)}</text>
    </revision>\n  </page>\n""".encode()


def document(wiki: str, pages: list[bytes]) -> bytes:
    """A whole file before it is compressed."""
    return header(wiki) + b"".join(pages) + b"</mediawiki>\n"


def header(wiki: str) -> bytes:
    """What comes before the first page."""
    start = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11">\n  <siteinfo>\n'
    return f"{start}    <sitename>Wikipedia</sitename>\n    <dbname>{wiki}</dbname>\n  </siteinfo>\n".encode()


def multistream(wiki: str, pages: list[bytes], size: int = 100) -> bytes:
    """A file of many streams: header, each `size` pages, and footer are compressed on their own."""
    streams = [header(wiki), *(b"".join(pages[n : n + size]) for n in range(0, len(pages), size)), b"</mediawiki>\n"]
    return b"".join(map(bz2.compress, streams))


def portions(pages: list[bytes], parts: int) -> list[list[bytes]]:
    """The pages in so many runs."""
    size = -(-len(pages) // parts)
    return [pages[first : first + size] for first in range(0, len(pages), size)]
