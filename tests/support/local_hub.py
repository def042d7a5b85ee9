"""A small Hugging Face hub: what the real client asks for, with its faults on demand.

Repositories are folders: FOLDER/ORG/NAME/…; files of 100 bytes and more are large ones (LFS), and
come from a store beside the hub. FOLDER/faults.json says what goes wrong, read at each request;
FOLDER/log.jsonl has every request. Shapes as huggingface_hub 0.35 and 2.4 expect them.

    python local_hub.py FOLDER ADDRESS PORT
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LARGE = 100
TOKEN = "hf_local0hub0token"
SAID = {
    401: "Access to model is restricted. You must have access to it and be authenticated.",
    403: "Access to model is restricted and you are not in the authorized list.",
}


@dataclass
class Hub:
    """The folder, as the server and the tests see it."""

    folder: Path
    address: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    taken: dict[str, int] = field(default_factory=dict)

    def add(self, repo: str, files: dict[str, bytes]) -> str:
        """A repository of these files; its commit."""
        for path, content in files.items():
            at = self.folder / repo / path
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_bytes(content)
        return self.commit(repo)

    def fault(self, **faults: Any) -> None:
        """What goes wrong from now on.

        + gated: 401 or 403 for every file; or {repository: 401}
        + cut: {file: bytes}: its connection ends after them, once
        + wrong: {file: times}: so often a byte of it is another
        + slow: seconds for each 64 KiB; stand: no byte of any file
        + longer: {file: bytes}: so many more come than its length says, without an end told
        + listed: what the list of a repository says instead: "sha", "siblings"
        + status: {code, times}: the hub itself answers so often with this code, and nothing else
        """
        (self.folder / "faults.json").write_text(json.dumps(faults))

    @property
    def faults(self) -> dict[str, Any]:
        path = self.folder / "faults.json"
        content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return content

    def once(self, fault: str, name: str, times: int = 1) -> bool:
        """Whether a fault that comes so often has still to come."""
        key = f"{fault} {name}"
        self.taken[key] = self.taken.get(key, 0) + 1
        return self.taken[key] <= times

    @property
    def log(self) -> list[dict[str, Any]]:
        path = self.folder / "log.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def forget(self) -> None:
        (self.folder / "log.jsonl").unlink(missing_ok=True)

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://{self.address}:{self.port}"

    def files(self, repo: str) -> dict[str, bytes]:
        base = self.folder / repo
        return {str(p.relative_to(base)): p.read_bytes()
                for p in sorted(base.rglob("*")) if p.is_file()}  # fmt: skip

    def commit(self, repo: str) -> str:
        listing = repr(sorted((p, sha256(c)) for p, c in self.files(repo).items()))
        return hashlib.sha1(listing.encode()).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD: /api/models/…, /ORG/NAME/resolve/REVISION/PATH, /store/SHA-256/NAME."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        self._note()
        path = urlsplit(self.path).path
        status = self.hub.faults.get("status", {})
        if not path.startswith("/store/") and self.hub.once("status", "", status.get("times", 0)):
            self._error(status["code"], "", "We had to rate limit your IP")
            return
        for pattern, answer in (
            (r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", self._info),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
            (r"/store/([^/]+/[^/]+)/(.+)", self._store),
        ):
            if match := re.fullmatch(pattern, path):
                answer(*match.groups())
                return
        self._error(404, "RepoNotFound", "Repository not found")

    do_HEAD = do_GET

    def _note(self) -> None:
        entry = {
            "client": self.client_address[0],
            "method": self.command,
            "path": urlsplit(self.path).path,
            "range": self.headers.get("Range", ""),
            "token": self.headers.get("Authorization", ""),
        }
        with (self.hub.folder / "log.jsonl").open("a") as log:
            log.write(json.dumps(entry) + "\n")

    def _known(self, repo: str, revision: str | None) -> str:
        """The commit; "" after an error was answered."""
        if not (self.hub.folder / repo).is_dir():
            # The hub does not tell a private repository from one that is not there.
            self._error(401, "RepoNotFound", "Repository not found")
            return ""
        commit = self.hub.commit(repo)
        if revision in (None, "main", commit):
            return commit
        self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return ""

    def _info(self, repo: str, revision: str | None) -> None:
        if not (commit := self._known(repo, revision)):
            return
        siblings: list[dict[str, Any]] = []
        for path, content in self.hub.files(repo).items():
            one: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": git(content)}
            if len(content) >= LARGE:
                size = len(content)
                one["lfs"] = {"sha256": sha256(content), "size": size, "pointerSize": 134}
            siblings.append(one)
        info = {"id": repo, "modelId": repo, "sha": commit, "siblings": siblings, "tags": []}
        info |= self.hub.faults.get("listed", {})
        body = json.dumps(info).encode()
        self._send(200, body, {"Content-Type": "application/json"})

    def _resolve(self, repo: str, revision: str, path: str) -> None:
        if not (commit := self._known(repo, revision)):
            return
        gated = self.hub.faults.get("gated")
        if isinstance(gated, dict):
            gated = gated.get(repo)
        if gated:
            self._error(gated, "GatedRepo", SAID[gated])
            return
        content = self.hub.files(repo).get(path)
        if content is None:
            self._error(404, "EntryNotFound", "Entry not found")
            return
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if len(content) < LARGE:
            self._content(path, content, {**headers, "ETag": f'"{git(content)}"'})
            return
        headers["X-Linked-ETag"] = f'"{sha256(content)}"'
        headers["X-Linked-Size"] = str(len(content))
        # Another host's name than the hub's: the token must not follow.
        port = self.hub.port
        host = "localhost" if self.hub.address == "127.0.0.1" else self.hub.address
        scheme = self.hub.url.partition(":")[0]
        headers["Location"] = f"{scheme}://{host}:{port}/store/{repo}/{path}"
        self._send(302, b"", headers)

    def _store(self, repo: str, path: str) -> None:
        content = self.hub.files(repo)[path]
        self._content(path, content, {"ETag": f'"{sha256(content)}"'})

    def _content(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        faults, status = self.hub.faults, 200
        times = faults.get("wrong", {}).get(path, 0)
        if self.command == "GET" and times and self.hub.once("wrong", path, times):
            content = content[:-1] + bytes([content[-1] ^ 1])
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            first = int(match[1])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            content, status = content[first:], 206
        if self.command == "GET" and (more := faults.get("longer", {}).get(path)):
            self._send(200, content + bytes(more), {**headers, "Content-Length": ""})
            return
        cut = faults.get("cut", {}).get(path)
        if self.command == "GET" and cut is not None and self.hub.once("cut", path):
            self._send(status, content, headers, only=cut)
            self.close_connection = True
            return
        self._send(status, content, headers)

    def _send(
        self, status: int, body: bytes, headers: dict[str, str], only: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name, value)
        if not headers.get("Content-Length", "known"):
            self.close_connection = True
        self.end_headers()
        if self.command == "HEAD":
            return
        faults = self.hub.faults
        stored = "/store/" in self.path
        while stored and self.hub.faults.get("stand"):
            time.sleep(0.1)
        for at in range(0, len(body[:only]), 1 << 16):
            time.sleep(faults.get("slow", 0) if stored else 0)
            try:
                self.wfile.write(body[:only][at : at + (1 << 16)])
            except OSError:
                return

    def _error(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self._send(status, body, {"X-Error-Code": code, "X-Error-Message": message})

    def log_message(self, *_: object) -> None:
        """Nothing: log.jsonl has it."""


def server(hub: Hub) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer((hub.address, hub.port), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.port = server.server_port
    if hub.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(hub.certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    return server


def self_signed(file: Path) -> Path:
    """A certificate of 127.0.0.1 and localhost for an hour, and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "local hub")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    key_bytes = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(certificate.public_bytes(pem) + key_bytes)
    return file


@contextmanager
def serving(folder: Path, certificate: Path | None = None) -> Iterator[Hub]:
    """A hub on loopback, in this process; over TLS where it has a certificate."""
    hub = Hub(folder, certificate=certificate)
    running = server(hub)
    threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        running.shutdown()
        running.server_close()


if __name__ == "__main__":
    server(Hub(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))).serve_forever()
