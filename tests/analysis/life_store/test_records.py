"""What is kept of each feature, against the plain formula on the dense matrix of activations."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saetrack.analysis.contexts.top_contexts import TopContexts
from saetrack.analysis.life_store.layout import AFTER, BEFORE, BINS, GROUPS
from saetrack.analysis.life_store.neighbours import nearest_neighbours
from saetrack.analysis.life_store.records import Text, link_records
from saetrack.analysis.life_store.spool import PairSpool
from saetrack.data.exclusion import Excluded
from tests.support.planted_pairs import feed, planted_activations

EXCLUDED = Excluded((4,), first_positions=1)


def records(
    folder: Path, *, batch_rows: int = 5, memory_pairs: int = 10**6, buffer_pairs: int = 10**6
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The arrays of a link; tokens; activations without those that are left out."""
    tokens, acts = planted_activations()
    top = TopContexts(len(acts), 6, excluded=EXCLUDED)
    spool = PairSpool(
        len(acts),
        folder,
        excluded=EXCLUDED,
        memory_pairs=memory_pairs,
        buffer_pairs=buffer_pairs,
    )
    feed([top, spool], tokens, acts, batch_rows)
    text = Text(tokens, EXCLUDED, 9)
    kept = EXCLUDED.kept_in(tokens).reshape(-1)
    return link_records(spool, top.result(), text, seed=3), tokens, acts * kept


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return records(tmp_path_factory.mktemp("spool"))


def chosen(arrays: dict[str, np.ndarray], feature: int, group: str, context: int) -> np.ndarray:
    """Indices in the flattened text of a feature's contexts of a group."""
    of_group = arrays["context_groups"][feature] == GROUPS.index(group)
    rows = arrays["context_rows"][feature][of_group]
    positions = arrays["context_positions"][feature][of_group]
    return (rows.astype(int) * context + positions)[rows >= 0]


def test_the_window_of_a_context_holds_the_activation_at_each_of_its_tokens(found: Any) -> None:
    arrays, tokens, acts = found
    rows, context = tokens.shape
    seen = 0
    for feature, of_feature in enumerate(acts.reshape(len(acts), rows, context)):
        for number, row in enumerate(arrays["context_rows"][feature]):
            expected = np.zeros(BEFORE + 1 + AFTER)
            if row >= 0:
                position = int(arrays["context_positions"][feature, number])
                for offset in range(-BEFORE, AFTER + 1):
                    if 0 <= position + offset < context:
                        act = of_feature[row, position + offset] / of_feature.max()
                        scaled = max(1, np.rint(255 * act)) if act else 0
                        expected[BEFORE + offset] = scaled
                assert arrays["context_act"][feature, number] == of_feature[row, position]
                seen += 1
            got = arrays["context_acts"][feature, number].astype(float)
            assert np.abs(got - expected).max() <= 1  # of 255, where rounding is by a hair
            assert ((got > 0) == (expected > 0)).all()
    assert seen > 100


def test_histograms_count_every_activation_that_takes_part(found: Any) -> None:
    arrays, _, acts = found
    for feature, of_feature in enumerate(acts):
        positive = of_feature[of_feature > 0]
        top = positive.max() if len(positive) else 1
        expected = np.histogram(positive, BINS, (0, top))[0]
        got = arrays["histogram"][feature].astype(int)
        assert got.sum() == len(positive)
        # A value at the edge of two bins may round into either.
        assert np.abs(np.cumsum(got) - np.cumsum(expected)).max() <= (3 if feature == 3 else 1)


def test_common_tokens_are_those_that_a_feature_fires_on_most(found: Any) -> None:
    arrays, tokens, acts = found
    for feature, of_feature in enumerate(acts):
        counted = Counter(tokens.reshape(-1)[of_feature > 0].tolist())
        expected = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:5]
        listed = arrays["common_tokens"][feature]
        assert listed[listed >= 0].tolist() == [token for token, _ in expected]
        shares = [count / max((of_feature > 0).sum(), 1) for _, count in expected]
        np.testing.assert_allclose(
            arrays["common_shares"][feature][: len(shares)], shares, atol=1e-3
        )


