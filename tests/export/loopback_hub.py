"""As much of the Hugging Face hub as an upload and a download need, on 127.0.0.1: it serves what is committed to it."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40


class Hub(ThreadingHTTPServer):
    """`files` by repository and path; `requests` as (method, path, token)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.token = "hf_right"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

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

    def answer(self, status, body=b"", **headers):
        content = json.dumps(body).encode() if isinstance(body, dict | list) else body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def note(self):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.server.requests.append((self.command, self.path, token))
        return token

    def do_POST(self):
        token = self.note()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if token != self.server.token:
            return self.answer(401, {"error": "Invalid credentials"})
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization', 'someone')}/{asked['name']}"
            self.server.files.setdefault(name, {})
            return self.answer(200, {"url": f"{self.server.url}/{name}", "name": name})
        name = "/".join(self.path.removeprefix("/api/models/").split("/")[:2])
        if "preupload" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        if "/commit/" in self.path:
            for line in body.splitlines():
                record = json.loads(line)
                if record["key"] == "file":
                    value = record["value"]
                    self.server.files[name][value["path"]] = base64.b64decode(value["content"])
            url = f"{self.server.url}/{name}/commit/{COMMIT}"
            return self.answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})
        return self.answer(200, {})

    def do_GET(self):
        self.note()
        path = self.path.split("?")[0]
        if path.startswith("/api/models/"):
            name = "/".join(path.removeprefix("/api/models/").split("/")[:2])
            if name not in self.server.files:
                return self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            files = self.server.files[name]
            if "/tree/" in path:
                tree = [{"type": "file", "path": p, "size": len(c), "oid": hash_of(c)} for p, c in files.items()]
                return self.answer(200, tree)
            siblings = [{"rfilename": p} for p in files]
            return self.answer(
                200, {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "private": False}
            )
        name, _, file = path.removeprefix("/").partition("/resolve/")
        file = file.partition("/")[2]
        content = self.server.files.get(name, {}).get(file)
        if content is None:
            return self.answer(404, {"error": "Entry not found"}, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        return self.answer(200, content, X_Repo_Commit=COMMIT, ETag=f'"{hash_of(content)}"', Accept_Ranges="bytes")

    do_HEAD = do_GET


def hash_of(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
