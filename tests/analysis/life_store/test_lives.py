"""The life store of the nano chain: from an analysis, in the registry, read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from saetrack.analysis.explanations.config import explain_config
from saetrack.analysis.life_store.layout import GROUPS
from saetrack.analysis.life_store.reader import LifeStore
from saetrack.analysis.meaning.classes import LABELS
from saetrack.analysis.pipeline.analyze import (
    analyze_chains,
    checkpoints_to_read,
    finish_analysis,
)
from saetrack.analysis.pipeline.chain_analysis import chain_analyses
from saetrack.analysis.pipeline.chain_reader import ChainReader
from saetrack.analysis.pipeline.config import load_analyze_config
from saetrack.analysis.pipeline.direction_lives import NOTE
from saetrack.analysis.pipeline.explain import open_explaining
from saetrack.analysis.pipeline.registered_chain import RegisteredChain, registered_chains
from saetrack.chain.plan import plan_track, scheduled
from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.planted_analysis import QUESTIONS, STILL, without_umap
from tests.support.running import run

SECOND = {**NANO_TRACK, "seed": 1}
ASKED = {
    **QUESTIONS,
    "seed": 5,  # of its own: another file's analysis leaves nothing in the cache that is read here
    "controls": {
        "stands still": {"role": "noise", "track": STILL},
        "second seed": {"role": "replicate", "track": SECOND},
    },
}


@pytest.fixture(scope="module")
def registered(
    module_settings: Settings, source: CheckpointSource, corpus: Corpus
) -> RegisteredChain:
    registry = Registry(module_settings)
    asked = load_analyze_config(ASKED)
    assert asked.track is not None
    tracks = [asked.track, *(control.track for control in asked.controls.values())]
    for track in tracks:
        run(plan_track(track, source, scheduled(track, source), corpus), source, registry)
    (found,) = registered_chains(asked, module_settings)
    return found


@pytest.fixture(scope="module")
def analysed(registered: RegisteredChain, module_settings: Settings) -> LifeStore:
    """The store of an analysis that was broken off twice."""
    asked = load_analyze_config(ASKED)
    with pytest.MonkeyPatch.context() as monkeypatch:
        without_umap(monkeypatch)
        monkeypatch.setattr("saetrack.analysis.pipeline.analyze.draw", lambda inputs, folder: None)
        for _ in range(2):
            (analysis,) = chain_analyses(asked, module_settings)
            reading = checkpoints_to_read(analysis)
            next(reading).read()
            reading.close()
        (analysis,) = chain_analyses(asked, module_settings)
        for pending in checkpoints_to_read(analysis):
            pending.read()
        finish_analysis(analysis)
    folder = Registry(module_settings).reports.lives_folder(registered.chain.name)
    return LifeStore(folder)


def test_random_directions_have_a_store_of_their_own(
    analysed: LifeStore, registered: RegisteredChain, module_settings: Settings
) -> None:
    """And no chain: it is found by its own name alone."""
    reports = Registry(module_settings).reports
    folder = reports.direction_lives_folder(registered.chain.name)
    assert folder is not None and folder != analysed.folder
    store = LifeStore(folder)
    manifest, links = store.manifest, range(len(analysed.manifest.links))
    assert manifest.links == analysed.manifest.links and manifest.notes[-1] == NOTE
    directions = manifest.d_sae
    assert directions == load_analyze_config(ASKED).random_directions
    assert np.array_equal(store.tokens, analysed.tokens)
    assert store.vocabulary == analysed.vocabulary
    densities = np.stack([store.column(link, "feature_density") for link in links])
    live = analysed.column(links[-1], "feature_density")
    live = live[live >= load_analyze_config(ASKED).min_density]
    # The same at every link, though the LM is another one: between those of features, log-spaced.
    expected = np.geomspace(live.min(), min(live.max(), 0.25), directions)
    np.testing.assert_allclose(densities, np.tile(expected, (len(links), 1)), atol=0.02)
    for link in links:
        assert (store.column(link, "max_act") > 0).all()
        found = store.contexts(directions - 1, link)
        assert found[0]["act"] == max(context["act"] for context in found) > 0
    assert len(store.life(0)["links"]) == len(links)
    # The features' manifest counts the same labels, at each link.
    labels = [store.column(link, "label") for link in links]
    counts = [np.bincount(at, minlength=len(LABELS)).tolist() for at in labels]
    assert analysed.manifest.labels_of_directions == counts
    assert manifest.labels_of_directions is None
    with reports.of_chain(registered.chain.name) as (_, files):
        assert not list(files.glob("*lives*"))


def test_it_says_what_was_analysed(analysed: LifeStore, registered: RegisteredChain) -> None:
    manifest = analysed.manifest
    assert manifest.name == registered.chain.name and manifest.lm == "nano"
    assert [link.lm_step for link in manifest.links] == [0, 1, 4, 16]
    assert [link.version for link in manifest.links] == [1, 2, 3, 4]
    assert all(link.l0 is not None and link.l0 > 0 for link in manifest.links)
    assert (manifest.d_in, manifest.d_sae) == (32, 64)
    (note,) = manifest.notes
    assert note.startswith("Positions left out: 3.") and "<|endoftext|>" in note
    assert np.array_equal(analysed.tokens, registered.chain.corpus.rows("analysis"))
    assert "<|endoftext|>" in analysed.vocabulary


def test_curves_stand_beside_their_controls(
    analysed: LifeStore, registered: RegisteredChain, module_settings: Settings
) -> None:
    columns = {column.name: column for column in analysed.manifest.columns}
    drift = columns["cosine_to_final"].control
    assert drift is not None and drift.title == "stands still, 5 to 95 %"
    assert drift.high[-1] == 1 and drift.low[0] is not None and drift.low[0] < 1
    progress = columns["progress_activation"].control
    assert progress is not None and progress.title == "random directions, 5 to 95 %"
    density = columns["feature_density"].control
    assert density is not None and density.title == drift.title
    control = chain_analyses(load_analyze_config(ASKED), module_settings)[0].controls[
        "stands still"
    ]
    for number, link in enumerate(control.links):
        firing = control.decoder(link).feature_density.numpy()
        band = density.low[number], density.high[number]
        assert band == pytest.approx(np.quantile(firing[firing > 0], (0.05, 0.95)), rel=1e-4)
    assert density.low[len(control.links) :] == [None] * (4 - len(control.links))
    assert columns["max_act"].control is None
    assert columns["max_act"].description.endswith("There is no control.")
    rows = [registered.decoder(link).W_dec.double() for link in registered.links]
    for number, link in enumerate(rows):
        expected = torch.cosine_similarity(link, rows[-1], dim=1).numpy()
        found = analysed.column(number, "cosine_to_final")
        measured = ~np.isnan(found)
        assert measured.sum() > 30
        np.testing.assert_allclose(found[measured], expected[measured], atol=1e-5)


def test_each_link_holds_what_its_sae_does_on_the_text(
    analysed: LifeStore, registered: RegisteredChain
) -> None:
    """A feature's record against the dense activations of the checkpoint."""
    for number in (0, 1, 3):  # the first and the last one are read in another way
        opened = registered.open(registered.links[number])
        tokens = torch.from_numpy(np.asarray(analysed.tokens, np.int64))
        acts = opened.sae.encode(opened.lm.activations(tokens)[0].flatten(0, 1)).detach()
        kept = (tokens != registered.chain.corpus.bos_token_id).flatten()
        acts = (acts * kept[:, None]).numpy()
        density = analysed.column(number, "feature_density")
        np.testing.assert_allclose(density, (acts > 0).sum(0) / int(kept.sum()), atol=1e-3)
        np.testing.assert_allclose(
            analysed.column(number, "max_act"), acts.max(axis=0), rtol=1e-3, atol=1e-4
        )
        fires = analysed.column(number, "histogram").sum(axis=1)
        assert np.abs(fires.astype(int) - (acts > 0).sum(axis=0)).max() <= 1
        for feature in range(64):
            the_contexts_are_those_of(acts[:, feature], analysed.contexts(feature, number))


