"""As much of the Hugging Face hub as an upload and a download need, on 127.0.0.1: it serves what is committed to it.

whoami, create repo and branch, check of the card, preupload, LFS batch, PUT and verify, commit, tree, resolve. The rules
are those of the real hub as its client and its documentation have them; xet is switched off (HF_HUB_DISABLE_XET=1).
"""

import base64
import hashlib
import json
import os
import re
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import yaml

Files = dict[str, bytes]
EMPTY: Files = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}
LARGE = 10_000  # bytes from which a file goes to large storage; on the real hub 10 MB, or by its ending


class Hub(ThreadingHTTPServer):
    """`repositories` by (kind, name): branches and their commits; `files` is what main of a model holds. `requests` as
    (method, path, token). `role` is that of the one token; `refuse` answers a part of a path with a status; `breaks` is how
    many bytes of large files it takes before its network is gone."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.branches: dict[tuple[str, str], dict[str, str]] = {}
        self.commits: dict[tuple[str, str], dict[str, Files]] = {}
        self.private: dict[tuple[str, str], bool] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.token, self.role, self.user = "hf_right", "write", "someone"
        self.refuse: dict[str, int] = {}
        self.breaks: int | None = None
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def files(self, name: str, kind: str = "model", branch: str = "main") -> Files:
        """What a branch holds, without what every repository begins with."""
        found = self.commits[kind, name][self.branches[kind, name][branch]]
        return {path: content for path, content in found.items() if path not in EMPTY}

    def commit(self, kind: str, name: str, branch: str, files: Files) -> str:
        listing = json.dumps({path: hashlib.sha1(content).hexdigest() for path, content in sorted(files.items())})
        number = len(self.commits.setdefault((kind, name), {}))
        sha = hashlib.sha1(f"{number}{listing}".encode()).hexdigest()
        self.commits[kind, name][sha] = files
        self.branches.setdefault((kind, name), {})[branch] = sha
        return sha

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """For a process that takes this for the hub."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        settings = {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        return kept | settings | {"HF_HOME": str(home)} | more

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle(self):
        with suppress(ConnectionError, ValueError):  # a client that was killed, or a network that is gone
            super().handle()

    def answer(self, status, body=b"", **headers):
        content = json.dumps(body).encode() if isinstance(body, dict | list) else body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def begins(self) -> bool:
        """Notes a request; whether it may go on."""
        self.path = unquote(self.path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.server.requests.append((self.command, self.path, token))
        if self.server.breaks is not None and self.server.breaks <= 0:
            self.close_connection = True
            self.connection.close()
            return False
        for part, status in self.server.refuse.items():
            if part in self.path:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.answer(status, {"error": "You don't have the rights for that"})
                return False
        needed = (self.command in ("POST", "PUT") and not self.path.startswith("/large/")) or "whoami" in self.path
        if needed and token != self.server.token:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.answer(401, {"error": "Invalid credentials in Authorization header"})
            return False
        return True

    def repository(self) -> tuple[str, str]:
        """Kind and name in an address."""
        found = re.match(r"/(?:api/)?(models/|spaces/)?([^/]+/[^/.]+(?:\.[^/]+?)*?)(?:\.git)?(?:/|$)", self.path)
        return ("space" if found[1] == "spaces/" else "model"), found[2]

    def do_PUT(self):
        """A large file, or settings."""
        if not self.begins():
            return
        if self.path.endswith("/settings"):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            private = asked.get("private", asked.get("visibility") == "private")
            self.server.private[self.repository()] = private
            return self.answer(200, {"private": private})
        oid, size = self.path.removeprefix("/large/"), int(self.headers["Content-Length"])
        if self.server.breaks is not None and size > self.server.breaks:
            self.rfile.read(self.server.breaks)
            self.server.breaks = 0
            self.connection.close()
            self.close_connection = True
            return
        content = self.rfile.read(size)
        if self.server.breaks is not None:
            self.server.breaks -= size
        if hashlib.sha256(content).hexdigest() != oid:
            return self.answer(400, {"error": "other content"})
        self.server.large[oid] = content
        self.answer(200)

    def do_POST(self):
        if not self.begins():
            return
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            if "/commit/" in self.path:
                return self.take_commit(raw)
            body = json.loads(raw) if raw else {}
            if self.path == "/api/repos/create":
                return self.create(body)
            if self.path == "/api/validate-yaml":
                errors = [] if body["repoType"] == "space" else card_errors(body["content"])
                return self.answer(400 if errors else 200, {"errors": [{"message": e} for e in errors], "warnings": []})
            if "/branch/" in self.path:
                repository, branch = self.repository(), self.path.rpartition("/branch/")[2]
                there = self.server.branches[repository]
                if branch in there:
                    return self.answer(409, {"error": "Reference already exists"})
                there[branch] = there["main"]
                return self.answer(200, {})
            if "/preupload/" in self.path:
                branch = self.path.rpartition("/preupload/")[2].split("?")[0]
                there = self.server.commits[self.repository()][self.server.branches[self.repository()][branch]]
                return self.answer(200, {"files": [mode(file, there.get(file["path"])) for file in body["files"]]})
            if self.path.endswith("/info/lfs/objects/batch"):
                return self.answer(200, {"transfer": "basic", "objects": [self.action(o) for o in body["objects"]]})
            if self.path.endswith("/verify"):
                return self.answer(200 if body["oid"] in self.server.large else 404, {})
        self.answer(404, {"error": "no such place"})

    def create(self, asked):
        kind = asked.get("type", "model")
        owner = asked.get("organization") or self.server.user
        name = f"{owner}/{asked['name']}"
        if owner != self.server.user:
            why = f'You don\'t have the rights to create a {kind} under the namespace "{owner}"'
            return self.answer(403, {"error": why})
        url = f"{self.server.url}/{'spaces/' if kind == 'space' else ''}{name}"
        if (kind, name) in self.server.commits:
            return self.answer(409, {"error": "You already created this repo", "url": url, "name": name})
        if kind == "space" and asked.get("sdk") != "static":
            return self.answer(400, {"error": "a space needs an sdk"})
        self.server.commit(kind, name, "main", dict(EMPTY))
        self.server.private[kind, name] = asked.get("private", asked.get("visibility") == "private")
        return self.answer(200, {"url": url, "name": name, "id": name})

    def action(self, asked):
        """What to do with a large file: nothing where it is there."""
        if asked["oid"] in self.server.large:
            return asked
        upload = {"href": f"{self.server.url}/large/{asked['oid']}"}
        return asked | {"actions": {"upload": upload, "verify": {"href": f"{self.server.url}/api/verify"}}}

    def take_commit(self, raw):
        kind, name = self.repository()
        branch = self.path.rpartition("/commit/")[2].split("?")[0]
        files = dict(self.server.commits[kind, name][self.server.branches[kind, name][branch]])
        for record in map(json.loads, raw.splitlines()):
            value = record["value"]
            if record["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif record["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            elif record["key"] == "deletedFile":
                del files[value["path"]]
        sha = self.server.commit(kind, name, branch, files)
        url = f"{self.server.url}/{name}/commit/{sha}"
        self.answer(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def do_GET(self):
        if not self.begins():
            return
        path = self.path.split("?")[0]
        if path == "/api/whoami-v2":
            fine = {"scoped": [{"entity": {"type": "user"}, "permissions": ["repo.content.read"]}]}
            token = {"displayName": "laptop", "role": self.server.role, "fineGrained": fine}
            return self.answer(200, {"name": self.server.user, "type": "user", "auth": {"accessToken": token}})
        kind, name = self.repository()
        if (kind, name) not in self.server.commits:
            return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        asked = re.search(r"/(?:revision|tree|resolve)/([^/]+)", path)
        branch = asked[1] if asked else "main"
        sha = self.server.branches[kind, name].get(branch, branch)
        if sha not in self.server.commits[kind, name]:
            return self.answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        files = self.server.commits[kind, name][sha]
        if path.startswith("/api/"):
            if "/tree/" in path:
                tree = [{"type": "file", "path": p, "size": len(c), "oid": hash_of(c)} for p, c in files.items()]
                return self.answer(200, tree)
            record = {"id": name, "modelId": name, "sha": sha, "siblings": [{"rfilename": p} for p in files]}
            return self.answer(200, record | {"private": self.server.private.get((kind, name), False)})
        content = files.get(path.partition("/resolve/")[2].partition("/")[2])
        if content is None:
            return self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        return self.answer(200, content, X_Repo_Commit=sha, ETag=f'"{hash_of(content)}"', Accept_Ranges="bytes")

    do_HEAD = do_GET


def mode(file, content: bytes | None):
    """How a file is to be sent, and what is there under its name."""
    large = file["size"] >= LARGE
    found = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
    if content is not None and large:
        found["oid"] = hashlib.sha256(content).hexdigest()
    elif content is not None:
        found["oid"] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return found


def hash_of(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


LICENCES = {"cc-by-sa-4.0", "cc-by-sa-3.0", "cc-by-4.0", "cc0-1.0", "mit", "apache-2.0", "unknown", "other"}


def card_errors(content: str) -> list[str]:
    """What the hub would not accept in the head of a model card (hub-docs, modelcard.md)."""
    found = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    if not found:
        return ["no metadata"]
    data = yaml.safe_load(found[1])
    errors = []
    known = {
        "language", "license", "license_name", "license_link", "library_name", "tags", "datasets", "base_model",
        "pipeline_tag", "model-index",
    }  # fmt: skip
    errors += [f"{key} is not known" for key in data.keys() - known]
    for code in data.get("language", []):
        if not (isinstance(code, str) and re.fullmatch("[a-z]{2,3}", code)):
            errors.append(f"language {code!r} is no ISO 639 code")
    if data.get("license") not in LICENCES:
        errors.append(f"license {data.get('license')!r} is not known")
    if data.get("license") == "other":
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", data.get("license_name", "")):
            errors.append("license_name must be an id")
        if data.get("license_link") not in ("LICENSE", "LICENSE.md"):
            errors.append("license_link is missing")
    if not all(isinstance(tag, str) and 1 <= len(tag) <= 50 for tag in data.get("tags", [])):
        errors.append("tags are words")
    for model in data.get("model-index", []):
        if not model.get("name"):
            errors.append("model-index has no name")
        for result in model.get("results", []):
            if not result.get("task", {}).get("type"):
                errors.append("a result has no task type")
            if not {"type", "name"} <= result.get("dataset", {}).keys():
                errors.append("a result has no dataset type and name")
            if not result.get("metrics"):
                errors.append("a result has no metrics")
            for metric in result.get("metrics", []):
                if not metric.get("type") or not isinstance(metric.get("value"), int | float):
                    errors.append("a metric has no type or no value")
    return errors
