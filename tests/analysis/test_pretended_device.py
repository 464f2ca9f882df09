"""An analysis on a pretended GPU: what the CPU finds in the same registered chain."""

from __future__ import annotations

from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from saetrack.analysis.comparison.architectures import kept_table
from saetrack.analysis.pipeline.analyze import checkpoints_to_read
from saetrack.analysis.pipeline.chain_analysis import chain_analyses
from saetrack.analysis.pipeline.chain_reader import ChainReader
from saetrack.analysis.pipeline.checkpoint_result import CheckpointResult
from saetrack.analysis.pipeline.compare_architectures import followed_links
from saetrack.analysis.pipeline.config import load_analyze_config
from saetrack.analysis.pipeline.drift_tables import chain_drift
from saetrack.analysis.pipeline.match_chains import match_chains
from saetrack.analysis.pipeline.registered_chain import RegisteredChain, registered_chains
from saetrack.data.corpus import Corpus
from saetrack.lm import loading
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.sae.kernels import sparse
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.planted_analysis import QUESTIONS
from tests.support.pretended_device import OnGpu, pretended_gpu
from tests.support.running import plan, run

TRACK: dict[str, Any] = {
    **NANO_TRACK,
    "schedule": [{"first": 1, "last": 5, "stride": 2, "tokens": 2_048}],
    "evaluation": {"matched_l0": 8, "ce_tokens": 0, "eval_at_fractions": []},
}
QUESTION = load_analyze_config({**QUESTIONS, "track": TRACK, "controls": {}})
MATCHED = load_analyze_config({"chain": "any", "match_tokens": 1_024})


@pytest.fixture(autouse=True)
def _plain_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's plain operations on the CPU too: compiled kernels and fused attention round
    otherwise.
    """
    monkeypatch.setattr(sparse, "_compiled", lambda: None)
    monkeypatch.setattr(loading, "_has_own_scale", lambda _: True)


@pytest.fixture(scope="module")
def on_cpu(module_settings: Settings, source: CheckpointSource, corpus: Corpus) -> Settings:
    """Settings whose registry holds the chain."""
    run(plan(source, corpus, **TRACK), source, Registry(module_settings))
    return module_settings


def opened(settings: Settings, device: str) -> RegisteredChain:
    (found,) = registered_chains(QUESTION, settings.model_copy(update={"device": device}))
    return found


def read(settings: Settings, device: str, results: Path) -> list[CheckpointResult]:
    """All passes, their collectors, and what is made of them at each checkpoint."""
    (analysis,) = chain_analyses(QUESTION, settings.model_copy(update={"device": device}))
    analysis = replace(analysis, settings=settings.model_copy(update={"cache_dir": results}))
    for pending in checkpoints_to_read(analysis):
        pending.read()
    reader = ChainReader(analysis)
    return [reader.result(link) for link in reader.links]


def test_every_pass_finds_what_it_finds_on_the_cpu(on_cpu: Settings, tmp_path: Path) -> None:
    expected = read(on_cpu, "cpu", tmp_path / "cpu")
    with pretended_gpu():
        assert opened(on_cpu, "auto").device.type == "cuda"
        found = read(on_cpu, "auto", tmp_path / "gpu")
    assert len(found) == len(expected) == 3
    for there, here in zip(found, expected, strict=True):
        for name in CheckpointResult.TABLES:
            pd.testing.assert_frame_equal(getattr(there, name), getattr(here, name))
        for of_gpu, of_cpu in zip(astuple(there.contexts), astuple(here.contexts), strict=True):
            np.testing.assert_array_equal(of_gpu, of_cpu)
        assert torch.equal(there.sample, here.sample)
        assert torch.equal(there.sampled_features_x, here.sampled_features_x)
        np.testing.assert_equal(there.parameter_displacement, here.parameter_displacement)
    lives = sorted((tmp_path / "cpu").glob("analyses/*/life/*.npy"))
    assert len(lives) == 3 * 10
    lives += sorted((tmp_path / "cpu").glob("analyses/*/life_directions/*.npy"))
    assert len(lives) == 3 * (10 + 14)
    for path in lives:
        of_gpu = tmp_path / "gpu" / path.relative_to(tmp_path / "cpu")
        np.testing.assert_array_equal(np.load(of_gpu), np.load(path), err_msg=path.name)


def test_drift(on_cpu: Settings) -> None:
    expected = chain_drift(opened(on_cpu, "cpu"))
    with pretended_gpu():
        chain = opened(on_cpu, "cuda")
        assert isinstance(chain.decoder(chain.links[0]).W_dec, OnGpu)
        found = chain_drift(chain)
    np.testing.assert_equal(astuple(found), astuple(expected))


def test_matching(on_cpu: Settings) -> None:
    """A GPU correlates by other products than a CPU: to rounding."""
    chain = opened(on_cpu, "cpu")
    expected = match_chains(chain, chain, MATCHED)
    with pretended_gpu():
        chain = opened(on_cpu, "cuda")
        found = match_chains(chain, chain, MATCHED)
    assert found is not None and expected is not None
    for of_gpu, of_cpu in zip(found, expected, strict=True):
        pd.testing.assert_frame_equal(of_gpu, of_cpu, rtol=1e-6, atol=1e-9)


def test_what_features_keep(on_cpu: Settings) -> None:
    expected = kept_table(followed_links(opened(on_cpu, "cpu"), 1_024, "chain"), seed=0)
    with pretended_gpu():
        chain = opened(on_cpu, "cuda")
        found = kept_table(followed_links(chain, 1_024, "chain"), seed=0)
    pd.testing.assert_frame_equal(found, expected)
