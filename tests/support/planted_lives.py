"""A life store in which it is known what every feature fires on, and since when."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from saetrack.analysis.life_store.files import write_arrays, write_text
from saetrack.analysis.life_store.layout import AFTER, BEFORE, GROUPS, link_folder
from saetrack.analysis.life_store.reader import LifeStore
from tests.support.life_store import WORDS, small_store

LINKS, D_SAE = 8, 24
# Each feature fires on one word alone: at these links, and elsewhere on tokens at random.
SINCE, UNTIL = 3, 6
NAMES = ["river", *sorted({*WORDS} - {"river"})][:D_SAE]


def word_of(feature: int) -> str:
    """What a feature fires on; the first one on " river"."""
    return f" {NAMES[feature]}"


def planted_store(folder: Path, seed: int = 0, true: range = range(SINCE, UNTIL + 1)) -> LifeStore:
    """A store of 24 features over 8 links; at those of `true` each fires on its word alone."""
    small_store(folder, d_sae=D_SAE, links=LINKS)
    store = LifeStore(folder)
    words = [f" {word}" for word in WORDS]
    vocabulary = list(dict.fromkeys(words))
    vocabulary += [f"<{number}>" for number in range(len(store.vocabulary) - len(vocabulary))]
    random = np.random.default_rng(seed)
    # Every word equally often.
    tokens = random.permuted(
        np.resize(np.arange(len(set(words))), store.tokens.shape).reshape(-1)
    ).reshape(store.tokens.shape)
    write_text(folder, tokens, vocabulary)
    for link in range(LINKS):
        write_arrays(link_folder(folder, link), _contexts(tokens, vocabulary, link in true, random))
    return LifeStore(folder)


def _contexts(
    tokens: np.ndarray, vocabulary: list[str], is_true: bool, random: np.random.Generator
) -> dict[str, np.ndarray]:
    groups = np.repeat(np.arange(len(GROUPS)), [10, 2, 2, 2, 2, 2]).astype(np.uint8)
    shape = D_SAE, len(groups)
    found = {
        "context_rows": np.full(shape, -1, np.int32),
        "context_positions": np.zeros(shape, np.uint16),
        "context_groups": np.broadcast_to(groups, shape).copy(),
        "context_acts": np.zeros((*shape, BEFORE + 1 + AFTER), np.uint8),
        "context_act": np.zeros(shape, np.float32),
        "feature_density": np.linspace(0.02, 0.01, D_SAE).astype(np.float32),
    }
    for feature in range(D_SAE):
        if is_true:
            fires = tokens == vocabulary.index(word_of(feature))
        else:
            fires = random.random(tokens.shape) < 1 / len(set(WORDS))
        on, off = np.argwhere(fires), np.argwhere(~fires)
        chosen = [*random.permutation(on)[: len(groups) - 2], *random.permutation(off)[:2]]
        for number, (row, position) in enumerate(chosen):
            first = position - BEFORE
            window = np.zeros(BEFORE + 1 + AFTER, np.uint8)
            begin, end = max(first, 0), min(position + AFTER + 1, tokens.shape[1])
            window[begin - first : end - first] = 200 * fires[row, begin:end]
            found["context_rows"][feature, number] = row
            found["context_positions"][feature, number] = position
            found["context_acts"][feature, number] = window
            found["context_act"][feature, number] = 200 / 255 * fires[row, position]
    return found
