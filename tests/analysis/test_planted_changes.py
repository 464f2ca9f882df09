"""Features that appear, move and merge at known checkpoints, from rows of text to the tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from saetrack.analysis.contexts.datapoints import random_contexts, token_ids_at, unite
from saetrack.analysis.contexts.liveness import feature_status
from saetrack.analysis.contexts.token_purity import mapped, vocabulary_forms
from saetrack.analysis.contexts.top_contexts import TopContexts
from saetrack.analysis.formation.phases import progress_formation
from saetrack.analysis.formation.progress_measure import (
    FollowedSets,
    PointActivations,
    measure_progress,
)
from saetrack.analysis.meaning.determinism import TokenStatistics
from saetrack.analysis.meaning.labels import Meanings, classify
from saetrack.analysis.meaning.patterns import trace_patterns
from saetrack.data.exclusion import Excluded
from tests.support.planted_semantics import CONTEXT, feed, pairs_of

ROWS, VOCABULARY, K, D_IN = 300, 12, 10, 24
STEPS = [0, 4, 16, 64, 256]
APPEARS, MOVES, STAYS, MERGES, DEAD = range(5)
MERGED, NOISE = 11, [3, 4, 5, 6, 7, 8, 9, 10]


def fires_on(checkpoint: int) -> dict[int, list[int]]:
    """The tokens of each feature at a checkpoint."""
    return {
        APPEARS: NOISE if checkpoint < 2 else [1],
        MOVES: [2] if checkpoint < 3 else [6],
        STAYS: [3],
        MERGES: [4] if checkpoint < 4 else [3, 4],
        DEAD: [],
    }


@pytest.fixture(scope="module")
def found() -> tuple[list[Meanings], pd.DataFrame]:
    """Meanings and progress along the chain, as the flow finds them."""
    generator = np.random.default_rng(0)
    tokens = generator.integers(1, VOCABULARY, (ROWS, CONTEXT), dtype=np.uint32)
    tokens[:, 0] = 0
    forms = vocabulary_forms([f" w{'abcdefghijkl'[i]}" for i in range(VOCABULARY)])
    directions = np.linalg.qr(generator.normal(size=(D_IN, D_IN)))[0]
    strength = generator.random(tokens.shape) + 0.5
    statistics = TokenStatistics(tokens, VOCABULARY, Excluded((0,)))
    meanings, kept, residuals = [], [], []
    for index, step in enumerate(STEPS):
        acts = np.zeros((*tokens.shape, 5))
        for feature, chosen in fires_on(index).items():
            acts[..., feature] = np.isin(tokens, chosen) * strength
        x = acts @ directions[:5] * 4 + generator.normal(size=(*tokens.shape, D_IN)) / 5
        # What features fire on is nothing in common before they mean something.
        x[np.isin(tokens, NOISE[2:])] = generator.normal(size=D_IN) / 5
        top = TopContexts(5, K, window=(3, 1), excluded=Excluded((0,)))
        feed(top, tokens, acts, 64)
        contexts = top.result()
        ids = token_ids_at(tokens, contexts.rows, contexts.positions)
        status = feature_status(contexts)["status"]
        incoherent = pd.DataFrame({"coherence_z": np.zeros(5)})
        determinism = statistics.of_pairs(pairs_of(tokens, acts, Excluded((0,))))
        labels = classify(ids, forms, status, determinism, incoherent, K)
        meanings.append(Meanings(step, index, labels, mapped(ids, forms.text_ids)))
        kept.append(contexts)
        residuals.append(torch.from_numpy(x.reshape(-1, D_IN)).float())
    random = random_contexts(tokens, 5, 40, seed=0, excluded=Excluded((0,)))
    union = unite({"final": (kept[-1].rows, kept[-1].positions), "random": random})
    sets = {"final": FollowedSets(np.arange(4), union.sets["final"][:4])}
    places = union.rows * CONTEXT + union.positions
    progress = [
        measure_progress(
            PointActivations(step, index, x[places], None), sets, union.sets["random"]
        )[0]
        for index, (step, x) in enumerate(zip(STEPS, residuals, strict=True))
    ]
    return meanings, pd.concat(progress, ignore_index=True)


def test_what_appears_moves_and_merges_is_found_with_its_checkpoint(found) -> None:
    patterns = trace_patterns(found[0]).set_index("feature")
    assert patterns["pattern"].to_dict() == {
        APPEARS: "grouping",
        MOVES: "shifting",
        STAYS: "maintaining",
        MERGES: "merging",
        DEAD: "absent",
    }
    formed = patterns["formed_lm_step"]
    assert formed.loc[[APPEARS, MOVES, STAYS, MERGES]].tolist() == [16, 64, 0, 256]
    assert np.isnan(formed[DEAD])
    final = found[0][-1].labels
    assert final["label"][MERGES] == "several_tokens", "two tokens on one direction"
    assert final["paper_label"][MERGES] == "noise"
    assert found[0][0].labels["label"][APPEARS] == "contextual"


def test_datapoints_draw_together_when_their_feature_appears(found) -> None:
    formed = progress_formation(found[1], "activation_cosine_centred", 0.8, 0.1)
    formed = formed.set_index("feature")["formed_lm_step"]
    assert formed[APPEARS] == 16 and formed[STAYS] == 0
    assert formed[MERGES] == 256, "its two tokens lie apart until they merge"
