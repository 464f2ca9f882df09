"""Answers as a browser likes them: compressed, and not sent again where it has them already."""

from __future__ import annotations

import gzip
import hashlib

from starlette.requests import Request
from starlette.responses import Response

JSON, BINARY = "application/json", "application/octet-stream"
WORTH_BYTES = 1_000  # less is not compressed
# Level 9 takes several times as long for a few hundredths less.
LEVEL = 4


def respond(
    request: Request, content: bytes, media_type: str = JSON, stamp: str | None = None
) -> Response:
    """An answer of status 200, or 304 where the browser has the same.

    Args:
        request: that is answered.
        content: of the answer.
        media_type: of the content.
        stamp: the same for the same content at this address; without, that is asked of the content.
    """
    tag = f'W/"{stamp or hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if _has(request, tag):
        return Response(status_code=304, headers=headers)
    wants = request.headers.get("accept-encoding", "")
    if "gzip" in wants and media_type == JSON and len(content) > WORTH_BYTES:
        content = gzip.compress(content, LEVEL, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(content, media_type=media_type, headers=headers)


def not_modified(request: Request, stamp: str) -> Response | None:
    """The answer 304, before anything is read, where the browser has what has this stamp."""
    tag = f'W/"{stamp}"'
    if not _has(request, tag):
        return None
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    return Response(status_code=304, headers=headers)


def no_page(start: str) -> str:
    """What a browser shows of an address that there is not.

    Args:
        start: where all chains are, from that address.
    """
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>No such page · saetrack</title>
<h1>There is no such page</h1><p><a href="{start}">All chains</a></p></html>
"""


def _has(request: Request, tag: str) -> bool:
    given = request.headers.get("if-none-match", "")
    return tag in [one.strip() for one in given.split(",")]
