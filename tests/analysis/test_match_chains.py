"""Several registered chains: their features matched, their analyses side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from saetrack.analysis.pipeline.analyze import analyze_chains
from saetrack.analysis.pipeline.config import load_analyze_config
from saetrack.analysis.pipeline.match_chains import match_chains, shared_links
from saetrack.analysis.pipeline.registered_chain import RegisteredChain, registered_chains
from saetrack.chain.plan import plan_track, scheduled
from saetrack.data.corpus import Corpus
from saetrack.data.exclusion import Excluded
from saetrack.lm.catalog.models import Checkpoint
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.planted_analysis import QUESTIONS, without_umap
from tests.support.running import run

LAYERS: dict[str, Any] = {**NANO_TRACK, "layers": [0, 1]}
SECOND_SEED: dict[str, Any] = {**NANO_TRACK, "seed": 1}
MATCHED = load_analyze_config({"chain": "any", "match_tokens": 2_048})


@pytest.fixture(scope="module")
def chains(
    module_settings: Settings, source: CheckpointSource, corpus: Corpus
) -> list[RegisteredChain]:
    """Layer 0, layer 1, and layer 1 with another seed."""
    config = load_analyze_config({"track": LAYERS, "beside": [SECOND_SEED]})
    registry = Registry(module_settings)
    assert config.track is not None
    for one in (config.track, *config.beside):
        assert not isinstance(one, str)
        run(plan_track(one, source, scheduled(one, source), corpus), source, registry)
    return registered_chains(config, module_settings)


def test_a_chain_whose_lm_stands_still_is_matched_by_its_last_link_at_that_step() -> None:
    first, last = (
        Checkpoint(index, step, "lm", f"step{step}", "c") for index, step in ((0, 0), (1, 8))
    )
    steps = [SimpleNamespace(checkpoint=at) for at in (first, last)]
    moving: Any = SimpleNamespace(standing=None, links=steps)
    for at, of in ((first, steps[0]), (last, steps[1])):
        # As `registered_chains` gives them: with the links' numbers in place of LM steps.
        numbered = [replace(at, lm_step=n, checkpoint_index=n) for n in range(3)]
        links = [SimpleNamespace(checkpoint=one) for one in numbered]
        still: Any = SimpleNamespace(standing=at, links=links)
        assert shared_links(still, moving) == (links[-1], of)
        assert shared_links(moving, still) == (of, links[-1])
    elsewhere: Any = SimpleNamespace(standing=replace(first, repo="another"), links=links)
    assert shared_links(moving, elsewhere) is None


def test_chains_are_laid_side_by_side(
    chains: list[RegisteredChain],
    module_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    without_umap(monkeypatch)
    monkeypatch.setattr("saetrack.analysis.pipeline.analyze.draw", lambda inputs, folder: None)
    questions = {**QUESTIONS, "track": LAYERS, "beside": [SECOND_SEED], "seed": 1}
    config = load_analyze_config(questions)
    *_, line = analyze_chains(config, module_settings)
    names = ["nano L0", chains[1].chain.name, chains[2].chain.name]
    assert line.startswith(f"side by side · {', '.join(names)}")
    client = MlflowClient(tracking_uri=module_settings.tracking_uri)
    experiment = client.get_experiment_by_name("nano")
    (logged,) = client.search_runs([experiment.experiment_id], "tags.kind = 'side by side'")
    folder = Path(client.download_artifacts(logged.info.run_id, "", str(tmp_path)))
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert figures == {"meanings", "progress", "drift", "collapse", "matched_features"}
    summary = pd.read_parquet(folder / "tables" / "summary.parquet")
    assert "nano L0 and" in (folder / "page.html").read_text()
    assert list(summary["chain"]) == names
    pairs = pd.read_parquet(folder / "tables" / "pairs.parquet")
    by = pairs.groupby("other")["by"].agg(set)
    assert by[f"{names[0]} and {names[1]}"] == {"activations", "shuffled tokens"}
    assert "decoder" in by[f"{names[1]} and {names[2]}"]
    assert "was made before" in analyze_chains(config, module_settings)[-1]


def test_two_seeds_are_matched_by_direction_and_by_activation(
    chains: list[RegisteredChain],
) -> None:
    _, left, right = chains
    found = match_chains(left, right, MATCHED)
    assert found is not None
    pairs, numbers = found
    chance = {"random directions", "shuffled tokens"}
    assert set(pairs["by"]) == {"decoder", "activations", *chance}
    assert (pairs["lm_step"] == 16).all()
    by = pairs.groupby("by")["score"].median()
    assert by["decoder"] > by["random directions"]
    assert by["activations"] > by["shuffled tokens"] > -0.1
    # Independently: the correlation of a pair, and its cosine, from all activations.
    saes = [one.pull(one.links[-1]).sae for one in (left, right)]
    rows = torch.from_numpy(left.chain.corpus.rows("analysis").astype(np.int64))
    x = left.lm(left.links[-1]).activations(rows)[0][rows != left.chain.corpus.bos_token_id]
    acts = [sae.encode(x).detach() for sae in saes]
    best = pairs[pairs["by"] == "activations"].iloc[0]
    columns = [acts[0][:, best["left"]], acts[1][:, best["right"]]]
    assert best["score"] == pytest.approx(np.corrcoef(*columns)[0, 1], abs=1e-4)
    directions = [
        sae.W_dec[best[side]].detach() for sae, side in zip(saes, ("left", "right"), strict=True)
    ]
    cosine = torch.cosine_similarity(*directions, dim=0)
    assert best["decoder_cosine"] == pytest.approx(float(cosine), abs=1e-4)
    assert numbers.set_index("by").loc["activations", "tokens"] == len(x)


def test_positions_that_either_chain_leaves_out_are_not_matched_on(
    chains: list[RegisteredChain],
) -> None:
    _, left, right = chains
    corpus = right.chain.corpus
    without = replace(corpus, excluded=Excluded((7,), first_positions=3))
    right = replace(right, chain=replace(right.chain, corpus=without))
    rows = corpus.rows("analysis")[:, 3:]
    kept = int((~np.isin(rows, [7, corpus.bos_token_id])).sum())
    assert kept < rows.size
    for sides in ((left, right), (right, left)):
        found = match_chains(*sides, MATCHED)
        assert found is not None
        assert found[1].set_index("by").loc["activations", "tokens"] == kept


def test_layers_are_matched_by_activation_alone(chains: list[RegisteredChain]) -> None:
    found = match_chains(chains[0], chains[1], MATCHED)
    assert found is not None
    assert set(found[0]["by"]) == {"activations", "shuffled tokens"}
    assert found[0]["decoder_cosine"].isna().all()


def test_a_chain_matches_itself(chains: list[RegisteredChain]) -> None:
    found = match_chains(chains[1], chains[1], MATCHED)
    assert found is not None
    own = found[0][found[0]["by"] == "decoder"]
    assert (own["left"] == own["right"]).all() and own["score"].min() > 0.999
    assert own["mutual_best"].all()


def test_chains_without_a_common_checkpoint_are_not_matched(chains: list[RegisteredChain]) -> None:
    early = replace(chains[1], links=chains[1].links[:1])
    late = replace(chains[1], links=chains[1].links[1:])
    assert match_chains(early, late, MATCHED) is None
