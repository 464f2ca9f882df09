"""Answers on disk, found by the hash of their questions: what was paid is not paid again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from saetrack.analysis.explanations.model import Reply
from saetrack.analysis.explanations.questions import Messages
from saetrack.utils.files import content_hash, write_atomically

FOLDER = "explanations"  # in the cache


class AnswerCache:
    """One file for each answer, which is whole or absent."""

    def __init__(self, cache_dir: Path, identity: dict[str, Any]) -> None:
        """Of one model.

        Args:
            cache_dir: of the settings.
            identity: of the model, with all that its answers depend on.
        """
        self._folder = cache_dir / FOLDER
        self._identity = identity

    def find(self, messages: Messages) -> Reply | None:
        """The answer to a question; None if there is none, or if it cannot be read."""
        try:
            found = json.loads(self._path(messages).read_bytes())
            return Reply(str(found["text"]), int(found["tokens_in"]), int(found["tokens_out"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def keep(self, messages: Messages, reply: Reply) -> None:
        """Keep an answer."""
        content = {
            "text": reply.text,
            "tokens_in": reply.tokens_in,
            "tokens_out": reply.tokens_out,
        }
        write_atomically(self._path(messages), json.dumps(content).encode())

    def _path(self, messages: Messages) -> Path:
        name = content_hash([self._identity, messages])
        return self._folder / name[:2] / f"{name}.json"
