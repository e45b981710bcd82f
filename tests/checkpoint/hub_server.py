"""A local HTTP server that speaks enough of the Hugging Face hub's API to download from."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repositories by name, who may read them, and which files break off when first read."""

    repos: dict[str, Path]
    token: str | None = None  # needed for every repository, if set
    gated: frozenset[str] = frozenset()
    break_off: dict[str, int] = field(default_factory=dict)  # file name -> times to break off
    downloaded: list[str] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self.respond(body=False)

    def do_GET(self) -> None:
        self.respond(body=True)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def respond(self, *, body: bool) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        api = parts[:2] == ["api", "models"]
        owner_name = "/".join(parts[2:4] if api else parts[:2])
        rest = parts[4:] if api else parts[2:]
        if not self.allowed(owner_name):
            return
        repo = self.hub.repos[owner_name]
        if api and rest[:1] == ["tree"]:
            self.send_json([self.entry(path) for path in sorted(repo.iterdir())])
        elif api and rest[1:2] in ([], ["main"], [COMMIT]):
            siblings = [{"rfilename": path.name} for path in sorted(repo.iterdir())]
            self.send_json({"id": owner_name, "sha": COMMIT, "siblings": siblings})
        elif rest[:1] == ["resolve"] and rest[1] in ("main", COMMIT):
            self.send_file(repo / rest[2], body=body)
        else:
            self.send_error_code(404, "RevisionNotFound")

    def allowed(self, owner_name: str) -> bool:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if owner_name in self.hub.gated and token != self.hub.token:
            self.send_error_code(403 if token else 401, "GatedRepo")
        elif owner_name not in self.hub.repos or (
            self.hub.token and owner_name not in self.hub.gated and token != self.hub.token
        ):
            self.send_error_code(404 if token else 401, "RepoNotFound")
        else:
            return True
        return False

    def entry(self, path: Path) -> dict[str, Any]:
        oid = hashlib.sha1(path.read_bytes()).hexdigest()
        return {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": oid}

    def send_json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_error_code(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_file(self, path: Path, *, body: bool) -> None:
        if not path.is_file():
            self.send_error_code(404, "EntryNotFound")
            return
        content = path.read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            total = len(content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.send_body(path.name, content[start:])

    def send_body(self, name: str, content: bytes) -> None:
        self.hub.downloaded.append(name)
        if self.hub.break_off.get(name, 0) > 0:
            self.hub.break_off[name] -= 1
            content = content[: len(content) // 2]
            self.close_connection = True
        self.wfile.write(content)


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Run the hub on a free port of this machine; `hub.url` is its address."""
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
