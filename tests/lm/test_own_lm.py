"""From three lines in the user's file to a trained chain, offline, over an LM of another family."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from saetrack.chain.compatibility import require_compatible
from saetrack.chain.config import load_config
from saetrack.chain.plan import Track, plan_track, scheduled
from saetrack.data.corpus import Corpus
from saetrack.lm.catalog.models import find_model
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.open import open_source
from tests.support.hub_cache import put_in_hub_cache
from tests.support.memory_store import MemoryStore
from tests.support.nano import NANO_TRACK
from tests.support.running import run
from tests.support.tiny_lm import saved_files, tiny_llama

REPO = "me/llama"
ENTRIES = f"""
models:
  - name: my-llama
    repo: {REPO}
    revision: step{{lm_step}}
  - name: my-final-llama
    repo: {REPO}
    main_lm_step: 40
"""


@pytest.fixture
def nano(source: CheckpointSource) -> CheckpointSource:
    """The nano LM."""
    return source


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nano: CheckpointSource) -> Path:
    """A hub cache with checkpoints of a Llama that reads the nano LM's tokens; its place."""
    tokenizer, _ = nano.tokenizer()
    with tempfile.TemporaryDirectory() as name:
        tokenizer.save_pretrained(name)
        words = {path.name: path.read_bytes() for path in Path(name).iterdir()}
    for seed, revision in enumerate(["step0", "step30", "step4", "main"]):
        files = saved_files(tiny_llama(len(tokenizer), seed), "model.safetensors")
        put_in_hub_cache(
            tmp_path / "hub", REPO, revision, files | (words if revision == "main" else {})
        )
    (tmp_path / "models.yaml").write_text(ENTRIES)
    monkeypatch.setenv("SAETRACK_MODELS_FILE", str(tmp_path / "models.yaml"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def planned(place: Path, corpus: Corpus, **changes: Any) -> tuple[Track, CheckpointSource]:
    """The corpus is the nano LM's: the words are the same, and tokenising takes long."""
    config = load_config({**NANO_TRACK, "residual": "raw", **changes})
    source = open_source(find_model(config.model), place, limit_bytes=10**9)
    require_compatible(config, source.spec)
    return plan_track(config, source, scheduled(config, source), corpus), source


def test_a_chain_over_ones_own_lm(cached: Path, corpus: Corpus, nano: CheckpointSource) -> None:
    schedule = [{"first": 0, "last": 2, "tokens": 1_024}]
    track, source = planned(cached, corpus, model="my-llama", schedule=schedule)
    (chain,) = track.chains
    assert chain.name.startswith("my-llama.L1.forward.s0.")
    assert [link.checkpoint.revision for link in chain.links] == ["step0", "step4", "step30"]
    store = MemoryStore()
    assert run(track, source, store) == 3
    assert run(track, source, store) == 0
    tokenizer, tokenizer_id = source.tokenizer()
    assert tokenizer("def f").input_ids == nano.tokenizer()[0]("def f").input_ids
    assert tokenizer_id.startswith(f"{REPO}@")


def test_a_conventional_sae_of_final_weights(cached: Path, corpus: Corpus) -> None:
    schedule = [{"first": 0, "last": 0, "tokens": 1_024}]
    track, source = planned(cached, corpus, model="my-final-llama", schedule=schedule)
    (chain,) = track.chains
    assert chain.name.startswith("my-final-llama.L1.conventional-step40.s0.")
    assert chain.links[0].checkpoint.revision == "main"
    assert run(track, source, MemoryStore()) == 1
