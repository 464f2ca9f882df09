"""Whether an index stands for the same feature, on chains in which features change places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from saetrack.analysis.drift import own_index
from saetrack.analysis.drift.measure import measure_drift
from saetrack.analysis.drift.own_index import OwnIndex
from saetrack.analysis.figures.own_index import own_index_figure
from saetrack.analysis.figures.trajectories import PALE, trajectory_figure
from saetrack.analysis.geometry.inputs import DecoderLink
from saetrack.utils.figures.steps import Setting
from tests.support.planted_figures import kept_figures

STEPS = [0, 4, 16, 64, 256, 1024]
# Of 40 features, so many hold at each link the row that the next one ends with.
MOVED = [30, 24, 24, 10, 4, 0]
FEATURES, D_IN = 40, 64


def chain() -> list[DecoderLink]:
    """The first rows of the last dictionary are shifted by one; 39 is dead, 38 until link 3."""
    rows = torch.randn(FEATURES, D_IN, generator=torch.Generator().manual_seed(1))
    links = []
    for index, (step, moved) in enumerate(zip(STEPS, MOVED, strict=True)):
        order = [*np.roll(np.arange(moved), 1), *range(moved, FEATURES)]
        density = torch.full((FEATURES,), 0.01)
        density[39] = 0
        density[38] = 0.01 * (index > 3)
        links.append(DecoderLink(step, index, rows[order] * (1 + index), density))
    return links


def found() -> OwnIndex:
    links = chain()
    return measure_drift(iter(links), links[-1]).own_index


def test_shares_are_those_that_were_planted() -> None:
    alive = np.array([38, 38, 38, 38, 39, 39])
    index = found()
    assert index.in_last.tolist() == pytest.approx(list(1 - np.array(MOVED) / alive))
    # From one link to the next those change places that were not yet, or are no more, shifted.
    assert np.isnan(index.in_previous[0]) and index.in_previous[2] == 1
    assert (index.in_previous[[1, 3, 4, 5]] < 1).all()
    assert index.best_cosine == pytest.approx(1) and index.own_cosine[-1] == pytest.approx(1)
    assert index.own_cosine[0] < 0.5 < index.own_cosine[3]
    assert 0.1 < index.chance < 0.6
    assert index.holds_from == 64
    table = index.table("mini")
    assert table["lm_step"].tolist() == STEPS and (table["chain"] == "mini").all()


def test_an_index_holds_from_where_it_does_not_fall_below_half_again() -> None:
    def holding(*shares: float) -> int:
        values = np.array(shares)
        return OwnIndex(np.arange(len(values)) * 10, *(values for _ in range(4)), 0.2).holds_from

    assert holding(0.9, 0.9, 1) == 0
    assert holding(0.6, 0.4, 0.5, 1) == 20
    assert holding(np.nan, 0.8, 1) == 10
    assert holding(0.1, 0.1, np.nan) == 20  # nothing is alive at the end


def test_of_large_dictionaries_a_sample_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = found()
    monkeypatch.setattr(own_index, "SAMPLE", 20)
    sample = found()
    assert sample.in_last == pytest.approx(whole.in_last, abs=0.25)
    assert sample.in_last[-2] * 20 == pytest.approx(round(sample.in_last[-2] * 20))


def test_what_lies_before_is_tinted(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = kept_figures(monkeypatch)
    setting = Setting("planted", replaced_before=64)
    control = found().table("still")[2:]
    own_index_figure(pd.concat([found().table(), control]), setting, Path("own_index"))
    shares, cosines = figures[0].axes
    for axes in (shares, cosines):
        (tint,) = axes.patches
        assert tint.get_x() + tint.get_width() == pytest.approx(64)
    assert "before step 64: fewer than half" in " ".join(str(figures[0].get_supxlabel()).split())
    assert shares.lines[0].get_xdata().tolist() == STEPS[2:]  # of the control, by the end
    path = pd.DataFrame({"link": range(6), "lm_step": STEPS, "pc1": range(6), "pc2": range(6)})
    path = path.assign(feature=3, formed=False, explained_pc1=0.5, explained_pc2=0.3)
    trajectory_figure(path.assign(feature_explained=0.4), setting, Path("trajectories"))
    segments = [part for part in figures[-1].axes[0].lines if len(part.get_xdata()) == 2]
    assert [part.get_alpha() for part in segments] == [PALE] * 3 + [1] * 2
