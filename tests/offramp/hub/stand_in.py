"""A stand-in for the hub on loopback, which speaks what huggingface_hub needs of its API."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class Hub:
    """Repositories: for each, the files of its only branch."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.url = ""

    def commit_of(self, repository: str) -> str:
        """Return a hash of all files."""
        text = json.dumps([(k, v.hex()) for k, v in sorted(self.files[repository].items())])
        return hashlib.sha1(text.encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: Hub, *arguments: Any) -> None:
        self.hub = hub
        super().__init__(*arguments)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path.split("/")
        if path[1:] == ["api", "repos", "create"]:
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}"
            self.hub.files.setdefault(name, {})
            self.hub.private[name] = given.get("visibility") == "private"
            self.reply(200, {"url": f"{self.hub.url}/{name}", "id": name})
        elif path[5] == "preupload":
            names = [each["path"] for each in json.loads(body)["files"]]
            files = [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]
            self.reply(200, {"files": files})
        else:
            self.commit("/".join(path[3:5]), body)

    def commit(self, repository: str, body: bytes) -> None:
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                content = base64.b64decode(entry["value"]["content"])
                self.hub.files[repository][entry["value"]["path"]] = content
        commit = self.hub.commit_of(repository)
        url = f"{self.hub.url}/{repository}/commit/{commit}"
        self.reply(200, {"success": True, "commitOid": commit, "commitUrl": url})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = [unquote(part) for part in urlsplit(self.path).path.split("/")[1:]]
        repository, name = "/".join(path[:2]), "/".join(path[4:])
        if repository not in self.hub.files:
            self.reply(404, {}, {"X-Error-Code": "RepoNotFound"})
        elif path[2] != "resolve" or name not in self.hub.files[repository]:
            self.reply(404, {}, {"X-Error-Code": "EntryNotFound"})
        elif path[3] not in ("main", self.hub.commit_of(repository)):
            self.reply(404, {}, {"X-Error-Code": "RevisionNotFound"})
        else:
            self.send(self.hub.files[repository][name], self.hub.commit_of(repository))

    def send(self, content: bytes, commit: str) -> None:
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        self.finish_reply(200, content, {"X-Repo-Commit": commit, "ETag": etag})

    def reply(self, status: int, data: Any, headers: dict[str, str] | None = None) -> None:
        self.finish_reply(status, json.dumps(data).encode(), headers or {})

    def finish_reply(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def standing_in() -> Iterator[Hub]:
    """Run a stand-in on loopback."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
