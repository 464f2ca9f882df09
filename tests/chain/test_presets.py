"""Presets: the paper's values, the form of a user's own file, and what is said of a bad one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saetrack.analysis.pipeline.config import load_analyze_config, load_compare_config
from saetrack.chain.config import load_config
from saetrack.chain.presets import KINDS, Kind, load_preset, merge, parse_changes, preset_names
from saetrack.chain.sweep import load_sweep_config
from saetrack.utils.errors import UserError

LOADS: dict[str, Any] = {
    "track": load_config,
    "compare": load_compare_config,
    "analyze": load_analyze_config,
    "sweep": load_sweep_config,
}
PAPER = {
    # preset: (model, layer, d_sae, corpus, links, last checkpoint index)
    "pythia-160m": ("pythia-160m-deduped", 4, 49_152, "pile", 30, 153),
    "pythia-410m": ("pythia-410m-deduped", 4, 65_536, "pile", 29, 153),
    "pythia-1.4b": ("pythia-1.4b-deduped", 3, 131_072, "pile", 30, 153),
    "stanford-gpt2-small-a": ("stanford-gpt2-small-a", 5, 49_152, "openwebtext", 46, 608),
    "stanford-gpt2-medium-a": ("stanford-gpt2-medium-a", 6, 65_536, "openwebtext", 46, 608),
}


@pytest.mark.parametrize("preset", PAPER)
def test_presets_are_the_papers(preset: str) -> None:
    model, layer, d_sae, dataset, n_links, last = PAPER[preset]
    config = load_config(load_preset("track", preset))
    assert (config.model, config.layers, config.d_sae) == (model, (layer,), d_sae)
    assert config.corpus.dataset == dataset
    assert config.corpus.context_size == 128
    budgets = dict(config.budgets(range(1_000)))
    assert len(budgets) == n_links
    assert (min(budgets), max(budgets)) == (0, last)
    assert budgets[0] == 300_000_000
    assert {budgets[index] for index in range(1, 5)} == {5_000_000}
    assert {tokens for index, tokens in budgets.items() if index > 4} == {15_000_000}
    assert config.sae.l1_coefficient == 8e-5
    assert (config.first_link.learning_rate, config.first_link.warmup_steps) == (4e-4, 5000)
    assert (config.later_links.learning_rate, config.later_links.warmup_steps) == (4e-5, 3)
    is_large = preset == "pythia-1.4b"  # its memory, not the paper, decides
    assert (config.batch_tokens, config.buffer_tokens) == (4096, 131_072 if is_large else 524_288)


def test_the_main_chain_has_the_papers_steps_and_cost() -> None:
    config = load_config(load_preset("track", "pythia-410m"))
    expected = [*range(12), *range(13, 32, 2), *range(33, 154, 20)]
    assert [index for index, _ in config.budgets(range(1_000))] == expected
    assert sum(tokens for _, tokens in config.budgets(range(1_000))) == 680_000_000


def test_the_mini_preset_tracks_every_checkpoint() -> None:
    config = load_config(load_preset("track", "mini"))
    assert [index for index, _ in config.budgets(range(1_000))] == list(range(29))


@pytest.mark.parametrize("preset", ["mini", "pythia-410m"])
def test_reverse_presets_visit_the_same_checkpoints_backward(preset: str) -> None:
    forward = load_config(load_preset("track", preset))
    reverse = load_config(load_preset("track", f"{preset}-reverse"))
    assert (forward.direction, reverse.direction) == ("forward", "reverse")
    (ahead, back) = (config.budgets(range(1_000)) for config in (forward, reverse))
    assert [index for index, _ in back] == [index for index, _ in ahead][::-1]
    assert back[0][1] == ahead[0][1]


@pytest.mark.parametrize("preset", ["mini", "pythia-410m"])
def test_controls_of_order_have_as_many_links_over_the_same_ends(preset: str) -> None:
    forward, jump, permuted = (
        load_config(load_preset("track", name))
        for name in (preset, f"{preset}-jump", f"{preset}-permuted")
    )
    assert (jump.direction, permuted.direction) == ("jump", "permuted")
    ahead, jumped, mixed = (
        [index for index, _ in config.budgets(range(1_000))] for config in (forward, jump, permuted)
    )
    assert jumped == [ahead[0]] + [ahead[-1]] * (len(ahead) - 1)
    assert sorted(mixed) == ahead
    assert (mixed[0], mixed[-1]) == (ahead[0], ahead[-1])
    assert mixed[1:-1] != ahead[1:-1]


def every_preset() -> list[tuple[Kind, str]]:
    return [(kind, name) for kind in KINDS for name in preset_names(kind)]


@pytest.mark.parametrize(("kind", "name"), every_preset())
def test_every_preset_is_sound(kind: Kind, name: str) -> None:
    assert LOADS[kind](load_preset(kind, name))


def test_presets_share_what_they_extend() -> None:
    mini, layers = (load_preset("track", name) for name in ("mini", "mini-layers"))
    assert {**mini, "layers": [1, 2, 3]} == layers
    assert load_preset("analyze", "mini-layers")["track"] == layers
    controls = load_preset("analyze", "pythia-410m")["controls"]
    assert controls["second seed"]["role"] == "replicate"
    assert controls["second seed"]["track"] == load_preset("track", "pythia-410m-second-seed")
    compared = load_preset("compare", "mini")["track"]
    assert compared["evaluation"]["matched_l0"] == 8, "a group is merged"
    assert len(compared["evaluation"]["eval_at_fractions"]) == 5


def test_the_sweep_is_over_the_schedules_of_both_directions() -> None:
    tracks = load_sweep_config(load_preset("sweep", "mini")).tracks()
    both = [load_config(load_preset("track", name)) for name in ("mini", "mini-reverse")]
    assert [one.schedule for one in tracks[:2]] == [one.schedule for one in both]


def test_changes_are_merged_deeply() -> None:
    changes = parse_changes(["seed=1", "corpus.context_size=256", "layers=[1, 2]", "start=null"])
    values = load_preset("track", "mini", changes)
    assert (values["seed"], values["layers"], values["start"]) == (1, [1, 2], None)
    assert values["corpus"] == {**load_preset("track", "mini")["corpus"], "context_size": 256}
    assert load_preset("analyze", "mini", {"controls": {}})["controls"] == {}
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}


@pytest.mark.parametrize(
    "change",
    [
        ["sae={architecture: topk, k: 8}"],
        ["sae.architecture=topk", "sae.k=8"],
        ["sae.k=8", "sae.architecture=topk"],
    ],
)
@pytest.mark.parametrize("name", ["mini", "mine.yaml"])
def test_an_sae_of_another_kind_takes_the_place_of_the_one_before(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    change: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("extends: mini\nsae: {l1_coefficient: 0.5}\n")
    values = load_preset("track", name, parse_changes(change))
    assert values["sae"] == {"architecture": "topk", "k": 8}
    assert load_config(values).sae.architecture == "topk"
    told = [
        "mine.yaml: sae.architecture=topk takes the place of its sae: without l1_coefficient=0.5"
    ]
    assert caplog.messages == (told if name == "mine.yaml" else []), "what the user had set"


def test_a_file_of_another_kind_of_sae_extends_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("topk.yaml").write_text("extends: mini\nsae: {architecture: topk, k: 8}\n")
    assert load_preset("track", "topk.yaml")["sae"] == {"architecture": "topk", "k": 8}
    Path("more.yaml").write_text("extends: ./topk.yaml\nsae: {k: 9}\n")
    assert load_preset("track", "more.yaml")["sae"] == {"architecture": "topk", "k": 9}
    assert not caplog.messages
    batch = {"track": {"extends": "./topk.yaml", "sae": {"architecture": "batchtopk"}}}
    assert load_preset("compare", None, batch)["track"]["sae"] == {"architecture": "batchtopk"}
    assert "sae.architecture=batchtopk takes the place of its sae: without k=8" in caplog.text


def test_a_track_within_an_analysis_may_be_named() -> None:
    reverse = load_preset("track", "mini-reverse")
    assert load_preset("analyze", "mini", {"track": "mini-reverse"})["track"] == reverse
    deep = load_preset("analyze", "mini", parse_changes(["track.seed=3"]))
    assert deep["track"] == {**load_preset("track", "mini"), "seed": 3}
    named = load_preset("analyze", "mini", {"chain": "mini.L2.forward.s0.0123abcd"})
    assert "track" not in named, "a chain that is named is analysed in place of the preset's"


def test_a_file_of_ones_own_extends_a_preset_or_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: mini\nseed: 7\ncorpus: {context_size: 64}\n")
    (tmp_path / "other.yaml").write_text("extends: ./mine.yaml\nlayers: [1]\n")
    (tmp_path / "study.yaml").write_text("track: ./other.yaml\nbeside: [{extends: ./mine.yaml}]\n")
    other = load_preset("track", str(tmp_path / "other.yaml"))
    assert (other["seed"], other["layers"], other["model"]) == (7, [1], "mini")
    assert other["corpus"]["context_size"] == 64
    assert other["corpus"]["dataset"] == "mini"
    study = load_preset("analyze", str(tmp_path / "study.yaml"))
    assert study["track"] == other
    assert study["beside"] == [load_preset("track", str(tmp_path / "mine.yaml"))]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("extends: other.yaml", r"other.yaml'?: cannot be read \(No such file"),
        ("extends: gpt-9", "track='gpt-9': no such preset; there are mini, mini-"),
        ("extends: mine.yaml", "extends: .*mine.yaml extends .*mine.yaml: goes round in a circle"),
        ("extends: [mini]", r"extends=\['mini'\]: must be the name of a preset, or a file"),
        ("- seed", "must hold names and values, such as `model: mini`"),
        ("", "must hold names and values"),
        ("seed: [1", "mine.yaml, line 1: is not YAML"),
        ("1: 2", "must hold names and values"),
    ],
)
def test_a_file_that_is_no_preset_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=line) as caught:
        load_preset("track", str(tmp_path / "mine.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("../track/mini", "cannot be read"),
        ("nowhere.yaml", r"track='nowhere.yaml': cannot be read \(No such file"),
        ("_none", "no such preset"),
        ("", "track='': no such preset"),
    ],
)
def test_an_unknown_name_is_one_line(name: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        load_preset("track", name)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ("controls: {mine: {role: noise, track: nope}}", "controls.mine.track='nope': no such"),
        ("controls: {mine: {role: noise, track: no.yaml}}", "controls.mine.track='.*no.yaml': can"),
        ("controls: {mine: {track: {extends: nope}}}", "controls.mine.track='nope': no such"),
        ("replicates: [{extends: mini}, {extends: nope}]", "replicates.1='nope': no such preset"),
        ("track: nope", "track='nope': no such preset"),
    ],
)
def test_a_track_within_a_file_is_named_by_its_place(
    tmp_path: Path, values: str, line: str
) -> None:
    (tmp_path / "mine.yaml").write_text(f"extends: mini\n{values}\n")
    with pytest.raises(UserError, match=f"^{line}"):
        load_preset("analyze", str(tmp_path / "mine.yaml"))


@pytest.mark.parametrize("text", ["seed", "=1", "corpus.=1", "seed=[1", ".seed=1"])
def test_a_change_that_is_none_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match=r"--set .*: ") as caught:
        parse_changes([text])
    assert "\n" not in str(caught.value)
