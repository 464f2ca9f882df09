"""A server in threads of this process, for as long as a block lasts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # of 5, some of many that connect at once would be refused


@contextlib.contextmanager
def serving(
    handler: type[BaseHTTPRequestHandler], go_on: threading.Event, port: int = 0
) -> Iterator[int]:
    """Serve on loopback; gives the port.

    Args:
        handler: of requests.
        go_on: set at the end, so that no request stalls any longer.
        port: 0: one that is free.
    """
    server = _Server(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
