"""The catalogue knows what was published, and takes a user's own entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformer_lens.tools.model_registry.checkpoints import (
    PYTHIA_CHECKPOINTS,
    STANFORD_CRFM_CHECKPOINTS,
)

from saetrack.analysis.pipeline.config import load_compare_config
from saetrack.chain.config import load_config
from saetrack.chain.planning import find_suitable_lm
from saetrack.lm.catalog.models import entries, find_model, spec_of
from saetrack.utils.errors import UserError
from tests.support.nano import NANO_TRACK

FINAL = [{"first": 0, "last": 0, "tokens": 1}]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file, empty yet."""
    path = tmp_path / "models.yaml"
    monkeypatch.setenv("SAETRACK_MODELS_FILE", str(path))
    return path


def track(model: str, **changes: Any) -> dict[str, Any]:
    return {**NANO_TRACK, "model": model, **changes}


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
        ("pythia-14m-seed9", "EleutherAI/pythia-14m-seed9", 153, "step143000"),
        ("stanford-gpt2-small-a", "stanford-crfm/alias-gpt2-small-x21", 10, "checkpoint-100"),
        ("stanford-gpt2-medium-a", "stanford-crfm/arwen-gpt2-medium-x21", 608, "checkpoint-400000"),
        ("amber", "LLM360/Amber", 7, "ckpt_007"),
        ("amber", "LLM360/Amber", 359, "main"),
        ("llama-3.2-1b", "meta-llama/Llama-3.2-1B", 0, "main"),
    ],
)
def test_revisions(model: str, repo: str, checkpoint_index: int, revision: str) -> None:
    spec = find_model(model)
    assert (spec.repo, spec.revision(checkpoint_index)) == (repo, revision)
    assert spec.places[checkpoint_index] == (repo, revision)


@pytest.mark.parametrize(
    ("model", "revision", "lm_step"),
    [
        ("olmo-1b", "step20000-tokens84B", 20_000),
        ("olmo-1b", "main", None),
        ("olmo-2-7b", "stage1-step150-tokens1B", 150),
        ("olmo-2-7b", "step150-tokens1B", 150),
        ("olmo-2-7b", "stage2-ingredient1-step11931-tokens50B", None),
        ("olmo-3-7b", "stage1-step1413814", 1_413_814),
        ("olmo-3-7b", "stage2-step47684", None),
        ("bloom-560m", "global_step1000", 1_000),
        ("smollm2-1.7b", "step-125000", 125_000),
        ("smollm3-3b", "stage2-step-3480000", 3_480_000),
        ("smollm3-3b", "lc-4k-to-32k-step-4000", None),
        ("k2", "ckpt_042", 42),
        ("redpajama-7b", "240b_tokens", 240),
        ("apertus-8b", "step2627139-tokens15T", 2_627_139),
        ("apertus-8b", "longctx-step1000", None),
    ],
)
def test_what_the_hub_lists_is_told_apart(model: str, revision: str, lm_step: int | None) -> None:
    entry = find_model(model).entry
    assert entry is not None
    assert entry.lm_step_of(revision) == lm_step


def test_a_repository_for_each_checkpoint() -> None:
    spec = find_model("tinyllama-1.1b")
    assert spec.lm_steps == tuple(sorted(set(spec.lm_steps)))
    assert spec.places[4] == ("TinyLlama/TinyLlama-1.1B-intermediate-step-955k-token-2T", "main")
    assert spec.places[-1][0] == spec.repo


def test_steps_ascend_and_facts_are_told() -> None:
    for spec in [spec_of(one) for entry in entries() for one in entry.each()]:
        assert list(spec.lm_steps) == sorted(set(spec.lm_steps)), spec.name
        assert spec.entry is not None
        assert spec.entry.documentation, spec.name
        assert spec.entry.licence != "unknown", spec.name
        assert (spec.entry.hook_layer or 0) < spec.n_layers


