"""Patterns beside nulls: shares, what exceeds a control, whether a match has the same pattern."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from saetrack.analysis.figures.pattern_shares import kappa_line, pattern_shares_figure
from saetrack.analysis.meaning.classes import LABELS
from saetrack.analysis.results.pattern_shares import (
    PatternsOf,
    end_labels,
    kappa_of_features,
    pattern_agreement,
    pattern_shares,
)
from saetrack.utils.figures.steps import Setting
from tests.support.planted_figures import drawn_svg


def patterns_of(counts: dict[str, int], role: str, dead: int = 0) -> PatternsOf:
    """So many features of each pattern, and some that are not live."""
    names = [name for name, count in counts.items() for _ in range(count)] + ["absent"] * dead
    table = pd.DataFrame({"first_label": "noise", "pattern": names})
    return PatternsOf(role, table, np.arange(len(names) - dead))


def test_a_share_is_of_live_features_and_exceeds_a_control_or_does_not() -> None:
    chains = {
        "chain": patterns_of({"grouping": 144, "shifting": 167, "kept": 689}, "chain", dead=50),
        "still": patterns_of({"grouping": 130, "shifting": 71, "kept": 799}, "noise"),
    }
    table = pattern_shares(chains).set_index(["chain", "pattern"])
    grouping, shifting = (table.loc[("still", name)] for name in ("grouping", "shifting"))
    assert table.loc[("chain", "grouping"), "share"] == pytest.approx(0.144)
    assert np.isnan(table.loc[("chain", "grouping"), "excess"])
    # Of binomials: 1.96 sqrt(p (1 - p) / n), and of a difference the root of the sum of squares.
    error = 1.96 * np.sqrt(0.167 * 0.833 / 1000)
    assert table.loc[("chain", "shifting"), "low"] == pytest.approx(0.167 - error, abs=0.003)
    both = 1.96 * np.sqrt((0.167 * 0.833 + 0.071 * 0.929) / 1000)
    assert shifting["excess"] == pytest.approx(0.096)
    assert shifting["excess_low"] == pytest.approx(0.096 - both, abs=0.004) and both < 0.096
    assert grouping["excess_low"] < 0 < grouping["excess_high"], "14.4 % exceed 13.0 % by chance"


def test_labels_of_both_ends_are_shares_of_live_features() -> None:
    labels = {
        "first_label": ["noise", "noise", "token", "dead"],
        "final_label": ["token", "noise", "token", "dead"],
        "pattern": "any",
    }
    found = PatternsOf("chain", pd.DataFrame(labels), np.arange(3))
    table = end_labels({"chain": found}).set_index("label")[["first", "final"]]
    assert table.loc["token"].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert table.sum().tolist() == pytest.approx([1, 1])
    # A label that no feature has is 0: a replicate's is not missing beside that of one that has it.
    assert set(table.index) == {*LABELS, "noise"} and table.loc["dead"].tolist() == [0, 0]


def test_a_chain_without_live_features_has_no_shares() -> None:
    none = PatternsOf("noise", patterns_of({"kept": 3}, "noise").patterns, np.arange(0))
    table = pattern_shares({"chain": patterns_of({"kept": 3}, "chain"), "none": none})
    assert table["share"].tolist() == [1.0, 0.0]


def test_a_pattern_that_nobody_has_is_a_row_of_zero() -> None:
    """Else a mean over replicates would be one over those that have it."""
    chains = {name: patterns_of({"kept": 9}, name) for name in ("chain", "still")}
    table = pattern_shares(chains, known=["dying"]).set_index(["chain", "pattern"])
    assert table.loc[("chain", "dying"), ["share", "low"]].tolist() == [0, 0]
    assert table.loc[("still", "dying"), ["share", "excess"]].tolist() == [0, 0]


def agreeing() -> tuple[dict[str, PatternsOf], pd.DataFrame]:
    """Cohen's textbook table, 20 5 / 10 15: agreement .7, of chance .5, kappa .4."""
    cells = [("a", "a", 20), ("a", "b", 5), ("b", "a", 10), ("b", "b", 15)]
    left = [own for own, _, count in cells for _ in range(count)]
    right = [other for _, other, count in cells for _ in range(count)]
    first = ["token"] * 25 + ["noise"] * 25
    own = PatternsOf("chain", pd.DataFrame({"first_label": first, "pattern": left}), np.arange(50))
    # In the other chain the same features stand in reversed order.
    table = pd.DataFrame({"first_label": "token", "pattern": right[::-1]})
    other = PatternsOf("replicate", table, np.arange(50))
    pairs = pd.DataFrame(
        {"other": "second seed", "left": range(50), "right": range(49, -1, -1), "score": 0.8}
    )
    return {"chain": own, "second seed": other}, pairs


def test_agreement_of_matched_features_is_cohens_kappa() -> None:
    chains, pairs = agreeing()
    table = pattern_agreement(chains, pairs, seed=0).set_index("first_label")
    row = table.loc["all"]
    assert (row["pairs"], row["median_score"]) == (50, 0.8)
    assert row[["agreement", "chance", "kappa"]].tolist() == pytest.approx([0.7, 0.5, 0.4])
    # Its standard error in large samples: sqrt(po (1 - po) / n) / (1 - pe).
    error = 1.96 * np.sqrt(0.7 * 0.3 / 50) / 0.5
    assert row["kappa_low"] == pytest.approx(0.4 - error, abs=0.05)
    assert row["kappa_high"] == pytest.approx(0.4 + error, abs=0.05)
    # Those that begin as tokens are all `a` on the left: agreement beyond chance is none.
    assert table.loc["token", "kappa"] == pytest.approx(0)
    kappas = kappa_of_features(table.reset_index(), pd.Series(["noise", "token", "dead"]))
    assert kappas[1] == pytest.approx(0) and np.isnan(kappas[2])
    assert "second seed at kappa 0.40" in kappa_line(table.reset_index())


def test_features_that_are_not_live_and_too_few_pairs_have_no_kappa() -> None:
    chains, pairs = agreeing()
    few = chains["chain"]._replace(live=np.arange(6))
    (row,) = (
        pattern_agreement({**chains, "chain": few}, pairs, 0)
        .query("first_label == 'all'")
        .to_dict("records")
    )
    assert row["pairs"] == 6 and np.isnan(row["kappa"])
    empty = pattern_agreement(chains, pd.DataFrame(), 0)
    assert empty.empty and "kappa" in empty
    assert np.isnan(kappa_of_features(empty, pd.Series(["noise"]))).all()
    assert "no replicate stands beside it" in kappa_line(empty)


def test_the_figure_names_every_chain(tmp_path: Path) -> None:
    chains, pairs = agreeing()
    chains["jump"] = patterns_of({"a": 30, "b": 12, "only_here": 8}, "order")
    shares, agreement = pattern_shares(chains), pattern_agreement(chains, pairs, 0)

    def draw(path: Path) -> None:
        pattern_shares_figure(shares, agreement, Setting("patterns", "caption"), path)

    svg = drawn_svg(draw, tmp_path / "shares")
    for text in ("second seed", "jump", "only here", "first token"):
        assert f"<!-- {text} -->" in svg