def the_contexts_are_those_of(acts: np.ndarray, contexts: list[dict]) -> None:
    for context in contexts:
        start = context["row"] * 32 + context["first"]
        window = acts[start : start + len(context["ids"])]
        assert np.abs(np.array(context["acts"]) - 255 * window / acts.max()).max() < 1.6
        own = acts[context["row"] * 32 + context["position"]]
        assert context["act"] == pytest.approx(own, rel=1e-3, abs=1e-4)
        assert (context["group"] == GROUPS.index("silent")) == (own == 0)


def test_labels_patterns_and_matches_are_those_of_the_tables(
    analysed: LifeStore, registered: RegisteredChain, module_settings: Settings
) -> None:
    (analysis,) = chain_analyses(load_analyze_config(ASKED), module_settings)
    reader = ChainReader(analysis)
    for number, link in enumerate(reader.links):
        labels = [LABELS[code] for code in analysed.column(number, "label")]
        assert labels == reader.result(link).labels["label"].tolist()
    (second,) = [match for match in analysed.manifest.matches if match.name == "second seed"]
    matching = next(found for found in reader.matchings if found.name == "second seed")
    pairs = matching.tables()["pairs"]
    pairs = pairs[pairs["by"] == "activations"].set_index("left")
    seen = 0
    for feature in range(64):
        found = [m for m in analysed.life(feature)["matches"] if m["chain"] == second.chain]
        if feature not in pairs.index:
            assert not found
            continue
        assert found[0]["feature"] == pairs.loc[feature, "right"]
        correlation = pairs.loc[feature, "score"]
        assert found[0]["activation_correlation"] == pytest.approx(correlation, rel=1e-4)
        assert found[0]["poor"] or correlation >= 0.7
        seen += 1
    assert seen > 20


