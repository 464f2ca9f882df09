"""What tables and figures say of ablations that are worse than a guess."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from saetrack.lm.ce_loss import MIN_ABLATION_COST
from saetrack.utils.figures.ce_loss import worse_than_guess
from saetrack.utils.figures.chain import chain_figure
from saetrack.utils.figures.text_tables import LINK_COLUMNS, report
from tests.support.planted_figures import kept_figures


def links(zero: list[float], mean: list[float]) -> pd.DataFrame:
    """Three links over an LM of 4,096 tokens, whose uniform guess costs 8.3 nats."""
    columns = [*LINK_COLUMNS, "link", "start_dead", "explained_variance_at_l0"]
    table = pd.DataFrame(1.0, index=range(3), columns=columns)
    return table.assign(
        link=range(3),
        lm_step=[0, 1, 16],
        nats_lost=[0.01, 0.14, 0.1375],
        ce_loss_uniform=math.log(4096),
        ce_loss_zero=zero,
        ce_loss_mean=mean,
    )


def test_links_whose_ablation_is_worse_than_a_guess_are_counted() -> None:
    told = worse_than_guess(links([8.3, 14.7, 9.0], [8.2, 8.6, 7.0]))
    assert "a uniform guess (8.3 nats)" in told
    assert "zero-ablation at 2 of 3 links (up to 14.7)" in told
    assert "mean-ablation at 1 of 3 links (up to 8.6)" in told
    assert worse_than_guess(links([8.3, 8.0, 7.0], [math.nan] * 3)) == ""


def test_a_share_recovered_stands_beside_the_nats_that_are_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    table = links([8.3, 14.7, 9.0], [8.2, 8.6, 7.0])
    text = report(table, "a chain")
    assert "nats" in text and "0.138" in text and text.endswith("1 of 3 links (up to 8.6).")
    figures = kept_figures(monkeypatch)
    chain_figure(table, "a chain", tmp_path / "chain")
    (drawn,) = [axes for axes in figures[0].axes if axes.get_ylabel() == "nats lost to the SAE"]
    assert list(drawn.lines[-1].get_ydata()) == [0.01, 0.14, 0.1375]
    assert "14.7" in figures[0].get_supxlabel()


def test_a_dash_and_a_negative_start_are_explained_where_they_stand() -> None:
    table = links([8.3, 8.0, 7.0], [8.2, 8.0, 7.0])
    plain = report(table, "a chain")
    assert "-" not in plain.splitlines()[-1], "nothing is told of what is not there"
    table.loc[0, "ce_loss_recovered"] = math.nan
    table.loc[0, "start_explained_variance"] = -5.6
    *_, start, dash = report(table, "a chain").splitlines()
    assert start.startswith("Explained variance at start is that of the weights with which a link")
    assert f"costs the LM less than {MIN_ABLATION_COST} nats" in dash
    assert "was not measured" not in dash
    table[["ce_loss_recovered", "nats_lost"]] = math.nan
    last = report(table, "a chain").splitlines()[-1]
    assert last.startswith("'-' was not measured: CE recovered, nats lost (evaluation.ce_tokens")


def test_headings_say_what_they_are_of() -> None:
    for column in ("start_explained_variance", "explained_variance_per_token"):
        assert LINK_COLUMNS[column][0].startswith("explained\nvariance\n")
