"""The catalogue knows every checkpoint that was published."""

from __future__ import annotations

import pytest
from transformer_lens.tools.model_registry.checkpoints import (
    PYTHIA_CHECKPOINTS,
    STANFORD_CRFM_CHECKPOINTS,
)

from saetrack.catalog import MODELS, find_model
from saetrack.errors import UserError


def test_steps_are_those_of_transformer_lens() -> None:
    assert list(find_model("pythia-410m-deduped").lm_steps) == PYTHIA_CHECKPOINTS
    assert list(find_model("stanford-gpt2-small-a").lm_steps) == STANFORD_CRFM_CHECKPOINTS
    assert len(PYTHIA_CHECKPOINTS) == 154
    assert len(STANFORD_CRFM_CHECKPOINTS) == 609


@pytest.mark.parametrize(
    ("model", "repo", "checkpoint_index", "revision"),
    [
        ("pythia-410m-deduped", "EleutherAI/pythia-410m-deduped", 0, "step0"),
        ("pythia-160m-deduped", "EleutherAI/pythia-160m-deduped", 11, "step1000"),
        ("pythia-1.4b-deduped", "EleutherAI/pythia-1.4b-deduped", 153, "step143000"),
        ("stanford-gpt2-small-a", "stanford-crfm/alias-gpt2-small-x21", 10, "checkpoint-100"),
        ("stanford-gpt2-medium-a", "stanford-crfm/arwen-gpt2-medium-x21", 608, "checkpoint-400000"),
    ],
)
def test_revisions(model: str, repo: str, checkpoint_index: int, revision: str) -> None:
    spec = find_model(model)
    assert (spec.repo, spec.revision(checkpoint_index)) == (repo, revision)


def test_steps_ascend() -> None:
    for spec in MODELS.values():
        assert list(spec.lm_steps) == sorted(set(spec.lm_steps)), spec.name


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(UserError, match=r"model='pythia-410': .*pythia-410m"):
        find_model("pythia-410")
