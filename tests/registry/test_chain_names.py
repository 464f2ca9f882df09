"""Which chain a beginning of a name means, and what tells apart those that it may mean."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from saetrack.chain.config import load_config
from saetrack.chain.presets import load_preset
from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry, overview
from saetrack.registry.chain_names import find_chain
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.running import plan, run_jobs


def test_chains_are_found_by_the_beginning_of_their_names() -> None:
    names = ["mini.L1.forward", "mini.L2.forward", "mini.L2.forward.long", "nano"]
    assert find_chain(names, "n") == "nano"
    assert find_chain(names, "mini.L2.forward") == "mini.L2.forward", "a whole name is enough"
    with pytest.raises(UserError, match=r"chain='mini.L2': begins 2 names: mini.L2.forward, mini"):
        find_chain(names, "mini.L2")
    with pytest.raises(UserError, match=r"chain='zzz': .*saetrack chains lists"):
        find_chain(names, "zzz")


def test_of_several_the_chain_of_the_preset_is_meant(
    settings: Settings,
    source: CheckpointSource,
    corpus: Corpus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = Registry(settings)
    quick = {"evaluation": {"ce_tokens": 0}, "d_sae": 16}
    base = {**quick, "schedule": [{"first": 0, "last": 1, "tokens": 1_024}]}
    short = {**quick, "schedule": [{"first": 1, "last": 1, "tokens": 1_024}]}
    names = []
    for changes in (base, {**base, "seed": 1}, short, {**short, "sae": {"l1_coefficient": 2e-3}}):
        track = plan(source, corpus, **changes)
        run_jobs(track.jobs[:1], source, registry)
        names.append(track.chains[0].name)
    own, seeded, first, second = names
    with pytest.raises(UserError, match="begins 4 names") as caught:
        registry.find_chain("nano.L1")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="begins 2 names") as caught:
        registry.find_chain("nano.L1.conv")
    for name, value in ((first, 0.001), (second, 0.002)):
        told = f"{name} (sae.l1_coefficient={value})"
        assert told in str(caught.value), "what is alike is not told"
    with pytest.raises(UserError) as caught:
        registry.find_chain("nano")
    assert f"{own} (1 links, LM steps 0 to 0, " in str(caught.value)
    assert f"{first} (1 links, LM steps 1 to 1, " in str(caught.value)

    monkeypatch.setattr(overview, "preset_names", lambda kind: ["nano"])
    monkeypatch.setattr(overview, "load_preset", lambda kind, name: {**NANO_TRACK, **base})
    assert registry.find_chain("nano") == registry.find_chain("nano.L1") == own
    assert registry.pull("nano", version=1).cfg == registry.pull(own, version=1).cfg
    assert registry.find_chain("nano.L1.forward.s1") == seeded, "what needs no preset asks none"
    assert registry.find_chain(seeded) == seeded
    with pytest.raises(UserError, match="begins 2 names"):
        registry.find_chain("nano.L1.conv")


def test_chains_that_differ_in_their_text_or_lm_only_are_told_apart_by_it() -> None:
    def version(link: int, text: str, commit: str, day: int) -> SimpleNamespace:
        tags = {"link": str(link), "lm_step": str(8 * link), "corpus": text * 64, "lm": "my-lm"}
        when_ms = int(datetime(2026, 3, day, 9, 30, tzinfo=UTC).timestamp() * 1000)
        return SimpleNamespace(tags={**tags, "commit": commit * 40}, creation_timestamp=when_ms)

    def told(*chains: tuple[str, str, int]) -> list[str]:
        versions = {
            f"chain{n}": [version(1, text, "f", day + 1), version(0, text, commit, day)]
            for n, (text, commit, day) in enumerate(chains)
        }
        return list(overview.differences(versions, {}).values())  # type: ignore[arg-type]

    assert told(("a", "c", 1), ("b", "c", 2)) == [
        "text aaaaaaaa, first trained on 2026-03-01 09:30 UTC",
        "text bbbbbbbb, first trained on 2026-03-02 09:30 UTC",
    ]
    assert told(("a", "c", 1), ("a", "d", 2)) == ["LM's step 0 cccccccc", "LM's step 0 dddddddd"]


def test_of_a_presets_chains_the_one_over_its_layer_is_meant() -> None:
    names = [f"mini.L{layer}.forward.s0.0123abcd" for layer in (1, 2, 3)]
    layers = load_preset("track", "mini-layers")
    tracks = {name: load_config(layers).model_dump(mode="json") for name in names}
    assert overview.of_preset(names, tracks) == names[1]
    assert overview.of_preset([names[0], names[2]], tracks) is None
    assert overview.of_preset(names, {**tracks, names[1]: {**layers, "seed": 3}}) is None
    assert overview.of_preset(names, {}) is None, "of another release"
