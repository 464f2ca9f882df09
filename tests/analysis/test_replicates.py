"""Headline numbers of an analysis, and their mean and interval over replicates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from saetrack.analysis.figures.replicates import replicates_figure
from saetrack.analysis.pipeline.config import AnalyzeConfig, load_analyze_config
from saetrack.analysis.results.headline import COLUMNS, headline_table
from saetrack.analysis.results.replicates import over_replicates
from saetrack.chain.config import TrackConfig
from saetrack.chain.presets import load_preset
from saetrack.chain.sweep import load_sweep_config
from saetrack.utils.errors import UserError
from saetrack.utils.figures.steps import Setting
from tests.support.nano import NANO_TRACK
from tests.support.planted_figures import drawn_svg
from tests.support.planted_results import headline_of_chain, tables_of_an_analysis


def test_headline_numbers_are_those_of_the_tables() -> None:
    table = headline_table(tables_of_an_analysis())
    assert list(table) == COLUMNS and not table.duplicated(["name", "control"]).any()
    value = table.set_index(["name", "control"])["value"]
    assert value["label.concept.first", ""] == 0.02 and value["label.concept.rise", ""] == (
        pytest.approx(0.07)
    )
    # The control's share of concepts rises by .05: .02 remain.
    assert value["label.concept.rise", "still"] == pytest.approx(0.02)
    # Each end beside the directions of that link.
    assert value["label.token.first", "random directions"] == pytest.approx(0.6 - 0.4)
    assert value["label.token.final", "random directions"] == pytest.approx(0.5 - 0.1)
    low = table.set_index(["name", "control"])["low"]
    half = 1.96 * (0.6 * 0.4 / 144 + 0.4 * 0.6 / 256) ** 0.5
    assert low["label.token.first", "random directions"] == pytest.approx(0.2 - half)
    assert value["pattern.grouping", ""] == 0.144
    assert value["pattern.grouping", "still"] == pytest.approx(0.014)
    assert value["pattern_kappa.all", "second seed"] == 0.46
    assert value["progress.concept.rise", ""] == pytest.approx(0.3)
    assert value["progress.concept.rise", "random directions"] == pytest.approx(0.3 - 0.18)
    assert value["segments.concept: progress", ""] == 3
    assert value["emergent_from.concept: progress", ""] == 48
    assert value["cosine_to_final_at_first", "still"] == pytest.approx(0.16 - 0.68)
    assert value["noise_share_of_drift", "still"] == 0.2
    assert value["drift_claim.widespread drift", "still"] == 1
    assert value["own_index_at_first", ""] == 0.07
    assert value["matched_cosine_beyond_random_directions", "second seed"] == pytest.approx(0.53)
    assert value["lost_senses", "time reversed"] == pytest.approx(0.5 - 0.25)
    features = table.set_index(["name", "control"])["features"]
    assert features["progress.concept.rise", "random directions"] == 17
    assert features["pattern_kappa.all", "second seed"] == 900
    assert features["lost_senses", "time reversed"] == 4


def test_an_analysis_without_controls_has_the_numbers_that_need_none() -> None:
    tables = tables_of_an_analysis()
    for name in ("end_labels", "pattern_shares", "pattern_agreement", "drift_beside_controls"):
        del tables[name]
    tables["matching"] = pd.DataFrame()
    found = headline_table(tables)
    assert {"own_index_at_first", "segments.concept: progress"} <= set(found["name"])


def test_over_replicates_the_interval_is_students() -> None:
    values = {"a": 0.1, "b": 0.2, "c": 0.3}
    headline = pd.concat(
        [
            headline_of_chain({"pattern.grouping": value}, lm=f"mini-{name}", chain=name)
            for name, value in values.items()
        ]
    )
    table = over_replicates(headline)
    assert table["over"].tolist() == ["all chains", "lm"]
    row = table.iloc[0]
    # t(.975, 2) = 4.3027, sd = .1: the half-width is 4.3027 * .1 / sqrt(3).
    assert (row["n"], row["mean"], row["interval"]) == (3, pytest.approx(0.2), "t")
    assert row["high"] - row["mean"] == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert (row["least"], row["most"]) == (0.1, 0.3)


def test_two_have_a_range_and_one_the_interval_over_features() -> None:
    one = headline_of_chain({"pattern.grouping": 0.1}, lm="mini", chain="a")
    other = headline_of_chain({"pattern.grouping": 0.3}, lm="mini", sae_seed=1, chain="b")
    (alone,) = over_replicates(one).to_dict("records")
    assert (alone["n"], alone["interval"]) == (1, "features")
    assert (alone["low"], alone["high"]) == (pytest.approx(0.09), pytest.approx(0.11))
    both = over_replicates(pd.concat([one, other])).set_index("over").loc["all chains"]
    assert (both["interval"], both["low"], both["high"]) == ("range", 0.1, 0.3)


def test_chains_over_one_lm_are_one_witness_of_lms() -> None:
    parts = [
        headline_of_chain({"x": value}, lm=lm, sae_seed=seed, chain=f"{lm}{seed}")
        for lm, seed, value in (("a", 0, 1.0), ("a", 1, 3.0), ("b", 0, 4.0), ("c", 0, np.nan))
    ]
    table = over_replicates(pd.concat(parts)).set_index("over")
    assert (table.loc["all chains", "n"], table.loc["all chains", "mean"]) == (
        3,
        pytest.approx(8 / 3),
    )
    assert (table.loc["lm", "n"], table.loc["lm", "mean"]) == (2, pytest.approx(3.0))
    # Seed 0: the mean of 1 and 4; seed 1: 3. Numbers without a value do not count.
    assert (table.loc["sae_seed", "low"], table.loc["sae_seed", "high"]) == (2.5, 3.0)


def test_the_figure_shows_every_number_and_its_control(tmp_path: Path) -> None:
    numbers = {"pattern.grouping": 0.1, "label.concept.rise": 0.07}
    headline = pd.concat(
        [headline_of_chain(numbers, lm=lm, chain=lm, control="still") for lm in ("a", "b", "c")]
    )
    over = over_replicates(headline)

    def draw(path: Path) -> None:
        replicates_figure(headline, over, Setting("replicates", "a; b; c"), path)

    svg = drawn_svg(draw, tmp_path / "figure")
    assert "grouping less still" in svg and "concept.rise less still" in svg


@pytest.fixture
def replicated() -> AnalyzeConfig:
    values: dict[str, Any] = {
        "track": NANO_TRACK,
        "replicates": [{**NANO_TRACK, "model": "other"}],
        "controls": {"second seed": {"role": "replicate", "track": {**NANO_TRACK, "seed": 1}}},
    }
    return load_analyze_config(values)


def test_a_replicate_has_the_same_controls_over_its_own_lm(replicated: AnalyzeConfig) -> None:
    (control,) = replicated.controls_over(replicated.replicates[0]).values()  # type: ignore[arg-type]
    assert (control.track.model, control.track.seed) == ("other", 1)
    assert control.track.schedule == replicated.controls["second seed"].track.schedule


def test_controls_of_a_replicate_have_its_hooks_and_other_seeds_than_it(
    replicated: AnalyzeConfig,
) -> None:
    replicate = TrackConfig.model_validate({**NANO_TRACK, "layers": [0], "seed": 2})
    (control,) = replicated.controls_over(replicate).values()
    assert (control.track.layers, control.track.seed) == ((0,), 3)
    by_name = replicated.model_copy(update={"track": None, "chain": "nano.L1"})
    (control,) = by_name.controls_over(replicate).values()
    assert control.track.seed == 1, "of what seed the chain is, its name alone does not say"


def test_replicates_are_no_part_of_what_is_read_at_a_checkpoint(replicated: AnalyzeConfig) -> None:
    alone = replicated.model_copy(update={"replicates": ()})
    assert alone.choices() == replicated.choices()


def test_replicates_and_chains_beside_are_two_analyses() -> None:
    with pytest.raises(UserError, match="replicates: must be left out beside beside="):
        load_analyze_config({"chain": "a.b", "beside": ["b.c"], "replicates": ["c.d"]})


def test_the_sweep_trains_every_chain_that_the_analysis_of_replicates_reads() -> None:
    from saetrack.cli.analyze import tracks_of

    tracks = load_sweep_config(load_preset("sweep", "mini-replicates"))
    wanted = tracks_of(load_analyze_config(load_preset("analyze", "mini-replicates")))
    seeds = [track for track in wanted if track.seed == 0]
    assert len(seeds) == 18 and all(track in tracks.tracks() for track in seeds)
    assert len(tracks.titled_tracks()) == len(tracks.tracks()) == 18, "titles tell them apart"