def test_contexts_are_of_the_quarter_that_they_are_named_after(found: Any) -> None:
    arrays, tokens, acts = found
    for feature, of_feature in enumerate(acts):
        positive = np.sort(of_feature[of_feature > 0])
        if not len(positive):
            assert (arrays["context_rows"][feature] == -1).all()
            continue
        bounds = [positive[len(positive) * q // 4] for q in (1, 2, 3)]
        top = chosen(arrays, feature, "top", tokens.shape[1])
        assert of_feature[top[0]] == positive[-1]
        for number, group in enumerate(("q1", "q2", "q3", "q4")):
            of_quarter = [
                at
                for at in np.flatnonzero(of_feature)
                if sum(of_feature[at] >= bound for bound in bounds) == number
            ]
            got = chosen(arrays, feature, group, tokens.shape[1])
            assert set(got) <= set(of_quarter) - set(top)
            assert len(got) == len(set(got)) == min(2, len(set(of_quarter) - set(top)))
        silent = chosen(arrays, feature, "silent", tokens.shape[1])
        kept = EXCLUDED.kept_in(tokens).reshape(-1)
        assert (of_feature[silent] == 0).all() and kept[silent].all()
        assert len(set(silent)) == (0 if feature == 1 else 2)


@pytest.mark.parametrize(
    "how",
    [
        {"batch_rows": 24},
        {"batch_rows": 1, "buffer_pairs": 100},
        {"batch_rows": 3, "buffer_pairs": 50, "memory_pairs": 0},
        {"batch_rows": 2, "buffer_pairs": 200, "memory_pairs": 500},
    ],
)
def test_batches_and_files_change_nothing(found: Any, tmp_path: Path, how: Any) -> None:
    again, _, _ = records(tmp_path, **how)
    for name, expected in found[0].items():
        np.testing.assert_array_equal(again[name], expected, err_msg=name)
    assert not list(tmp_path.iterdir())  # the file has no name


def test_blocks_of_features_change_nothing(tmp_path: Path) -> None:
    tokens, acts = planted_activations()
    spool = PairSpool(len(acts), tmp_path, memory_pairs=300, buffer_pairs=100)
    feed([spool], tokens, acts, 3)
    for block_pairs in (1, 100, 10**6):
        seen = 0
        for features, pairs in spool.blocks(block_pairs):
            for number, feature in enumerate(range(features.start, features.stop)):
                of_feature = slice(*pairs.offsets[number : number + 2])
                at = np.flatnonzero(acts[feature])
                np.testing.assert_array_equal(pairs.tokens[of_feature], at)
                np.testing.assert_array_equal(pairs.acts[of_feature], acts[feature][at])
                seen += 1
        assert seen == len(acts)


def test_neighbours_are_the_largest_cosines_among_features_that_fire(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("saetrack.analysis.life_store.neighbours.BLOCK_FEATURES", 7)
    random = np.random.default_rng(0)
    rows = random.normal(size=(40, 6)) * random.uniform(0.1, 9, (40, 1))
    fires = np.arange(40) % 5 != 0
    found = nearest_neighbours(torch.from_numpy(rows).float(), fires)
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = np.where(fires[:, None] & fires & ~np.eye(40, dtype=bool), units @ units.T, -9)
    for feature in range(40):
        expected = np.argsort(-cosines[feature])[:8] if fires[feature] else np.full(8, -1)
        np.testing.assert_array_equal(found["neighbours"][feature], expected)
        if fires[feature]:
            np.testing.assert_allclose(
                found["neighbour_cosines"][feature], cosines[feature][expected], atol=1e-3
            )


@pytest.mark.parametrize("living", [0, 1, 2, 5])
def test_few_features_have_few_neighbours(living: int) -> None:
    found = nearest_neighbours(torch.eye(6)[:, :3] + 0.1, np.arange(6) < living)
    counts = (found["neighbours"] >= 0).sum(axis=1)
    assert counts.tolist() == [max(living - 1, 0)] * living + [0] * (6 - living)
