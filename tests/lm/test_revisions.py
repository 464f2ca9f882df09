"""Lists of checkpoints that only the hub can give: asked for once, and then as they were."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from huggingface_hub import constants

from saetrack.chain.compatibility import require_compatible
from saetrack.chain.config import load_config
from saetrack.lm.catalog.models import find_model
from saetrack.lm.checkpoints.hub_source import HubSource
from saetrack.lm.checkpoints.on_disk import checkpoints_on_disk
from saetrack.lm.checkpoints.revisions import known_by_now, listed
from saetrack.lm.open import open_source
from saetrack.utils.errors import UserError
from tests.support.faulty_hub import Fault, FaultyHub
from tests.support.hub_cache import put_in_hub_cache
from tests.support.nano import NANO_TRACK

REPO, WORDS = "me/lm", "me/words"
LLAMA = {
    "model_type": "llama",
    "num_hidden_layers": 3,
    "hidden_size": 16,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}


def checkpoint(number: int) -> dict[str, bytes]:
    weights = bytes([number]) * 200
    return {"config.json": json.dumps(LLAMA).encode(), "model.safetensors": weights}


@pytest.fixture
def server(running: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FaultyHub:
    """The hub with some revisions of an LM that the user's file names."""
    running.reset()
    for name in ("step16-b", "step2-b", "step2-a", "step128-b", "steps", "instruct-step4-b"):
        running.add(REPO, name, checkpoint(len(name)))
    running.add(WORDS, "main", {"tokenizer.json": b"{}"})
    own = tmp_path / "models.yaml"
    own.write_text(
        "models:\n"
        f"  - {{name: own, repo: {REPO}, revision: 'step{{lm_step}}-?', tokenizer: {WORDS}}}\n"
        f"  - {{name: two, repo: {REPO}, checkpoints: [{{lm_step: 1, revision: steps}},"
        f" {{lm_step: 2, repo: me/other}}], tokenizer: {WORDS}}}\n"
    )
    monkeypatch.setenv("SAETRACK_MODELS_FILE", str(own))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return running


def open_own(cache_dir: Path, name: str = "own") -> HubSource:
    source = open_source(find_model(name), cache_dir, limit_bytes=10**9)
    assert isinstance(source, HubSource)
    return source


def names(source: HubSource) -> list[str]:
    return [source.spec.revision(index) for index in range(len(source.spec.lm_steps))]


def test_the_hub_lists_by_step_and_is_asked_once(server: FaultyHub, tmp_path: Path) -> None:
    assert not find_model("own").is_listed
    source = open_own(tmp_path)
    assert source.spec.lm_steps == (2, 16, 128)
    assert names(source) == ["step2-a", "step16-b", "step128-b"]
    (last,) = source.resolve([2])
    assert last.commit == server.repos[REPO]["step128-b"].commit
    assert (last.repo, last.lm_step, last.revision) == (REPO, 128, "step128-b")
    server.asked.clear()
    assert names(open_own(tmp_path)) == names(source)
    assert not server.asked
    assert known_by_now(find_model("own"), tmp_path) == listed(find_model("own"), tmp_path)


def test_shape_and_norm_come_from_the_config(server: FaultyHub, tmp_path: Path) -> None:
    spec = open_own(tmp_path).spec
    assert (spec.n_layers, spec.d_model, spec.max_context, spec.norm) == (3, 16, 64, "rms")
    schedule = [{"first": 0, "last": 2, "tokens": 1}]
    config = load_config({**NANO_TRACK, "model": "own", "schedule": schedule})
    with pytest.raises(UserError, match="residual='centred': own has RMSNorm"):
        require_compatible(config, spec)
    raw = {"residual": "raw"}
    require_compatible(config.model_copy(update=raw), spec)
    with pytest.raises(UserError, match=r"layers=\[3\]: own has layers 0 to 2"):
        require_compatible(config.model_copy(update={**raw, "layers": (3,)}), spec)
    longer = load_config(
        {**NANO_TRACK, **raw, "model": "own", "schedule": [{**schedule[0], "last": 3}]}
    )
    with pytest.raises(
        UserError, match=r"no checkpoint 3; it has indices 0 to 2.* .`saetrack families own` asks"
    ):
        require_compatible(longer, spec)


def test_an_index_never_changes_its_meaning(
    server: FaultyHub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = names(open_own(tmp_path))
    server.add(REPO, "step256-b", checkpoint(1))
    server.add(REPO, "step64-b", checkpoint(2))
    del server.repos[REPO]["step16-b"]
    assert names(open_own(tmp_path)) == before, "not before it is asked for"
    spec = listed(find_model("own"), tmp_path, renew=True)
    assert [revision for _, revision in spec.places] == [*before, "step256-b"]
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "1 revisions that came between listed ones are left out, such as step64-b" in warning
    assert names(open_own(tmp_path)) == [*before, "step256-b"]


def test_offline_the_cache_is_the_list(
    server: FaultyHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"not known here, offline mode is on .* holds none"
    ) as told:
        open_own(tmp_path)
    assert "\n" not in str(told.value)
    for number in (8, 4):
        put_in_hub_cache(tmp_path / "hub", REPO, f"step{number}-b", checkpoint(number))
    put_in_hub_cache(tmp_path / "hub", REPO, "step2-b", {"README.md": b"no weights"})
    put_in_hub_cache(tmp_path / "hub", WORDS, "main", {"tokenizer.json": b"{}"})
    assert names(open_own(tmp_path)) == ["step4-b", "step8-b"]
    assert "offline, so its 2 cached checkpoints count as all" in caplog.text
    assert checkpoints_on_disk(find_model("own"), tmp_path) == 2


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.GARBAGE])
def test_a_hub_that_does_not_answer_is_one_line_and_no_list(
    server: FaultyHub, tmp_path: Path, fault: Fault
) -> None:
    put_in_hub_cache(tmp_path / "hub", REPO, "step4-b", checkpoint(4))
    server.fail("refs", fault)
    with pytest.raises(
        UserError, match="the hub cannot be asked for the revisions of me/lm"
    ) as told:
        open_own(tmp_path)
    assert "\n" not in str(told.value)
    server.faults.clear()
    assert names(open_own(tmp_path))[0] == "step2-a"


def test_a_repository_without_such_revisions_is_one_line(server: FaultyHub, tmp_path: Path) -> None:
    del server.repos[REPO]
    server.add(REPO, "main", {})
    with pytest.raises(
        UserError, match=r"me/lm has no revision named step\{lm_step\}-\? on the hub"
    ):
        open_own(tmp_path)


def test_a_list_that_is_none_is_one_line(server: FaultyHub, tmp_path: Path) -> None:
    open_own(tmp_path)
    (path,) = (tmp_path / "revisions").iterdir()
    path.write_text("[")
    with pytest.raises(UserError, match="is no list of revisions; delete it"):
        open_own(tmp_path)


def test_checkpoints_and_tokenizer_may_lie_in_several_repositories(
    server: FaultyHub, tmp_path: Path
) -> None:
    commit = server.add("me/other", "main", checkpoint(9))
    source = open_own(tmp_path, "two")
    early, late = source.resolve([0, 1])
    assert (early.repo, early.revision) == (REPO, "steps")
    assert (late.repo, late.revision, late.commit) == ("me/other", "main", commit)
    assert (source.fetch(late) / "model.safetensors").read_bytes() == bytes([9]) * 200
    assert checkpoints_on_disk(find_model("two"), tmp_path) == 1
    source.fetch(early)
    assert checkpoints_on_disk(find_model("two"), tmp_path) == 2
