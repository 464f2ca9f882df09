"""Headline numbers of an analysis, and their mean and interval over replicates."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from saetrack.analysis.figures.replicates import replicates_figure
from saetrack.analysis.pipeline.chain_analysis import require_different
from saetrack.analysis.pipeline.config import AnalyzeConfig, load_analyze_config
from saetrack.analysis.pipeline.control_chain import ControlChain
from saetrack.analysis.pipeline.replicates import write_replicates
from saetrack.analysis.results.claims import OF_VERDICTS
from saetrack.analysis.results.headline import COLUMNS, headline_table
from saetrack.analysis.results.pattern_shares import PatternsOf, pattern_shares
from saetrack.analysis.results.replicates import counted, over_replicates
from saetrack.chain.config import TrackConfig
from saetrack.chain.presets import load_preset
from saetrack.chain.sweep import load_sweep_config
from saetrack.utils.errors import UserError
from saetrack.utils.figures.steps import Setting
from saetrack.utils.intervals import share_interval
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
    # Wilson's ends are .518 and .677 of 86 of 144, .342 and .461 of 102 of 256 (Newcombe 1998).
    half = ((0.6 - 0.5156) ** 2 + (0.4611 - 0.4) ** 2) ** 0.5
    assert low["label.token.first", "random directions"] == pytest.approx(0.2 - half, abs=0.004)
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
    assert features["pattern.grouping", "still"] == 130
    assert value["concept_excess.final", "random directions"] == pytest.approx(12 / 400)
    assert low["concept_excess.final", "random directions"] == pytest.approx(5 / 400)


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


def test_values_that_lie_together_say_no_more_than_each_of_them() -> None:
    """Three equal values, each within .01 over its features: their mean is within .01 / sqrt(3)."""
    same = [
        headline_of_chain({"pattern.grouping": 0.1}, lm=f"m{n}", chain=f"{n}") for n in range(3)
    ]
    row = over_replicates(pd.concat(same)).iloc[0]
    assert (row["interval"], row["n"]) == ("features", 3)
    assert (row["low"], row["high"]) == pytest.approx((0.1 - 0.01 / 3**0.5, 0.1 + 0.01 / 3**0.5))


def test_verdicts_have_no_interval() -> None:
    drift = "drift_claim.widespread drift"
    parts = [
        headline_of_chain({drift: value}, lm=f"m{n}", chain=f"{n}", control="still")
        for n, value in enumerate([1.0, 1.0, 0.0])
    ]
    row = over_replicates(pd.concat(parts).assign(unit=OF_VERDICTS)).iloc[0]
    assert row["interval"] == "none" and np.isnan(row["low"])
    assert row["mean"] == pytest.approx(2 / 3)


def test_a_pattern_of_no_feature_has_an_interval() -> None:
    none_groups = pd.DataFrame({"pattern": ["rest"] * 64 + ["grouping"]})
    of_roles = {"chain": "chain", "still": "noise"}
    shares = pattern_shares(
        {name: PatternsOf(role, none_groups, np.arange(64)) for name, role in of_roles.items()}
        | {"other": PatternsOf("noise", none_groups, np.array([64]))}
    )
    tables = tables_of_an_analysis() | {"pattern_shares": shares}
    found = headline_table(tables).set_index(["name", "control"])
    # Wilson's upper end of 0 of 64 is z^2 / (64 + z^2) = .0566.
    assert found.loc[("pattern.grouping", ""), "high"] == pytest.approx(0.0566, abs=1e-4)
    assert found.loc[("pattern.grouping", "still"), "low"] == pytest.approx(-0.0566, abs=1e-4)


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


def test_what_rounding_leaves_of_nothing_is_nothing() -> None:
    parts = [headline_of_chain({"label.dead.first": 0.0}, lm=lm, chain=lm) for lm in "ab"]
    table = pd.concat(parts).assign(low=-6.13e-19, high=[0.03, 0.04])
    row = over_replicates(table).iloc[0]
    assert row["low"] == 0 and str(row["low"]) == "0.0" and row["high"] == pytest.approx(0.025)
    (alone,) = over_replicates(parts[0].assign(low=np.nan)).to_dict("records")
    assert np.isnan(alone["low"]) and np.isnan(alone["sd"]), "what is not known stays so"
    (low, _), (_, high) = share_interval(0.0, 45), share_interval(1.0, 45)
    assert (low, high) == (0, 1)


def test_the_page_says_in_words_what_was_joined_and_how_intervals_were_made(
    tmp_path: Path,
) -> None:
    values = {"b": 0.1, "a": 0.3}
    headline = pd.concat(
        [
            headline_of_chain({"pattern.grouping": value}, lm=lm, chain=lm)
            for lm, value in values.items()
        ]
    )
    assert counted(headline) == "2 chains, 2 LMs, 1 seed of SAEs, 1 hook"
    tables = {"headline": headline, "replicates": over_replicates(headline)}
    write_replicates(tables, Setting("replicates · b and 1 more", "b; a"), tmp_path)
    page = (tmp_path / "page.html").read_text()
    assert "Headline numbers over 2 chains, 2 LMs, 1 seed of SAEs, 1 hook." in page
    assert "Over all chains, a value for each chain (n)." in page
    assert "over features: 95 % of what other features of the same SAEs might have given" in page
    assert "<td>range</td>" in page and "sae_seed" not in page and "<td>t</td>" not in page


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


def track(**changes: Any) -> TrackConfig:
    return TrackConfig.model_validate({**NANO_TRACK, **changes})


def test_a_replicate_has_the_same_controls_over_its_own_lm(replicated: AnalyzeConfig) -> None:
    (control,) = replicated.controls_over(track(), track(model="other")).values()
    assert control.track == track(model="other", seed=1)


def test_controls_of_a_replicate_are_other_than_it_as_those_of_the_chain_are(
    replicated: AnalyzeConfig,
) -> None:
    replicate = track(layers=[0], d_sae=32, seed=2)
    (control,) = replicated.controls_over(track(), replicate).values()
    assert control.track == track(layers=[0], d_sae=32, seed=3)


def test_a_control_of_another_schedule_does_not_fit_a_replicate_of_another(
    replicated: AnalyzeConfig,
) -> None:
    still = track(schedule=[{"first": 0, "last": 0, "tokens": 2048, "repeat": 4}])
    controls = {"still": ControlChain(role="noise", track=still)}
    config = replicated.model_copy(update={"controls": controls})
    (control,) = config.controls_over(track(), track(d_sae=32)).values()
    assert (control.track.schedule, control.track.d_sae) == (still.schedule, 32)
    other = track(schedule=[{"first": 0, "last": 3, "tokens": 1024}])
    assert not config.controls_over(track(), other)


@pytest.mark.parametrize(
    ("piece", "role"),
    [
        ({"first": 0, "last": 0, "tokens": 2048, "repeat": 4}, "noise"),
        ({"first": 1, "last": 3, "tokens": 2048, "order_seed": 0}, "order"),
    ],
)
def test_what_cannot_show_the_same_is_no_replicate(piece: dict[str, int], role: str) -> None:
    schedule = [{"first": 0, "last": 0, "tokens": 4096}, piece]
    control = {"role": "replicate", "track": {**NANO_TRACK, "schedule": schedule}}
    values = {"track": NANO_TRACK, "controls": {"other": control}}
    with pytest.raises(UserError, match=f"controls.other.role='replicate': must be {role}, since"):
        load_analyze_config(values)
    load_analyze_config({**values, "controls": {"other": {**control, "role": role}}})
    load_analyze_config({**values, "track": control["track"]})  # two chains over a still LM


STILL = [{"first": 3, "last": 3, "tokens": 2048, "repeat": 4}]
JUMP = [
    {"first": 0, "last": 0, "tokens": 4096},
    {"first": 5, "last": 5, "tokens": 2048, "repeat": 3},
]
REVERSE = [{"first": 5, "last": 0, "tokens": 2048}]
NO_CONTROLS = [
    ("noise", {"seed": 1}, r"role='noise': must be replicate, .* follows .* stays at one"),
    ("noise", {"schedule": REVERSE}, "role='noise': must be replicate, since its chain follows"),
    ("noise", {"schedule": JUMP}, "role='noise': must be order, since its chain jumps"),
    ("replicate", {"schedule": STILL}, "role='replicate': must be noise, since its chain is over"),
    ("order", {"schedule": STILL}, "role='order': must be noise, since its chain is over an LM"),
    ("order", {"seed": 1}, "role='order': must be replicate, since its chain visits"),
    ("replicate", {"model": "other"}, "track.model='other': must be 'nano', .* under replicates"),
    ("noise", {"model": "other", "schedule": STILL}, "track.model='other': must be 'nano'"),
    ("order", {"layers": [0], "schedule": JUMP}, r"track: layers=\[0\]: must have a hook .*=\[1\]"),
    (
        "replicate",
        {"schedule": [{"first": 0, "last": 0, "tokens": 9}]},
        "track.schedule: makes one",
    ),
]


@pytest.mark.parametrize(("role", "changes", "told"), NO_CONTROLS)
def test_a_control_that_is_none_is_refused(role: str, changes: dict[str, Any], told: str) -> None:
    control = {"role": role, "track": {**NANO_TRACK, **changes}}
    with pytest.raises(UserError, match=f"^controls.mine.{told}") as refused:
        load_analyze_config({"track": NANO_TRACK, "controls": {"mine": control}})
    assert "\n" not in str(refused.value)
    # Of a chain that is named a config does not know the track: the registry does.
    named = load_analyze_config({"chain": "nano.L1", "controls": {"mine": control}})
    with pytest.raises(UserError, match=f"^controls.mine.{told}"):
        named.require_fitting_controls([track()])


def test_a_control_has_its_place_beside_one_of_several_chains() -> None:
    """Of two layers, or of a chain that is laid beside the first one."""
    controls = {
        "still": {"role": "noise", "track": {**NANO_TRACK, "schedule": STILL}},
        "back": {"role": "replicate", "track": {**NANO_TRACK, "schedule": REVERSE}},
        "jump": {"role": "order", "track": {**NANO_TRACK, "schedule": JUMP}},
        "backward order": {"role": "order", "track": {**NANO_TRACK, "schedule": REVERSE}},
    }
    for asked in (
        {"track": NANO_TRACK},
        {"track": {**NANO_TRACK, "layers": [0, 1]}},
        {"track": {**NANO_TRACK, "model": "other"}, "beside": [NANO_TRACK]},
        {"track": {**NANO_TRACK, "model": "other"}, "beside": ["nano.L1"]},
    ):
        assert len(load_analyze_config({**asked, "controls": controls}).controls) == 4


def of_lm(name: str, commit: str, lm: str) -> Any:
    checkpoint = SimpleNamespace(commit=commit, lm_step=9)
    return SimpleNamespace(name=name, lm_name=lm, links=[SimpleNamespace(checkpoint=checkpoint)])


def test_a_copy_of_an_lm_is_no_replicate() -> None:
    chains = [of_lm("a.L1", "aa", "a"), of_lm("a.L2", "aa", "a"), of_lm("b.L1", "bb", "b")]
    require_different(chains)  # two chains over one LM, and another LM
    with pytest.raises(UserError, match="a and c have the same weights at LM step 9"):
        require_different([*chains, of_lm("c.L1", "aa", "c")])
    with pytest.raises(UserError, match=r"b.L1 is named twice"):
        require_different([*chains, chains[-1]])


def test_replicates_are_no_part_of_what_is_read_at_a_checkpoint(replicated: AnalyzeConfig) -> None:
    alone = replicated.model_copy(update={"replicates": ()})
    assert alone.choices() == replicated.choices()


def test_replicates_and_chains_beside_are_two_analyses() -> None:
    with pytest.raises(UserError, match="replicates: must be left out beside beside="):
        load_analyze_config({"chain": "a.b", "beside": ["b.c"], "replicates": ["c.d"]})


def test_the_sweep_trains_every_chain_that_the_analysis_of_replicates_reads() -> None:
    from saetrack.cli.analyze import base_of, tracks_of

    tracks = load_sweep_config(load_preset("sweep", "mini-replicates"))
    config = load_analyze_config(load_preset("analyze", "mini-replicates"))
    wanted = tracks_of(config, base_of(config))
    seeds = [track for track in wanted if track.seed == 0]
    assert len(seeds) == 18 and all(track in tracks.tracks() for track in seeds)
    assert len(tracks.titled_tracks()) == len(tracks.tracks()) == 18, "titles tell them apart"
