"""CE-loss recovered against transformers' own model with a plain forward hook."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from saetrack.data.corpus import Corpus
from saetrack.data.exclusion import Excluded
from saetrack.lm import ce_loss
from saetrack.lm.ce_loss import CELoss, measure_ce_losses
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM
from saetrack.sae.model import SAE, new_sae

LAYER, CE_TOKENS = 1, 640
HOOK = Hook("resid_pre", LAYER)


@pytest.fixture(autouse=True)
def small_costs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 16 steps the nano LM has hardly begun to use its residual."""
    monkeypatch.setattr(ce_loss, "MIN_ABLATION_COST", 0.001)


@pytest.fixture(scope="module")
def folder(source: CheckpointSource) -> Path:
    (checkpoint,) = source.resolve([5])
    return source.fetch(checkpoint)


def prepared(folder: Path, corpus: Corpus, *, exclude_bos: bool, residual: Any) -> CELoss:
    lm = HookedLM(folder, [HOOK], whole=True, residual=residual)
    mean = torch.full((32,), 0.5)
    found = measure_ce_losses(lm, corpus, {HOOK: mean}, CE_TOKENS, exclude_bos=exclude_bos)
    return found[HOOK]


def some_sae() -> SAE:
    return new_sae(32, 64, torch.zeros(32), seed=1)


def plain_loss(folder: Path, tokens: Tensor, replace: Any) -> float:
    """All at once, with a hook on the block of transformers' own model."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()

    def hook(_: Any, args: Any, kwargs: Any) -> Any:
        return ((replace(args[0]), *args[1:]), kwargs)

    model.gpt_neox.layers[LAYER].register_forward_pre_hook(hook, with_kwargs=True)
    with torch.no_grad():
        logits = model(tokens).logits
    return float(cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()))


@pytest.mark.parametrize("residual", ["raw", "centred"])
@pytest.mark.parametrize("exclude", ["nothing", "BOS", "BOS and more"])
def test_losses_equal_those_of_a_hooked_model(
    folder: Path, corpus: Corpus, exclude: str, residual: str
) -> None:
    exclude_bos = exclude != "nothing"
    most_frequent = int(np.bincount(corpus.rows("held_out").ravel())[1:].argmax()) + 1
    if exclude == "BOS and more":
        corpus = dataclasses.replace(corpus, excluded=Excluded((most_frequent,), 2))
    sae = some_sae()
    tokens = torch.from_numpy(corpus.rows("held_out")[:20].astype("int64"))
    is_left_out = (tokens == corpus.bos_token_id)[..., None]
    if exclude == "BOS and more":
        is_left_out |= (tokens == most_frequent)[..., None]
        is_left_out[:, :2] = True

    def plain(replace: Any) -> float:
        def replaced(resid: Tensor) -> Tensor:
            mean = resid.mean(dim=-1, keepdim=True) if residual == "centred" else 0.0
            out = replace(resid - mean) + mean
            return torch.where(is_left_out, resid, out) if exclude_bos else out

        return plain_loss(folder, tokens, replaced)

    prepared_splicing = prepared(folder, corpus, exclude_bos=exclude_bos, residual=residual)
    found = prepared_splicing.metrics(sae)
    clean = plain(lambda x: x)
    zero = plain(torch.zeros_like)
    mean = plain(lambda x: torch.full_like(x, 0.5))
    spliced = plain(lambda x: sae.decode(sae.encode(x.flatten(0, 1))).view_as(x))
    assert found["ce_loss"] == pytest.approx(clean, rel=1e-5)
    assert found["ce_loss_zero"] == pytest.approx(zero, rel=1e-5)
    assert found["ce_loss_mean"] == pytest.approx(mean, rel=1e-5)
    assert found["ce_loss_spliced"] == pytest.approx(spliced, rel=1e-5)
    expected = (zero - spliced) / (zero - clean)
    assert found["ce_loss_recovered"] == pytest.approx(expected, abs=1e-4)
    assert found["nats_lost"] == pytest.approx(spliced - clean, abs=1e-5)
    assert found["ce_loss_uniform"] == pytest.approx(math.log(prepared_splicing.lm.vocabulary))


def test_a_perfect_sae_recovers_all_and_a_silent_one_nothing(folder: Path, corpus: Corpus) -> None:
    prepared_splicing = prepared(folder, corpus, exclude_bos=False, residual="centred")
    identity = SAE(32, 64)
    with torch.no_grad():
        identity.W_enc.copy_(torch.cat([torch.eye(32), -torch.eye(32)], dim=1))
        identity.W_dec.copy_(identity.W_enc.T)
    assert prepared_splicing.metrics(identity)["ce_loss_recovered"] == pytest.approx(1, abs=1e-4)
    assert prepared_splicing.metrics(SAE(32, 64))["ce_loss_recovered"] == pytest.approx(0, abs=1e-4)


def test_a_share_of_nothing_is_left_out(folder: Path, corpus: Corpus) -> None:
    prepared_splicing = prepared(folder, corpus, exclude_bos=False, residual="centred")
    ce_loss = prepared_splicing.ce_loss
    useless = CELoss(**{**vars(prepared_splicing), "ce_loss_zero": ce_loss + 0.0005})
    found = useless.metrics(some_sae())
    assert "ce_loss_recovered" not in found
    assert math.isfinite(found["ce_loss_spliced"])
