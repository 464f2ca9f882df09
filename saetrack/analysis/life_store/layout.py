"""Which arrays a life store has, and how large it becomes.

A store is a folder of flat `.npy` files, little-endian and never pickled: a feature's record is a
slice of a memory-mapped array, so an answer reads what it must and no more.

    chain.json            the manifest (`saetrack.analysis.life_store.manifest`)
    vocabulary.json       the text of every token id
    tokens.npy            rows of the analysis split, (rows, context_size)
    of_chain/NAME.npy     one value per feature
    links/0000/NAME.npy   one folder per link: one value, or one record, per feature
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

MANIFEST_FILE = "chain.json"
VOCABULARY_FILE = "vocabulary.json"
TOKENS_FILE = "tokens.npy"
OF_CHAIN = "of_chain"
LINKS = "links"

# What a context was chosen for: the strongest, two of each quarter of the positive activations
# (q4 is the strongest quarter), and two positions where the feature does not fire.
GROUPS = ("top", "q4", "q3", "q2", "q1", "silent")
OF_QUARTER = 2
SILENT = 2

# Tokens of a window before and behind a context's own.
BEFORE, AFTER = 20, 11

BINS = 32
COMMON_TOKENS = 5
NEIGHBOURS = 8

# Contexts of the group `top`, at most: an analysis may keep fewer (`contexts`).
TOP = 10

# Of a link, where the LM has a direct path to its logits: `promoted_tokens` and `promoted_logits`,
# the strongest first, and the same of those that are suppressed; (d_sae, some).
PROMOTED = ("promoted", "suppressed")


class Shape(NamedTuple):
    """An array of a store: its dtype, such as `f4`, little-endian, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def context_count(top: int) -> int:
    """Contexts of a feature at a link, of which `top` are of the group top."""
    return top + 4 * OF_QUARTER + SILENT


def record_arrays(
    d_sae: int,
    contexts: int,
    window: int = BEFORE + 1 + AFTER,
    bins: int = BINS,
) -> dict[str, Shape]:
    """The arrays of a link that hold more than a number per feature.

    - `context_rows` (-1 fills up), `context_positions`: where a context is, in `tokens`;
    - `context_groups`: index into the manifest's groups;
    - `context_acts`: activation at each token of the window over the largest one, 0 to 255;
    - `context_act`: activation at the position itself;
    - `histogram`: positive activations in equal bins up to the largest one;
    - `common_tokens` (-1 fills up), `common_shares`: of the tokens that the feature fires on;
    - `neighbours` (-1 fills up), `neighbour_cosines`: largest cosines of decoder rows.
    """
    return {
        "context_rows": Shape("i4", (d_sae, contexts)),
        "context_positions": Shape("u2", (d_sae, contexts)),
        "context_groups": Shape("u1", (d_sae, contexts)),
        "context_acts": Shape("u1", (d_sae, contexts, window)),
        "context_act": Shape("f4", (d_sae, contexts)),
        "histogram": Shape("u4", (d_sae, bins)),
        "common_tokens": Shape("i4", (d_sae, COMMON_TOKENS)),
        "common_shares": Shape("f2", (d_sae, COMMON_TOKENS)),
        "neighbours": Shape("i4", (d_sae, NEIGHBOURS)),
        "neighbour_cosines": Shape("f2", (d_sae, NEIGHBOURS)),
    }


def match_arrays(d_sae: int, chains: int) -> dict[str, Shape]:
    """The arrays of matched features in other chains, a column for each of `matches`.

    - `match_features`: the partner, -1 for none;
    - `match_cosines` of decoder rows, `match_correlations` of activations; NaN where not measured;
    - `match_chances`: what chance reaches for the same feature, by correlation where there is one;
    - `match_poor`: 1 where the match is poor.
    """
    shape = (d_sae, chains)
    of_floats = ("match_cosines", "match_correlations", "match_chances")
    return {
        "match_features": Shape("i4", shape),
        **{name: Shape("f4", shape) for name in of_floats},
        "match_poor": Shape("u1", shape),
    }


# Of a chain, one per feature; `formation_link` is -1 for never, `map` NaN for dead at the end.
CHAIN_COLUMNS = {"pattern": "u1", "final_label": "u1", "formation_link": "i2"}
# Of a link, one per feature; whatever curves there are come on top.
LINK_COLUMNS = {"label": "u1", "feature_density": "f4", "max_act": "f4", "top_token": "i4"}


def required_arrays(
    d_sae: int, contexts: int, window: int, bins: int, matches: int
) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """The arrays that every store has, of a link and of the chain."""
    columns = {name: Shape(dtype, (d_sae,)) for name, dtype in LINK_COLUMNS.items()}
    of_chain = {name: Shape(dtype, (d_sae,)) for name, dtype in CHAIN_COLUMNS.items()}
    return (
        columns | record_arrays(d_sae, contexts, window, bins),
        of_chain | {"map": Shape("f4", (d_sae, 2))} | match_arrays(d_sae, matches),
    )


def link_folder(folder: Path, link: int) -> Path:
    """Where a link's arrays are, by its index."""
    return folder / LINKS / f"{link:04d}"


def array_bytes(shape: Shape) -> int:
    """Size of an array's numbers."""
    numbers = 1
    for length in shape.shape:
        numbers *= length
    return numbers * int(shape.dtype[1:])


def planned_bytes(
    d_sae: int, links: int, top: int = TOP, curves: int = 11, matches: int = 1, tokens: int = 0
) -> int:
    """Size of a store before it is written, vocabulary and manifest aside."""
    of_link, of_chain = required_arrays(
        d_sae, context_count(top), BEFORE + 1 + AFTER, BINS, matches
    )
    per_link = sum(map(array_bytes, of_link.values())) + curves * 4 * d_sae
    return links * per_link + sum(map(array_bytes, of_chain.values())) + 4 * tokens
