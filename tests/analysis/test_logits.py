"""What features promote, against plain formulas and planted directions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from saetrack.analysis.contexts.mean_acts import MeanActs
from saetrack.analysis.contexts.top_contexts import Contexts, Firings, TokenBatch
from saetrack.analysis.controls.measured import MeasuredLink, quantile_table
from saetrack.analysis.figures.logits import logits_figure
from saetrack.analysis.logits import feature_logits
from saetrack.analysis.logits.feature_logits import FeatureLogits, measure_logits, overlap
from saetrack.analysis.logits.next_tokens import next_tokens
from saetrack.analysis.logits.tables import LinkLogits, promoted_table, quantities_along
from saetrack.data.exclusion import Excluded
from saetrack.utils.figures.steps import Setting
from tests.support.planted_figures import drawn_svg, kept_figures

VOCABULARY, D_IN, D_SAE, K = 60, 16, 40, 5
GENERATOR = np.random.default_rng(0)
READOUT = torch.randn(VOCABULARY, D_IN, generator=torch.Generator().manual_seed(0))
READOUT -= READOUT.mean(dim=0)
DECODER = torch.randn(D_SAE, D_IN, generator=torch.Generator().manual_seed(1))
MEAN_ACTS = np.where(np.arange(D_SAE) % 10 == 9, 0.0, GENERATOR.uniform(0.5, 2, D_SAE))
FOLLOWING = GENERATOR.integers(0, VOCABULARY, (D_SAE, K))
FOLLOWING[:, 3:] = np.where(np.arange(D_SAE)[:, None] % 3 == 0, -1, FOLLOWING[:, 3:])
FOLLOWING[9] = -1


def measured(decoder: torch.Tensor = DECODER) -> FeatureLogits:
    return measure_logits(decoder, READOUT, MEAN_ACTS, FOLLOWING, seed=0)


def test_shapes_of_logits_are_scipys() -> None:
    found, plain = measured(), (DECODER @ READOUT.T).numpy().astype(float)
    np.testing.assert_allclose(found.kurtosis, stats.kurtosis(plain, axis=1), rtol=1e-4, atol=1e-4)
    fires = MEAN_ACTS > 0
    shares = torch.softmax(torch.from_numpy(plain * MEAN_ACTS[:, None]), dim=1).numpy()
    expected = stats.entropy(shares, axis=1)
    np.testing.assert_allclose(found.entropy[fires], expected[fires], rtol=1e-4, atol=1e-5)
    assert np.isnan(found.entropy[~fires]).all()


def test_the_strongest_tokens_are_kept_each_way() -> None:
    found, plain = measured(), (DECODER @ READOUT.T).numpy()
    order = np.argsort(-plain, axis=1)
    np.testing.assert_array_equal(found.promoted_tokens, order[:, :8])
    np.testing.assert_array_equal(found.suppressed_tokens, order[:, :-9:-1])
    by_hand = np.take_along_axis(plain, order[:, :8], axis=1)
    np.testing.assert_allclose(found.promoted_logits, by_hand, rtol=1e-4)


def test_agreement_is_by_the_mean_logit_and_other_features_spread() -> None:
    found, plain = measured(), (DECODER @ READOUT.T).double().numpy()
    known = [feature for feature in range(D_SAE) if (FOLLOWING[feature] >= 0).any()]
    means = {  # there are fewer features than others that are drawn: all of them
        other: plain[:, FOLLOWING[other][FOLLOWING[other] >= 0]].mean(axis=1) for other in known
    }
    for feature in (0, 1, 17):
        chance = np.array([means[other][feature] for other in known if other != feature])
        expected = (means[feature][feature] - chance.mean()) / chance.std()
        assert found.agreement[feature] == pytest.approx(expected, rel=1e-4)
    assert np.isnan(found.agreement[9]), "nothing follows it"


def test_features_that_promote_what_comes_next_are_told_from_shuffled_ones() -> None:
    towards = READOUT[torch.from_numpy(np.where(FOLLOWING < 0, 0, FOLLOWING))].mean(dim=1)
    found = measured(towards)
    assert np.nanmedian(found.agreement) > 2
    assert abs(np.nanmedian(found.shuffled_agreement)) < 1


def test_numbers_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured()
    monkeypatch.setattr(feature_logits, "BLOCK_NUMBERS", 7 * feature_logits.SMALL_VOCABULARY)
    for name, values in vars(measured()).items():
        np.testing.assert_allclose(values, getattr(whole, name), rtol=1e-4, atol=1e-5)


def test_no_feature_fires() -> None:
    nothing = np.full((D_SAE, K), -1)
    found = measure_logits(DECODER, READOUT, np.zeros(D_SAE), nothing, seed=0)
    assert np.isnan(found.agreement).all() and not len(found.random_kurtosis)


def test_the_next_token_is_of_the_same_row() -> None:
    rows = np.arange(12, dtype=np.uint32).reshape(3, 4)
    contexts = Contexts(
        rows=np.array([[0, 2, -1]]),
        positions=np.array([[1, 3, -1]]),
        feature_acts=np.ones((1, 3)),
        counts=np.array([2]),
        fires=np.array([2]),
        tokens=12,
    )
    assert next_tokens(rows, contexts).tolist() == [[2, -1, -1]]


def test_overlap_is_the_share_in_common() -> None:
    assert overlap(np.array([[1, 2, 3, 4]]), np.array([[4, 9, 1, 8]])).tolist() == [0.5]


def test_mean_activations_leave_out_what_is_excluded() -> None:
    collector = MeanActs(3, Excluded((7,)))
    for start in (0, 2):
        batch = TokenBatch(np.arange(start, start + 2), np.array([[7, 1, 2], [3, 7, 4]]))
        firings = Firings(
            torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 5]), torch.tensor([9.0, 2, 3, 5])
        )
        collector.add(firings, batch)
    assert collector.result().tolist() == [2, 4, 0]


def planted() -> tuple[list[LinkLogits], list[MeasuredLink], np.ndarray, pd.Series]:
    """Directions that turn from random ones to what comes next."""
    towards = READOUT[torch.from_numpy(np.where(FOLLOWING < 0, 0, FOLLOWING))].mean(dim=1)
    links = [
        LinkLogits(2**number, number, measured(DECODER * (1 - share) + 3 * share * towards))
        for number, share in enumerate((0, 0.5, 1))
    ]
    features = np.flatnonzero(MEAN_ACTS > 0)
    classes = pd.Series(np.where(np.arange(D_SAE) % 2, "token", "concept"))
    return links, list(quantities_along(links, features, seed=0)), features, classes


def test_tables_have_each_quantity_beside_its_control() -> None:
    links, along, features, classes = planted()
    table = quantile_table(along, features, classes)

    def of(quantity: str, name: str) -> pd.DataFrame:
        return table[(table["quantity"] == quantity) & (table["feature_class"] == name)]

    agreement = of("agreement", "all")
    assert agreement["q50"].is_monotonic_increasing
    assert agreement["share_above"].iloc[0] < 0.2 < 0.6 < agreement["share_above"].iloc[-1]
    overlapping = of("overlap_with_final", "token")
    assert overlapping["q50"].iloc[-1] == 1
    assert overlapping["control_q50"].iloc[-1] < 0.5, "even at the end"
    assert list(of("overlap_with_previous", "all")["checkpoint_index"]) == [1, 2]
    single = promoted_table(links, along, features[:3])
    assert len(single) == 9
    assert single["promoted_tokens"].iloc[-1].tolist() == list(
        links[-1].logits.promoted_tokens[features[2]]
    )


def test_the_figure_has_a_panel_for_each_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = quantile_table(*planted()[1:])
    drawn_svg(lambda path: logits_figure(table, Setting("planted"), path), tmp_path / "figure")
    figures = kept_figures(monkeypatch)
    logits_figure(table, Setting("plain"), Path("logits"))
    assert len(figures[0].axes) == 4
    caption = " ".join(str(figures[0].get_supxlabel()).split())
    assert "of 36 features" in caption and "next tokens of another feature" in caption
    drawn = [part.get_ydata() for part in figures[0].axes[0].lines]
    rows = table[(table["quantity"] == "agreement") & (table["feature_class"] == "token")]
    assert any(np.allclose(values, rows["q50"]) for values in drawn)
