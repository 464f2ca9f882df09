"""Reads a life store in place: arrays are memory-mapped, an answer reads what it must.

A store may come from anywhere: whatever is not as the manifest says is refused in one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from saetrack.analysis.life_store.layout import (
    MANIFEST_FILE,
    OF_CHAIN,
    PROMOTED,
    TOKENS_FILE,
    VOCABULARY_FILE,
    link_folder,
)
from saetrack.analysis.life_store.manifest import ArrayFacts, Manifest
from saetrack.utils.errors import UserError, one_line, shown

if TYPE_CHECKING:
    from jaxtyping import Shaped
    from numpy import ndarray


class LifeStore:
    """What there is to show of every feature at every link of one chain.

    Attributes:
        folder: of the store.
        manifest: what is in it.
    """

    def __init__(self, folder: Path) -> None:
        """Open a store: reads its manifest, and the head of each array.

        Raises:
            UserError: it is no store, or an array is missing, or not as the manifest says.
        """
        self.folder = folder
        self.manifest = _manifest(folder / MANIFEST_FILE)
        named = self.manifest.arrays
        self.tokens = _mapped(folder / TOKENS_FILE, self.manifest.tokens)
        self._of_chain = {
            name: _mapped(folder / OF_CHAIN / f"{name}.npy", facts)
            for name, facts in named.of_chain.items()
        }
        self._links = [
            {
                name: _mapped(link_folder(folder, link) / f"{name}.npy", facts)
                for name, facts in named.links.items()
            }
            for link in range(len(self.manifest.links))
        ]

    def column(self, link: int, name: str) -> Shaped[ndarray, " d_sae"]:
        """A value per feature at a link, or another array of it, by its name.

        Raises:
            UserError: there is no such link or array.
        """
        if not 0 <= link < len(self._links):
            raise UserError(f"link={link}: must be a number from 0 to {len(self._links) - 1}")
        found: Shaped[ndarray, " d_sae"] = _named(self._links[link], name)
        return found

    def of_chain(self, name: str) -> Shaped[ndarray, " d_sae"]:
        """A value per feature of the whole chain.

        Raises:
            UserError: there is no such array.
        """
        found: Shaped[ndarray, " d_sae"] = _named(self._of_chain, name)
        return found

    @cached_property
    def vocabulary(self) -> list[str]:
        """The text of every token id.

        Raises:
            UserError: it is not as the manifest says.
        """
        path = self.folder / VOCABULARY_FILE
        texts = _json(path)
        size = self.manifest.vocabulary
        if not (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
            raise UserError(f"{path}: must be a list of texts")
        if len(texts) != size:
            raise UserError(f"{path}: has {len(texts)} texts, not {size}")
        return texts

    def window(self, row: int, position: int) -> tuple[int, list[int]]:
        """The tokens around a position, as far as the row reaches.

        Returns:
            The position of the first of them, and their ids.

        Raises:
            UserError: there is no such position.
        """
        rows, context_size = self.tokens.shape
        if not (0 <= row < rows and 0 <= position < context_size):
            raise UserError(f"{self.folder}: has no position {position} of row {row}")
        first = max(position - self.manifest.window.before, 0)
        last = min(position + 1 + self.manifest.window.after, context_size)
        return first, self.tokens[row, first:last].tolist()

    def contexts(self, feature: int, link: int) -> list[dict[str, Any]]:
        """The contexts of a feature at a link.

        Returns:
            Of each `group` (index into the manifest's groups), `row`, `position`, `act`, `first`
            (position of the window's first token), `ids` of the window's tokens, `acts` of each, 0
            to 255.

        Raises:
            UserError: there is no such feature or link.
        """
        self._require(feature)
        arrays = self._links[link]
        rows = arrays["context_rows"][feature].tolist()
        positions = arrays["context_positions"][feature].tolist()
        groups = arrays["context_groups"][feature].tolist()
        at = arrays["context_act"][feature].tolist()
        acts = arrays["context_acts"][feature].tolist()
        before, found = self.manifest.window.before, []
        for index, row in enumerate(rows):
            if row < 0:
                continue
            first, ids = self.window(row, positions[index])
            begin = first - positions[index] + before
            found.append(
                {
                    "group": groups[index],
                    "row": row,
                    "position": positions[index],
                    "act": _short(at[index]),
                    "first": first,
                    "ids": ids,
                    "acts": acts[index][begin : begin + len(ids)],
                }
            )
        return found

    def life(self, feature: int) -> dict[str, Any]:
        """All there is of a feature, as JSON that the page shows; null where not measured.

        Raises:
            UserError: there is no such feature.
        """
        self._require(feature)
        links = range(len(self._links))
        curves = [column.name for column in self.manifest.columns if column.curve]
        return {
            "feature": feature,
            "pattern": self._pattern(feature),
            "formation_link": int(self._of_chain["formation_link"][feature]),
            "map": _numbers(self._of_chain["map"][feature]),
            "curves": {
                name: [_short(float(self._links[link][name][feature])) for link in links]
                for name in curves
            },
            "labels": [int(self._links[link]["label"][feature]) for link in links],
            "top_tokens": [int(self._links[link]["top_token"][feature]) for link in links],
            "links": [self.moment(feature, link) for link in links],
            "matches": list(self._matches(feature)),
        }

    def moment(self, feature: int, link: int) -> dict[str, Any]:
        """What is shown of a feature at one link."""
        arrays = self._links[link]

        def listed(ids: str, numbers: str) -> list[list[Any]]:
            pairs = zip(
                arrays[ids][feature].tolist(), _numbers(arrays[numbers][feature]), strict=True
            )
            return [[number, value] for number, value in pairs if number >= 0]

        logits = {
            kind: listed(f"{kind}_tokens", f"{kind}_logits")
            for kind in PROMOTED
            if f"{kind}_tokens" in arrays
        }
        return {
            "histogram": arrays["histogram"][feature].tolist(),
            "common_tokens": listed("common_tokens", "common_shares"),
            "neighbours": listed("neighbours", "neighbour_cosines"),
            "contexts": self.contexts(feature, link),
            **logits,
        }

    def _pattern(self, feature: int) -> str:
        number, patterns = int(self._of_chain["pattern"][feature]), self.manifest.patterns
        if number >= len(patterns):
            raise UserError(f"{self.folder}: pattern {number} of feature {feature} is unknown")
        return patterns[number]

    def _matches(self, feature: int) -> Iterator[dict[str, Any]]:
        arrays = self._of_chain
        for number, match in enumerate(self.manifest.matches):
            at = feature, number
            if (partner := int(arrays["match_features"][at])) < 0:
                continue
            yield {
                "chain": match.chain,
                "name": match.name,
                "role": match.role,
                "feature": partner,
                "lm_step": match.lm_step,
                "decoder_cosine": _short(float(arrays["match_cosines"][at])),
                "activation_correlation": _short(float(arrays["match_correlations"][at])),
                "chance": _short(float(arrays["match_chances"][at])),
                "poor": bool(arrays["match_poor"][at]),
            }

    def _require(self, feature: int) -> None:
        if not 0 <= feature < self.manifest.d_sae:
            raise UserError(
                f"feature={feature}: must be a number from 0 to {self.manifest.d_sae - 1}"
            )


def _named(arrays: dict[str, Any], name: str) -> Any:
    if name not in arrays:
        raise UserError(f"{shown(name)}: the store has no such array")
    return arrays[name]


def _manifest(path: Path) -> Manifest:
    values = _json(path)
    if isinstance(values, dict) and values.get("version", 1) != 1:
        raise UserError(
            f"{path}: version={shown(values['version'])}: is not read here (analyse again)"
        )
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {one_line(error)}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _json(path: Path) -> Any:
    try:
        if path.is_symlink() or not path.is_file():
            raise UserError(f"{path}: missing, or no file")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({type(error).__name__})") from None


def _mapped(path: Path, facts: ArrayFacts) -> Any:
    """An array in place, without the slower class of memory maps."""
    if path.is_symlink() or not path.is_file():
        raise UserError(f"{path}: missing, or no file")
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, MemoryError) as error:
        raise UserError(f"{path}: is no array that is read here ({type(error).__name__})") from None
    if not isinstance(found, np.ndarray):
        raise UserError(f"{path}: is no array but an archive")
    wanted = np.dtype(f"<{facts.dtype}"), tuple(facts.shape)
    if (found.dtype, found.shape) != wanted or not found.flags.c_contiguous:
        raise UserError(
            f"{path}: is {found.dtype}{list(found.shape)}, not {facts.dtype}{facts.shape}"
        )
    return found.view(np.ndarray)


def _numbers(values: Any) -> list[float | None]:
    return [_short(value) for value in values.tolist()]


def _short(value: float) -> float | None:
    """Five digits, which is more than anybody sees; null where there is no number."""
    return float(f"{value:.5g}") if np.isfinite(value) else None