def test_an_unknown_name_is_answered_with_near_ones() -> None:
    with pytest.raises(UserError, match=r"model='pythia-410': .*pythia-410m"):
        find_model("pythia-410")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (
            track("llama-3.2-1b", residual="raw"),
            r"schedule: llama-3.2-1b has no public training checkpoints, .* conventional SAE; or",
        ),
        (
            track("llama-3.2-1b", schedule=FINAL),
            r"residual='centred': llama-3.2-1b has RMSNorm.*set residual=raw",
        ),
        (track("crystal"), "model='crystal': loads only with code of its repository"),
        (track("olmo-1b", layers=[16]), r"layers=\[16\]: olmo-1b has layers 0 to 15"),
        (
            track("olmo-1b", schedule=[{"first": 0, "last": None, "tokens": 1}]),
            "schedule: last=null: only the hub knows olmo-1b's last checkpoint",
        ),
    ],
)
def test_what_an_lm_does_not_allow_is_one_line(changed: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        find_suitable_lm(load_config(changed))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "residual"),
    [("opt-125m", "centred"), ("llama-3.1-8b", "raw"), ("gemma-2-2b", "raw"), ("qwen-3-8b", "raw")],
)
def test_final_weights_take_a_conventional_sae(model: str, residual: str) -> None:
    config = load_config(track(model, residual=residual, schedule=FINAL))
    assert config.direction == "conventional"


def test_a_comparison_does_not_need_the_hubs_list() -> None:
    compared = load_compare_config({"track": track("olmo-1b")})
    assert [c.schedule[0].first for c in compared.conventional()[::3]] == [0, 3, 5]


def test_three_lines_are_an_entry(own: Path) -> None:
    own.write_text("models:\n  - name: my-lm\n    repo: me/my-lm\n    revision: step{lm_step}\n")
    spec = find_model("my-lm")
    assert (spec.repo, spec.is_listed, spec.n_layers) == ("me/my-lm", False, 0)
    load_config(track("my-lm", layers=[99]))  # nothing is known of it yet
    assert find_model("pythia-70m").repo == "EleutherAI/pythia-70m"


def test_an_entry_may_tell_all_that_there_is(own: Path) -> None:
    own.write_text(
        "models:\n"
        "  - {name: named, repo: me/a, checkpoints: [{lm_step: 1, revision: early},"
        " {lm_step: 9, repo: me/b}]}\n"
        "  - {name: counted, repo: me/c, revision: 'it-{lm_step:04d}', main_lm_step: 30,"
        " lm_steps: [0, {first: 10, last: 20, stride: 5}]}\n"
    )
    assert find_model("named").places == (("me/a", "early"), ("me/b", "main"))
    counted = find_model("counted")
    assert counted.lm_steps == (0, 10, 15, 20, 30)
    assert [counted.revision(i) for i in (1, 4)] == ["it-0010", "main"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "cannot be read .No such file"),
        ("models: [", "is not YAML in line "),
        ("models: [{name: x, repo: me/x, revision: '{a}{lm_step}'}]", "must hold {lm_step} once"),
        ("- a", "must begin with `models:`"),
        ("models: [{name: x}]", r"models.0.repo: missing"),
        ("models: [{name: x, repo: me/x}]", r"models.0=.*give revision .*or main_lm_step"),
        ("models: [{name: x, repo: x, revision: a}]", r"models.0.repo='x': "),
        ("models: [{name: x, repo: me/x, revision: step}]", r"revision='step': must hold {lm_"),
        (
            "models: [{name: x, repo: me/x, revision: '{lm_step}*', lm_steps: [1]}]",
            "no wildcard where lm_steps are given",
        ),
        ("models: [{name: x, repo: me/x, main_lm_step: 1, colour: red}]", "colour='red': unknown"),
        (
            "models: [{name: x, repo: me/x, main_lm_step: 1, architecture: mlp}]",
            "architecture='mlp': must be one of apertus, bloom, .*config.json tells it",
        ),
        (
            "models: [{name: x, repo: me/x, revision: 's{lm_step}', lm_steps: [2, 1]}]",
            "must ascend, each once",
        ),
        ("models: [{name: mini, repo: me/x, main_lm_step: 1}]", "the name 'mini' is taken"),
        ("models: [{name: amber, repo: me/x, main_lm_step: 1}]", "the name 'amber' is taken"),
    ],
)
def test_a_bad_file_is_one_line(own: Path, text: str | None, line: str) -> None:
    if text is not None:
        own.write_text(text)
    with pytest.raises(UserError, match=f"^SAETRACK_MODELS_FILE={own}: .*{line}") as caught:
        find_model("x")
    assert "\n" not in str(caught.value)
