"""Which features fire where on a text that somebody typed."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from itertools import takewhile, zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from starlette.exceptions import HTTPException

from saetrack.explorer.links import standing_step
from saetrack.utils.errors import shown

if TYPE_CHECKING:
    import pandas as pd
    from starlette.requests import Request

    from saetrack.explorer.chains import Chains
    from saetrack.registry.cards import ChainCard

LONGEST = 2_000  # characters
STEPS_AT_MOST = 64
FEATURES, FEATURES_AT_MOST = 20, 200
STRONGEST = 3  # features that are named at each token
BODY_BYTES = 64_000


@dataclass(frozen=True)
class AskedText:
    """A text, the LM steps at which it is read, and how many features are wanted."""

    text: str
    lm_steps: tuple[int, ...]
    features: int


class OwnText:
    """Reads texts, one at a time: an LM takes all cores."""

    def __init__(self, chains: Chains) -> None:
        """Loads nothing yet."""
        self._chains = chains
        self._busy = threading.Lock()

    def read(self, name: str, asked: AskedText) -> dict[str, Any]:
        """`text.json`: the features that fire strongest on a text at each of the steps.

        Raises:
            UserError: there is no such chain or link, or its LM cannot be loaded.
            HTTPException: another text is being read.
        """
        if not self._busy.acquire(blocking=False):
            raise HTTPException(429, "another text is being read: try again in a moment")
        try:
            return self._read(name, asked)
        finally:
            self._busy.release()

    def _read(self, name: str, asked: AskedText) -> dict[str, Any]:
        fired: dict[int, _Fired] = {}
        for lm_step in asked.lm_steps:
            fired[lm_step] = _Fired.of(self._chains.activations(name, asked.text, lm_step))
        tokens = self._chains.token_texts(name, asked.text)
        of_steps = [found.strongest(asked.features) for found in fired.values()]
        shown_features = _of_each_in_turn(of_steps)
        steps = []
        for (lm_step, found), best in zip(fired.items(), of_steps, strict=True):
            order = found.in_order(shown_features)
            steps.append(
                {
                    "lm_step": lm_step,
                    "features": [{"feature": f, "acts": found.acts(f)} for f in order],
                    "strongest": _alike(order, best),
                    "of_token": found.of_tokens(),
                }
            )
        return {
            "tokens": [token.text for token in tokens],
            "pieces": [token.piece for token in tokens],
            "steps": steps,
        }


def standing_note(card: ChainCard | None) -> str | None:
    """What a page says of a text that is read by a chain whose LM stands still."""
    steps = card.links["lm_step"] if card is not None else []
    standing = standing_step(steps)
    if standing is None:
        return None
    return (
        f"Every link of this chain reads the LM at step {standing:,}: "
        f"the last of its {len(steps)} links is shown."
    )


def _of_each_in_turn(of_steps: list[list[int]]) -> list[int]:
    """The first feature of each step, then the second ones, and so on."""
    ranks = zip_longest(*of_steps)
    found = dict.fromkeys(one for rank in ranks for one in rank if one is not None)
    return list(found)[:FEATURES_AT_MOST]


def _alike(order: list[int], best: list[int]) -> int:
    """How many features two orders have in common at their beginnings."""
    pairs = zip(order, best, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


@dataclass(frozen=True)
class _Fired:
    """Positive activations of a text at one checkpoint, which are few."""

    n_tokens: int
    tokens: np.ndarray[Any, Any]
    features: np.ndarray[Any, Any]
    values: np.ndarray[Any, Any]

    @classmethod
    def of(cls, table: pd.DataFrame) -> _Fired:
        acts = table.to_numpy()
        tokens, features = np.nonzero(acts > 0)
        return cls(len(acts), tokens, features, acts[tokens, features])

    def strongest(self, n: int) -> list[int]:
        """The features with the largest activations; of equal ones the lower number."""
        return self.in_order(np.unique(self.features).tolist())[:n]

    def in_order(self, features: list[int]) -> list[int]:
        """Features by their largest activations, the silent ones last."""
        largest = np.zeros(max(self.features.max(initial=0), *features, 0) + 1)
        np.maximum.at(largest, self.features, self.values)
        return sorted(features, key=lambda feature: (-largest[feature], feature))

    def acts(self, feature: int) -> list[float]:
        """At each token."""
        at_tokens = np.zeros(self.n_tokens)
        here = self.features == feature
        at_tokens[self.tokens[here]] = self.values[here]
        return [_digits(act) for act in at_tokens.tolist()]

    def of_tokens(self) -> list[dict[str, Any]]:
        """How many features fire at each token, and the strongest of them."""
        order = np.lexsort((self.features, -self.values, self.tokens))
        counts = np.bincount(self.tokens, minlength=self.n_tokens)
        firsts = np.concatenate([[0], counts.cumsum()[:-1]])
        return [
            {
                "count": int(count),
                "strongest": [
                    [int(self.features[at]), _digits(self.values[at])]
                    for at in order[first : first + min(count, STRONGEST)].tolist()
                ],
            }
            for first, count in zip(firsts.tolist(), counts.tolist(), strict=True)
        ]


def _digits(act: float) -> float:
    """As many digits as anybody reads."""
    return float(f"{act:.5g}")


async def read_limited(request: Request) -> bytes:
    """The body of a request.

    Raises:
        HTTPException: it is larger than any text that is read.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES:
            raise HTTPException(413, f"text: must have {LONGEST:,} characters or less")
    return body


def asked_text(content_type: str, body: bytes) -> AskedText:
    """What a request asks for.

    Raises:
        HTTPException: it is no JSON, which a form of another site cannot send; a value is wrong.
    """
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the body must be JSON (Content-Type: application/json)")
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is no JSON") from None
    if not isinstance(given, dict):
        raise HTTPException(400, 'the body must be {"text": ..., "lm_steps": [...]}')
    text, lm_steps = given.get("text"), given.get("lm_steps")
    features = given.get("features", FEATURES)
    if not isinstance(text, str) or not text:
        raise HTTPException(400, "text: must be a text")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise HTTPException(400, "text: has half a character (a surrogate)")
    if len(text) > LONGEST:
        raise HTTPException(
            413, f"text: has {len(text):,} characters, must have {LONGEST:,} or less"
        )
    if not (isinstance(lm_steps, list) and lm_steps and all(_is_whole(one) for one in lm_steps)):
        raise HTTPException(400, f"lm_steps={shown(lm_steps)}: must be a list of LM steps")
    if len(lm_steps) > STEPS_AT_MOST:
        raise HTTPException(400, f"lm_steps: {len(lm_steps)} steps, {STEPS_AT_MOST} at most")
    if not _is_whole(features) or not 1 <= features <= FEATURES_AT_MOST:
        line = f"features={shown(features)}: must be a number from 1 to {FEATURES_AT_MOST}"
        raise HTTPException(400, line)
    return AskedText(text, tuple(dict.fromkeys(lm_steps)), features)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
