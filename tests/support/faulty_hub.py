"""A model hub on this machine that serves what it is given, and misbehaves when told to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants, file_download
from huggingface_hub.utils import _http

from saetrack.lm.checkpoints import download
from tests.support.in_threads import serving

SLICE_S = 0.02  # between the pieces of a slow response

# A file's, in memory or, where it is large, on disk.
Content = bytes | mmap.mmap


class Fault(Enum):
    """What goes wrong with one response."""

    DROP = auto()  # half of the body, then the connection is reset
    CUT = auto()  # half of the body, then a quiet end before the announced length
    SHORT = auto()  # half of the body, announced as all of it
    LESS = auto()  # half of the body, announced everywhere but in the listing
    FLIP = auto()  # all of it, one bit wrong
    STALL = auto()  # half of it, then nothing more until the test says so
    SLOW = auto()  # all of it, in small pieces
    UNAVAILABLE = auto()  # 503
    BROKEN = auto()  # 500
    GARBAGE = auto()  # 200 with the page of a proxy


@dataclass
class Revision:
    """One commit, and the branch that points to it."""

    commit: str
    files: dict[str, Content]

    @property
    def siblings(self) -> list[dict[str, object]]:
        """The files as the hub's API lists them; those above 100 bytes are kept as LFS objects."""
        listed: list[dict[str, object]] = []
        for name, content in self.files.items():
            entry: dict[str, object] = {
                "rfilename": name,
                "size": len(content),
                "blobId": git_sha1(content),
            }
            if is_large(content):
                sha256 = sha256_of(content)
                entry["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 130}
            listed.append(entry)
        return listed


@dataclass
class FaultyHub:
    """The server's address, its repositories, the faults to come, and what was asked for.

    Attributes:
        repos: revisions by name, by repository.
        faults: of the next responses, by file name, `listing` or `refs`.
        asked: how often each was asked for.
        stalled: set once a response stalls.
        go_on: set to end all stalls.
    """

    repos: dict[str, dict[str, Revision]] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def address(self) -> str:
        """Where the hub is."""
        return f"http://127.0.0.1:{self.port}"

    def reset(self) -> None:
        """Forget all repositories and faults, and end all stalls."""
        self.go_on.set()
        self.stalled, self.go_on = threading.Event(), threading.Event()
        for told in (self.repos, self.faults, self.asked):
            told.clear()

    def add(self, repo: str, revision: str, files: Mapping[str, Content]) -> str:
        """Serve files as a revision; returns the commit."""
        hashes = [(name, sha256_of(content)) for name, content in sorted(files.items())]
        text = repr((repo, revision, hashes))
        commit = hashlib.sha1(text.encode()).hexdigest()
        self.repos.setdefault(repo, {})[revision] = Revision(commit, dict(files))
        return commit

    def fail(self, what: str, fault: Fault, times: int = 1000) -> None:
        """Let the next responses about `what` go wrong."""
        self.faults[what] = [fault] * times

    def is_due(self, what: str, kinds: set[Fault]) -> bool:
        """Whether the next response about `what` has a fault of these kinds."""
        return bool(faults := self.faults.get(what)) and faults[-1] in kinds

    def next_fault(self, what: str, kinds: set[Fault]) -> Fault | None:
        """The fault of the response that is about to be sent, if it is of these kinds."""
        return self.faults[what].pop() if self.is_due(what, kinds) else None


STATUS = {Fault.UNAVAILABLE: 503, Fault.BROKEN: 500, Fault.GARBAGE: 200}
BODY = set(Fault) - set(STATUS)


@contextlib.contextmanager
def serve(port: int = 0, hub: FaultyHub | None = None) -> Iterator[FaultyHub]:
    """Run a hub in threads of this process; it disappears when the block ends."""
    hub = hub or FaultyHub()
    with serving(type("Handler", (_Handler,), {"hub": hub}), hub.go_on, port) as hub.port:
        yield hub


class _Handler(BaseHTTPRequestHandler):
    hub: FaultyHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        """Facts about some paths of a commit, as a dataset's client asks for them."""
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        path = unquote(urlsplit(self.path).path)
        revision = self._revision(path.partition("/paths-info/")[2])
        form = parse_qs(asked.decode())
        wanted = form["paths"] if "paths" in form else json.loads(asked)["paths"]
        self._send_json([entry for entry in tree(revision) if entry["path"] in wanted])

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/content/"):
            _, _, commit, name = path.split("/", 3)
            self._send_content(self._revision(commit), name)
        elif "/resolve/" in path:
            rest = path.partition("/resolve/")[2]
            commit, _, name = rest.partition("/")
            self._send_file_facts(self._revision(commit), name)
        elif path.startswith(("/api/models/", "/api/datasets/")):
            self._send_api(path.split("/", 3)[3])
        else:
            self._send(404, b"")

    def _send_api(self, path: str) -> None:
        org, name, kind, *rest = [*path.split("/"), "revision", "main"][
            : max(4, path.count("/") + 1)
        ]
        repo = f"{org}/{name}"
        what = "refs" if kind == "refs" else "listing"
        self.hub.asked[what] += 1
        fault = self.hub.next_fault(what, set(STATUS))
        if fault is not None:
            self._send(STATUS[fault], b"<html>please log in</html>")
            return
        revisions = self.hub.repos.get(repo)
        if revisions is None:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif kind == "refs":
            branches = [
                {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": revision.commit}
                for branch, revision in revisions.items()
            ]
            self._send_json({"branches": branches, "converts": [], "tags": []})
        else:
            revision = revisions.get(rest[0]) or self._revision(rest[0])
            if revision is None:
                self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            elif kind == "tree":
                folder = "/".join(rest[1:])
                self._send_json([entry for entry in tree(revision) if is_within(entry, folder)])
            else:
                siblings = revision.siblings
                self._send_json({"id": repo, "sha": revision.commit, "siblings": siblings})

    def _send_file_facts(self, revision: Revision | None, name: str) -> None:
        """What the hub itself says of a file: small ones it serves, for large ones it redirects."""
        if self.command == "HEAD":
            self.hub.asked[name] += 1
        fault = self.hub.next_fault(name, set(STATUS))
        if fault is not None:
            self._send(STATUS[fault], b"")
            return
        if revision is None or name not in revision.files:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content = revision.files[name]
        sha1, sha256 = git_sha1(content), sha256_of(content)
        large = is_large(content)
        if self.hub.is_due(name, {Fault.LESS}):
            content = content[: len(content) // 2]
        facts = {"X-Repo-Commit": revision.commit}
        if large:
            facts["X-Linked-Etag"] = f'"{sha256}"'
            facts["X-Linked-Size"] = str(len(content))
            # Another host by name, as the hub's content network is: clients take facts from here.
            facts["Location"] = f"http://localhost:{self.hub.port}/content/{revision.commit}/{name}"
            self._send(302, b"", facts)
        else:
            facts["ETag"] = f'"{sha1}"'
            self._send_body(name, content, facts)

    def _send_content(self, revision: Revision | None, name: str) -> None:
        if revision is None:
            self._send(404, b"")
        else:
            self.hub.asked[f"content of {name}"] += 1
            self._send_body(name, revision.files[name], {})

    def _send_body(self, name: str, content: Content, headers: dict[str, str]) -> None:
        """All or the rest of a file's bytes, with the fault that is due."""
        status, begin = 200, 0
        wanted = self.headers.get("Range")
        if wanted is not None:
            status, begin = 206, int(wanted.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        fault = self.hub.next_fault(name, BODY) if self.command == "GET" else None
        if fault is Fault.LESS and is_large(content):
            content = content[: len(content) // 2]
        body = content[begin:]
        if fault is Fault.FLIP:
            body = body[:-1] + bytes([body[-1] ^ 1])
        if fault is Fault.SHORT:
            body = body[: len(body) // 2]
            headers.pop("Content-Range", None)
        if fault in {Fault.DROP, Fault.CUT, Fault.STALL}:
            self._send(status, body, headers, sent=len(body) // 2)
            self._break_off(fault)
        else:
            self._send(status, body, headers, slow=fault is Fault.SLOW)

    def _break_off(self, fault: Fault) -> None:
        if fault is Fault.STALL:
            self.hub.stalled.set()
            self.hub.go_on.wait()
        if fault is Fault.DROP:  # a reset instead of an orderly end
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def _send_json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        sent: int | None = None,
        slow: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            pieces = [body[:sent]]
            if slow:
                size = len(body) // 8 + 1
                pieces = [body[begin : begin + size] for begin in range(0, len(body), size)]
            with contextlib.suppress(ConnectionError):  # the client was killed, or gave up
                for piece in pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()
                    time.sleep(SLICE_S if slow else 0)

    def _revision(self, name: str) -> Revision | None:
        for revisions in self.hub.repos.values():
            for branch, revision in revisions.items():
                if name in {branch, revision.commit}:
                    return revision
        return None


def tree(revision: Revision | None) -> list[dict[str, object]]:
    """The files and folders of a revision as the hub's API lists them."""
    entries: dict[str, dict[str, object]] = {}
    for name, content in revision.files.items() if revision else ():
        for folder in list(Path(name).parents)[:-1]:
            oid = git_sha1(str(folder).encode())
            entries[str(folder)] = {"type": "directory", "path": str(folder), "oid": oid, "size": 0}
        size = len(content)
        entries[name] = {"type": "file", "path": name, "oid": git_sha1(content), "size": size}
    return list(entries.values())


def is_within(entry: dict[str, object], folder: str) -> bool:
    """Whether an entry of a tree lies directly in a folder."""
    parent = str(Path(str(entry["path"])).parent)
    return parent == (folder or ".")


def is_large(content: Content) -> bool:
    """Whether the hub keeps a file as an LFS object."""
    return len(content) > 100


@lru_cache(maxsize=64)
def git_sha1(content: Content) -> str:
    """The hash that git gives a file."""
    digest = hashlib.sha1(f"blob {len(content)}\0".encode())
    digest.update(content)
    return digest.hexdigest()


@lru_cache(maxsize=64)
def sha256_of(content: Content) -> str:
    """The hash that names an LFS object."""
    return hashlib.sha256(content).hexdigest()


def point_client_at(address: str, patch: pytest.MonkeyPatch) -> None:
    """Let the hub's client of this process ask `address`, and never sleep between tries."""
    patch.setenv("NO_PROXY", "*")
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    restless = SimpleNamespace(**{**vars(time), "sleep": lambda _: None})
    patch.setattr(file_download, "time", restless)
    patch.setattr(_http, "time", restless)
    patch.setattr(download, "BACK_OFF_S", 0.001)
    close_session()  # the next one reads the environment again
