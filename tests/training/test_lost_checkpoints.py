"""A live folder that loses checkpoints before they are tracked: the chain goes on, and says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.training.loop import pending_checkpoints, train_missing
from saetrack.training.prepare import prepare, wait_until_grown
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano_folder import arrive, config, steps

pytestmark = pytest.mark.usefixtures("impatient")


def registered_warnings(settings: Settings, chain_name: str) -> list[str]:
    found = Registry(settings)._client.search_model_versions(f"name = '{chain_name}'")
    ordered = sorted(found, key=lambda version: int(version.tags["link"]))
    return [version.tags.get("warnings", "") for version in ordered]


def test_a_chain_goes_on_without_what_is_gone_and_says_so(
    live: Path, settings: Settings, source: CheckpointSource, caplog: pytest.LogCaptureFixture
) -> None:
    arrive(live, source, step_20=0, step_60=1, step_100=2)
    prepare(config(live), settings)  # sees all three
    shutil.rmtree(live / "step_60")
    n_trained, prepared = train_missing(config(live), settings)
    assert (n_trained, steps(prepared)) == (2, [20, 100])
    arrive(live, source, step_120=2)  # the weights of 100, saved again
    shutil.rmtree(live / "step_20")
    n_trained, prepared = train_missing(config(live), settings)
    assert (n_trained, steps(prepared)) == (1, [20, 100, 120])
    (chain,) = prepared.track.chains
    versions = Registry(settings).links(chain.name)
    assert list(versions["lm_step"]) == [20, 100, 120], "each once"
    gone = "folder/nano-live at step_60 (LM step 60) was deleted before it was tracked"
    same = "step_120 (LM step 120) holds the same weights as step_100 (LM step 100)"
    assert any(line.startswith(gone) for line in caplog.messages)
    assert any(same in line for line in caplog.messages)
    assert any(
        "between LM steps 20 and 60 checkpoints were deleted" in line for line in caplog.messages
    )
    first, second, third = registered_warnings(settings, chain.name)
    assert "deleted" not in first and gone in second and same in third, "the registry has them too"
    n_trained, other = train_missing(config(live, seed=2), settings)
    assert (n_trained, steps(other)) == (2, [100, 120]), "another chain takes what is left"
    assert train_missing(config(live), settings)[0] == 0


def test_a_chain_is_planned_over_the_checkpoints_that_there_are(
    live: Path, settings: Settings, source: CheckpointSource
) -> None:
    arrive(live, source, step_20=0, step_40=1)
    beyond = [{"first": 0, "last": 9, "tokens": 512}]
    for n_links in (2, 3):
        _, prepared = train_missing(config(live, schedule=beyond), settings)
        (row,) = Registry(settings).chains().to_dict("records")
        assert (row["registered"], row["planned"], len(steps(prepared))) == (n_links,) * 3
        if n_links == 2:
            arrive(live, source, step_60=2)


def test_one_that_goes_while_another_is_trained_on_is_left_out(
    live: Path, settings: Settings, source: CheckpointSource
) -> None:
    arrive(live, source, step_20=0, step_40=1, step_60=2)
    prepared = prepare(config(live), settings)
    trained = []
    for pending in pending_checkpoints(prepared.track, prepared.source, prepared.context):
        pending.train()
        trained.append(pending.job.checkpoint.lm_step)
        shutil.rmtree(live / "step_40")
    assert trained == [20]
    assert wait_until_grown(prepared)
    n_trained, prepared = train_missing(config(live), settings)
    assert (n_trained, steps(prepared)) == (1, [20, 60])
    assert not wait_until_grown(prepared)


def test_where_nothing_is_left_the_line_names_a_way_on(
    live: Path, settings: Settings, source: CheckpointSource
) -> None:
    arrive(live, source, step_20=0, step_60=1)
    prepare(config(live), settings)
    shutil.rmtree(live / "step_20")
    only = [{"first": 0, "last": 0, "tokens": 512}]
    with pytest.raises(UserError, match="names no other that is left") as caught:
        prepare(config(live, schedule=only), settings)
    assert "\n" not in str(caught.value)


def edit_config(checkpoint: Path, **changes: Any) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_checkpoints_of_two_shapes_are_one_line(
    live: Path, settings: Settings, source: CheckpointSource
) -> None:
    arrive(live, source, step_20=0, step_60=1)
    edit_config(live / "step_60", num_hidden_layers=4)
    prepare(config(live), settings)  # layer 1 is in both
    with pytest.raises(UserError, match="step_20 has 2 blocks of width 32, step_60 has 4") as e:
        prepare(config(live, layers=[3]), settings)
    assert "\n" not in str(e.value)
    edit_config(live / "step_60", hidden_size=64)
    with pytest.raises(UserError, match="step_60 has 4 of width 64"):
        prepare(config(live), settings)


def test_a_tokenizer_larger_than_the_embedding_is_refused_before_anything_is_read(
    live: Path, settings: Settings, source: CheckpointSource
) -> None:
    arrive(live, source, step_20=0)
    size = source.tokenizer()[0].vocab_size
    edit_config(live / "step_20", vocab_size=size - 12)
    with pytest.raises(UserError, match=f"has {size:,} tokens, and the embedding only") as e:
        prepare(config(live), settings)
    assert "\n" not in str(e.value)
