"""Features of every class planted into a text of topics, read as an analysis reads them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from saetrack.analysis.contexts.datapoints import random_directions, token_ids_at
from saetrack.analysis.contexts.liveness import feature_status
from saetrack.analysis.contexts.token_purity import vocabulary_forms
from saetrack.analysis.contexts.top_contexts import TokenBatch, TopContexts
from saetrack.analysis.meaning.determinism import TokenStatistics
from saetrack.analysis.meaning.directions import DirectionReader
from saetrack.analysis.pipeline.context_labeller import ContextLabeller, ReadMeanings
from saetrack.data.exclusion import NOTHING
from tests.support.planted_semantics import feed, pairs_of
from tests.support.planted_topics import LENGTH, ROWS, TOPICS, topical

VOCABULARY, K, DIRECTIONS = 210, 15, 64
ROWS_OF_TOKENS, EMBEDDINGS = topical()
CONCEPTS, SCATTERED, LISTS, SINGLE = (
    *(slice(0, 24), slice(24, 112), slice(112, 124), slice(124, 136)),
)


def planted() -> np.ndarray:
    """Activations: common words within one topic, anything anywhere, lists of words, one word."""
    generator = np.random.default_rng(0)
    acts = np.zeros((ROWS, LENGTH, SINGLE.stop))
    topic = (np.arange(ROWS) % TOPICS)[:, None]
    for feature in range(*CONCEPTS.indices(24)):
        words = generator.permutation(np.arange(200, 210))[:6]
        acts[..., feature] = np.isin(ROWS_OF_TOKENS, words) & (topic == feature % TOPICS)
    acts[..., SCATTERED] = generator.random((ROWS, LENGTH, 88)) < 0.02
    for feature in range(*LISTS.indices(200)):
        acts[..., feature] = np.isin(ROWS_OF_TOKENS, generator.permutation(200)[:4])
    for feature in range(*SINGLE.indices(200)):
        acts[..., feature] = feature + 60 == ROWS_OF_TOKENS
    return acts * (1 + 0.2 * generator.random(acts.shape))


def read_text(*, residuals_are_tokens: bool) -> ReadMeanings:
    """What the planted features mean, on residuals of tokens alone or of much beside them."""
    statistics = TokenStatistics(ROWS_OF_TOKENS, VOCABULARY)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    names = [" " + "".join(letters[[i // 26, i % 26, 25 - i % 26]]) for i in range(VOCABULARY)]
    text: Any = SimpleNamespace(
        token_rows=ROWS_OF_TOKENS,
        vocabulary=VOCABULARY,
        excluded=NOTHING,
        forms=vocabulary_forms(names),
        token_ids=lambda at: token_ids_at(ROWS_OF_TOKENS, at.rows, at.positions),
    )
    config: Any = SimpleNamespace(contexts=K, min_density=1e-4, seed=0, context_rule="distinct")
    acts = planted()
    top = TopContexts(acts.shape[-1], K)
    feed(top, ROWS_OF_TOKENS, acts, 100)
    beside = torch.randn(ROWS, LENGTH, 16, generator=torch.Generator().manual_seed(0))
    x = EMBEDDINGS[ROWS_OF_TOKENS].float() + (0.01 if residuals_are_tokens else 2) * beside
    vectors = random_directions(DIRECTIONS, 16, seed=0)
    reader = DirectionReader(vectors, TopContexts(DIRECTIONS, K), statistics, NOTHING)
    reader.add(x.flatten(0, 1), TokenBatch(np.arange(ROWS), ROWS_OF_TOKENS))
    contexts = top.result()
    return ContextLabeller(config, text, EMBEDDINGS.float()).read(
        contexts,
        feature_status(contexts),
        statistics.of_pairs(pairs_of(ROWS_OF_TOKENS, acts, NOTHING)),
        reader.result(),
    )


@pytest.fixture(scope="module")
def found() -> ReadMeanings:
    return read_text(residuals_are_tokens=False)


def test_each_feature_gets_the_class_that_was_planted(found: ReadMeanings) -> None:
    label = found.labels["label"].to_numpy()
    assert (label[CONCEPTS] == "concept").sum() == 24
    assert (label[SCATTERED] == "concept").sum() == 0
    assert (label[SCATTERED] == "contextual").sum() == 88
    assert (label[LISTS] == "several_tokens").all() and (label[SINGLE] == "token").all()
    assert set(found.labels["paper_label"].to_numpy()[SCATTERED]) == {"noise"}


def test_planted_concepts_exceed_both_nulls(found: ReadMeanings) -> None:
    nulls = found.nulls.set_index("null")
    assert (nulls["candidates"] == 112).all() and (nulls["concepts"] == 24).all()
    assert nulls.loc["random directions", "measured"] >= 20
    # Their words are common everywhere: by the words alone nothing is a concept.
    assert nulls.loc["same tokens", "expected"] < 2
    assert nulls.loc["same tokens", "surviving_share"] < 0.1
    assert (nulls["excess_low"] > 0).all() and (nulls["excess_high"] > 15).all()


def test_where_residuals_are_tokens_directions_tell_nothing() -> None:
    found = read_text(residuals_are_tokens=True)
    nulls = found.nulls.set_index("null")
    assert nulls.loc["random directions", "measured"] < 20
    assert np.isnan(nulls.loc["random directions", "excess"])
    assert (found.labels_of_directions["determinism"] > 0.8).all()
    assert not found.labels_of_directions["label"].isin(["concept", "contextual"]).any()