def test_broken_off_or_not_the_store_has_the_same_bytes(
    analysed: LifeStore,
    registered: RegisteredChain,
    module_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_umap(monkeypatch)
    monkeypatch.setattr("saetrack.analysis.pipeline.analyze.draw", lambda inputs, folder: None)
    settings = module_settings.model_copy(update={"cache_dir": tmp_path / "cache"})
    (tmp_path / "cache").mkdir()
    for kept in module_settings.cache_dir.iterdir():
        if kept.name not in ("analyses", "matchings"):
            (tmp_path / "cache" / kept.name).symlink_to(kept)
    (analysis,) = chain_analyses(load_analyze_config(ASKED), settings)
    monkeypatch.setattr(type(analysis), "is_finished", lambda self: False)
    for pending in checkpoints_to_read(analysis):
        pending.read()
    finish_analysis(analysis)
    whole = Registry(settings).reports.lives_folder(registered.chain.name)
    assert whole != analysed.folder
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    assert len(files) > 4 * 20
    for file in files:
        assert (whole / file).read_bytes() == (analysed.folder / file).read_bytes(), file


def test_what_was_never_analysed_is_one_line(
    registered: RegisteredChain, module_settings: Settings
) -> None:
    with pytest.raises(UserError, match="chain='nobody': was not analysed yet"):
        Registry(module_settings).reports.lives_folder("nobody")


def test_several_chains_have_a_store_each(
    analysed: LifeStore, module_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_umap(monkeypatch)
    monkeypatch.setattr("saetrack.analysis.pipeline.analyze.draw", lambda inputs, folder: None)
    asked = load_analyze_config({**QUESTIONS, "track": SECOND, "controls": {}})
    analyze_chains(asked, module_settings)
    (second,) = registered_chains(asked, module_settings)
    store = LifeStore(Registry(module_settings).reports.lives_folder(second.chain.name))
    assert store.manifest.name == second.chain.name
    assert store.manifest.matches == [] and store.life(3)["matches"] == []


def test_what_features_promote_stands_beside_shuffled_features(
    analysed: LifeStore, registered: RegisteredChain
) -> None:
    columns = {column.name: column for column in analysed.manifest.columns}
    shuffled = columns["next_token_agreement"].control
    assert shuffled is not None
    assert shuffled.title == "next tokens of another feature, 5 to 95 %"
    assert shuffled.low[-1] is not None and shuffled.low[-1] < 0 < (shuffled.high[-1] or 0)
    overlap = analysed.column(3, "promoted_overlap")
    assert (overlap == 1).all(), "the last link with itself"
    assert np.nanmedian(analysed.column(0, "promoted_overlap")) < 1
    agreement = analysed.column(3, "next_token_agreement")
    assert np.isfinite(agreement).mean() > 0.5


def test_what_features_do_stands_beside_random_directions(
    analysed: LifeStore, module_settings: Settings
) -> None:
    (analysis,) = chain_analyses(load_analyze_config(ASKED), module_settings)
    reader = ChainReader(analysis)
    effects = reader.result(reader.links[-1]).effects
    assert effects is not None
    np.testing.assert_array_equal(analysed.column(3, "effect"), effects.effect)
    of_random = {column.name: column for column in analysed.manifest.columns}["effect_over_random"]
    assert of_random.control is not None and of_random.control.title.startswith("random directions")
    low, high = of_random.control.low[-1], of_random.control.high[-1]
    assert low is not None and high is not None and low < 1 < high


@pytest.mark.usefixtures("analysed")
def test_features_and_directions_are_explained(
    registered: RegisteredChain, module_settings: Settings
) -> None:
    asked = {"chain": registered.chain.name, "features": 16, "directions": 6, "rules": True}
    explaining = open_explaining(explain_config(asked), module_settings)
    assert len(explaining.paired) == 6 <= len(explaining.work.explaining)
    assert explaining.directions is not None
    said = explaining.run()
    assert "16 explanations. Whether they hold was not judged: " in said  # four links are too few
    (run_id,) = explaining.registry.reports.explanations.of_chain(registered.chain.name)
    with explaining.registry.reports.part(run_id, "tables") as tables:
        found = pd.read_parquet(tables / "direction_explanations.parquet")
        curves = pd.read_parquet(tables / "explanation_curves.parquet")
    # On a line no pairs are nearer than those in one order; the densities are those of the stores.
    logs = np.log(found[["density", "paired_density"]].to_numpy())
    in_order = np.sort(logs, axis=0)
    assert np.abs(np.diff(logs)).sum() == pytest.approx(np.abs(np.diff(in_order)).sum())
    assert found["direction"].is_unique
    for store, of, column in (
        (explaining.directions.store, "direction", "density"),
        (explaining.lives, "paired_feature", "paired_density"),
    ):
        densities = store.column(len(store.manifest.links) - 1, "feature_density")
        np.testing.assert_allclose(found[column], densities[found[of]], rtol=1e-6)
    assert curves.loc[curves["measure"] == "score", "directions"].between(1, 6).all()
