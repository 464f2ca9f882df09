"""A chain whose text, LM or folders are not what they were says which of them, and what to do."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from saetrack.analysis.pipeline.registered_chain import open_registered_chain
from saetrack.chain.config import load_config
from saetrack.chain.plan import Chain
from saetrack.registry import Registry
from saetrack.registry.changed import what_changed
from saetrack.registry.facts import link_facts
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK


def registered(chain: Chain) -> list[Any]:
    """The versions of a chain, as far as they are asked for."""
    return [
        SimpleNamespace(tags={key: str(value) for key, value in link_facts(chain, link).items()})
        for link in chain.links
    ]


def test_another_text_is_named(chain: Chain) -> None:
    now = replace(chain, corpus=replace(chain.corpus, sha256="f" * 64))
    line = what_changed(registered(chain), now)
    assert line.startswith("corpus.dataset='mini' is not the text that it was trained on")
    assert chain.corpus.sha256[:12] in line and "here ffffffffffff" in line


def test_a_checkpoint_that_is_gone_or_another_is_named(chain: Chain) -> None:
    last = chain.links[-1]
    fewer = replace(chain, links=chain.links[:-1])
    line = what_changed(registered(chain), fewer)
    assert f"has no checkpoint of step {last.checkpoint.lm_step} any more" in line
    other = replace(last, checkpoint=replace(last.checkpoint, commit="e" * 40))
    line = what_changed(registered(chain), replace(chain, links=[*chain.links[:-1], other]))
    assert f"its checkpoint of step {last.checkpoint.lm_step} has other weights" in line


def test_of_the_same_text_and_lm_it_is_the_release(chain: Chain) -> None:
    assert "this release would train another chain" in what_changed(registered(chain), chain)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("model", {"model": "./gone/my-lm"}),
        ("corpus.dataset", {"corpus": {**NANO_TRACK["corpus"], "dataset": "./gone/texts"}}),
    ],
)
def test_a_folder_that_was_moved_is_named_before_any_work(
    field: str,
    change: dict[str, Any],
    registry: Registry,
    module_settings: Settings,
    chain: Chain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved = load_config({**NANO_TRACK, **change})
    monkeypatch.setattr(Registry, "config_of", lambda *_: moved)
    with pytest.raises(UserError) as caught:
        open_registered_chain(registry, chain.name, module_settings)
    line = str(caught.value)
    assert line.startswith(f"chain='{chain.name}': {field}='./gone/") and "is not there" in line
    assert "saetrack analyze FILE" in line and "\n" not in line
