"""Runs the explorer's server until Ctrl-C."""

from __future__ import annotations

import os
import socket
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING

import uvicorn

from saetrack.utils.credentials import is_loopback
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

ANY = ("0.0.0.0", "::")  # noqa: S104  (a comparison)


def bind(listen: str, port: int) -> socket.socket:
    """A socket that takes connections, before anything is loaded.

    Args:
        listen: address of this machine.
        port: 0 takes one that is free.

    Raises:
        UserError: the port is taken, or the address is none of this machine.
    """
    try:
        known = socket.getaddrinfo(listen, port, type=socket.SOCK_STREAM)
        kind, _, protocol, _, address = known[0]
        # With its protocol, or asyncio leaves Nagle's algorithm on: 40 ms for each small answer.
        found = socket.socket(kind, socket.SOCK_STREAM, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(100)
        except OSError:
            found.close()
            raise
    except OSError as error:
        raise UserError(
            f"port={port}: cannot be had at {listen} ({error.strerror}); end what uses it, or name "
            "another one (--port 0 takes one that is free)"
        ) from None
    return found


def address_of(bound: socket.socket, listen: str) -> str:
    """Where a person on this machine finds the server."""
    host = "127.0.0.1" if listen in ANY or (is_loopback(listen) and ":" not in listen) else listen
    return f"http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}"


def serve(app: ASGIApp, bound: socket.socket) -> None:
    """Answer until Ctrl-C or SIGTERM; open pages are not waited for."""
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
    try:
        uvicorn.Server(config).run(sockets=[bound])
    except KeyboardInterrupt:
        return


def open_browser(address: str) -> bool:
    """Show an address, without waiting; False where no browser can have a window."""
    has_windows = sys.platform != "linux" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
    )
    if has_windows:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    return has_windows
