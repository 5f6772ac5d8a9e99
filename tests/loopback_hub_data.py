"""As much of the Hugging Face Hub as reading a dataset needs, on 127.0.0.1: its API, its files and parts of them."""

import hashlib
import io
import json
import re
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from loopback_dumps import Handler, Loopback

COMMIT = "c" * 40
ADDRESS = re.compile(r"/(?:api/)?datasets/([^/]+/[^/]+)(?:/(tree|paths-info|revision|resolve)(?:/([^/]+)(?:/(.*))?)?)?")


class DatasetHub(Loopback):
    """`files` by repository and path; `left`: by a path's end, how many more times that file is given out."""

    def __init__(self) -> None:
        super().__init__(HubHandler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.left: dict[str, int] = {}
        self.sent: dict[str, int] = {}  # bytes by path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs in its environment, before any import, to talk to this hub."""
        return {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

    def add(self, repo: str, folder: str, articles: list[dict[str, Any]], files: int = 1, rows: int = 100) -> None:
        """Articles in so many parquet files, `rows` per row group."""
        table, size = pa.Table.from_pylist(articles), -(-len(articles) // files)
        for n in range(files):
            buffer = io.BytesIO()
            pq.write_table(table.slice(n * size, size), buffer, row_group_size=rows)
            name = f"train-{n:05}-of-{files:05}" if repo == "wikimedia/wikipedia" else f"000_{n:05}"
            self.files.setdefault(repo, {})[f"{folder}/{name}.parquet"] = buffer.getvalue()


class HubHandler(Handler):
    server: DatasetHub

    def respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        found = ADDRESS.fullmatch(unquote(self.path.partition("?")[0]))
        if not found or found[1] not in self.server.files:
            return self.say(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        (repo, verb, revision, inside), files = found.groups(), self.server.files[found[1]]
        if revision not in (None, "main", COMMIT):
            return self.say(404, {"error": "Revision not found"}, X_Error_Code="RevisionNotFound")
        if verb == "resolve":
            return self.give(inside, files.get(inside))
        entries = [entry(path, data) for path, data in files.items()]
        if verb == "tree":
            below = [each for each in entries if each["path"].startswith(f"{inside}/" if inside else "")]
            missing = {"error": "Entry not found"}
            return self.say(200, below) if below else self.say(404, missing, X_Error_Code="EntryNotFound")
        if verb == "paths-info":
            return self.say(200, [each for each in entries if each["path"] in unquote(body)])
        self.say(200, {"id": repo, "sha": COMMIT, "siblings": [], "tags": []})

    def say(self, status: int, record: Any, **headers: str) -> None:
        self.answer(status, json.dumps(record).encode(), X_Repo_Commit=COMMIT, **headers)

    def give(self, path: str, data: bytes | None) -> None:
        server = self.server
        if data is None:
            return self.say(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound")
        for end in [end for end in server.left if path.endswith(end)]:
            server.left[end] -= 1
            if server.left[end] < 0:
                return self.say(403, {"error": "The hub has had enough"})
        self.answer_file(data, X_Repo_Commit=COMMIT, ETag=f'"{hashlib.sha1(data).hexdigest()}"', Accept_Ranges="bytes")

    def answer(self, status: int, body: bytes = b"", cut: int | None = None, **headers: str) -> None:
        path = self.path.rpartition("/")[2]
        self.server.sent[path] = self.server.sent.get(path, 0) + len(body) * (self.command == "GET")
        super().answer(status, body, cut, **headers)


def entry(path: str, data: bytes) -> dict[str, Any]:
    """A file as the hub lists it; all large ones are in its large file storage."""
    large = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest(), "lfs": large}
