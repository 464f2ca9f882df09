"""Features of two registered chains matched: of two seeds, of two layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from saetrack.config import load_analyze_config
from saetrack.corpus import Corpus
from saetrack.identity import match_chains
from saetrack.lm.checkpoints import CheckpointSource
from saetrack.plan import plan_track
from saetrack.registry import Registry
from saetrack.settings import Settings
from saetrack.subject import Subject, subjects
from tests.nano import NANO_TRACK
from tests.running import run

LAYERS: dict[str, Any] = {**NANO_TRACK, "layers": [0, 1]}
SECOND_SEED: dict[str, Any] = {**NANO_TRACK, "seed": 1}


@pytest.fixture(scope="module")
def chains(module_settings: Settings, source: CheckpointSource, corpus: Corpus) -> list[Subject]:
    """Layer 0, layer 1, and layer 1 with another seed."""
    config = load_analyze_config({"track": LAYERS, "beside": [SECOND_SEED]})
    registry = Registry(module_settings)
    assert config.track is not None
    for one in (config.track, *config.beside):
        assert not isinstance(one, str)
        run(plan_track(one, source, corpus), source, registry)
    return subjects(config, module_settings)


def test_two_seeds_are_matched_by_direction_and_by_activation(chains: list[Subject]) -> None:
    _, left, right = chains
    found = match_chains(left, right, tokens=2_048, exclude_bos=True, seed=0)
    assert found is not None
    pairs, numbers = found
    assert set(pairs["by"]) == {"decoder", "activations", "random directions"}
    assert (pairs["lm_step"] == 16).all()
    by = pairs.groupby("by")["score"].median()
    assert by["decoder"] > by["random directions"]
    # Independently: the correlation of a pair, and its cosine, from all activations.
    saes = [one.pull(one.links[-1]).sae for one in (left, right)]
    rows = torch.from_numpy(left.chain.corpus.rows("analysis").astype(np.int64))
    x = left.lm(left.links[-1]).resid_pre(rows)[0][rows != left.chain.corpus.bos_token_id]
    acts = [sae.encode(x).detach() for sae in saes]
    best = pairs[pairs["by"] == "activations"].iloc[0]
    columns = [acts[0][:, best["left"]], acts[1][:, best["right"]]]
    assert best["score"] == pytest.approx(np.corrcoef(*columns)[0, 1], abs=1e-4)
    directions = saes[0].W_dec[best["left"]], saes[1].W_dec[best["right"]]
    cosine = torch.cosine_similarity(*directions, dim=0)
    assert best["decoder_cosine"] == pytest.approx(float(cosine), abs=1e-4)
    assert numbers.set_index("by").loc["activations", "tokens"] == len(x)


def test_layers_are_matched_by_activation_alone(chains: list[Subject]) -> None:
    found = match_chains(chains[0], chains[1], tokens=2_048, exclude_bos=True, seed=0)
    assert found is not None
    assert set(found[0]["by"]) == {"activations"}
    assert found[0]["decoder_cosine"].isna().all()


def test_a_chain_matches_itself(chains: list[Subject]) -> None:
    found = match_chains(chains[1], chains[1], tokens=2_048, exclude_bos=True, seed=0)
    assert found is not None
    own = found[0][found[0]["by"] == "decoder"]
    assert (own["left"] == own["right"]).all() and own["score"].min() > 0.999
    assert own["mutual_best"].all()


def test_chains_without_a_common_checkpoint_are_not_matched(chains: list[Subject]) -> None:
    from dataclasses import replace

    early = replace(chains[1], links=chains[1].links[:1])
    late = replace(chains[1], links=chains[1].links[1:])
    assert match_chains(early, late, tokens=2_048, exclude_bos=True, seed=0) is None
