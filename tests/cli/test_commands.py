"""The command line over a real registry: what it shows, takes out and brings in."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
import typer
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from saetrack.analysis.pipeline.config import AnalyzeConfig
from saetrack.chain.config import load_config
from saetrack.chain.plan import Chain, Track
from saetrack.cli import main as command_line
from saetrack.cli.terminal import say_json
from saetrack.data.corpus import Corpus
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.registry.formats.export import export_chain
from saetrack.registry.formats.saelens import SPARSITY_FILE, read_saelens
from saetrack.sae.files import CONFIG_FILE, WEIGHTS_FILE
from saetrack.training.chain_page import update_chain_page
from saetrack.training.prepare import prepare
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.running import plan, run, run_jobs, set_environment

Says = Callable[..., Result]


@pytest.fixture
def environment(module_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    set_environment(module_settings, monkeypatch)
    return tmp_path


@pytest.fixture
def says(registry: Registry, environment: Path) -> Says:
    """What a command prints."""

    def run_command(*words: str) -> Result:
        return CliRunner().invoke(command_line.app, words, catch_exceptions=False)

    return run_command


@pytest.mark.parametrize("command", ["track", "analyze", "chains", "show", "export", "import"])
def test_help_teaches(command: str) -> None:
    overview = CliRunner().invoke(command_line.app, ["--help"])
    assert overview.exit_code == 0
    assert command in overview.output
    page = CliRunner().invoke(command_line.app, [command, "--help"])
    assert page.exit_code == 0
    assert len(page.output.splitlines()) > 8


def test_chains_are_listed(says: Says, chain: Chain) -> None:
    (line,) = [row for row in says("chains").output.splitlines() if chain.name in row]
    words = line.split()
    # Links, of how many, with how many warnings, up to which LM step.
    assert words[:9] == [chain.name, "nano", "resid_pre.1", "forward", "0", "4", "4", "0", "16"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configs of the analyses that are asked for; none is made."""
    configs: list[Any] = []

    def analyse(config: AnalyzeConfig, _: Settings) -> SimpleNamespace:
        configs.append(config)
        return SimpleNamespace(run=list, runs=list)

    monkeypatch.setattr("saetrack.analysis.pipeline.analyze.open_analyses", analyse)
    return configs


def test_a_chain_is_analysed_by_its_name(says: Says, chain: Chain, asked: list[Any]) -> None:
    assert says("analyze", "nano.L1", "--set", "contexts=7").exit_code == 0
    (config,) = asked
    assert (config.chain, config.track, config.contexts) == ("nano.L1", None, 7)
    # Without a dot: a preset first, then the beginning of a chain's name.
    assert says("analyze", "nano", "nano", "mini").exit_code == 0
    assert (asked[1].chain, asked[1].replicates[0]) == (chain.name, chain.name)
    assert asked[1].replicates[1].model == "mini"
    assert says("analyze", "mini").exit_code == 0 and asked[2].track.model == "mini"
    with pytest.raises(
        UserError, match=f"analyze='nono': .*presets: mini,.*; chains: {chain.name}"
    ):
        says("analyze", "nono")


def test_scripts_read_json(says: Says, chain: Chain, registry: Registry) -> None:
    listed = json.loads(says("chains", "--json").output)
    assert [one["name"] for one in listed["chains"]] == [chain.name]
    shown = json.loads(says("show", "nano", "--json").output)
    assert load_config(shown["config"]) == chain.config
    assert [link["version"] for link in shown["links"]] == [1, 2, 3, 4]


TRACKS = {
    "nano.yaml": NANO_TRACK,
    "second.yaml": {"extends": "nano.yaml", "seed": 1},
    "reverse.yaml": {"extends": "mini-reverse", "seed": 1},  # no preset of an analysis
    "wrong.yaml": {**NANO_TRACK, "d_sea": 64},
    "study.yaml": {"extends": "mini", "seed": 1},
}


def test_an_analysis_of_a_track_is_asked_for_by_the_track(
    says: Says, environment: Path, asked: list[Any]
) -> None:
    for name, values in TRACKS.items():
        (environment / name).write_text(yaml.safe_dump(values))
    changes = ("--set", "contexts=7", "--set", "track.layers=[0]")
    for words in (
        *(("nano.yaml", *changes), ("second.yaml",), ("reverse.yaml",), ("mini-jump",)),
        ("study.yaml",),
    ):
        assert says("analyze", *words).exit_code == 0, words
    nano, second, reverse, jump, study = asked
    defaults = AnalyzeConfig(track=load_config({**NANO_TRACK, "layers": [0]}))
    assert nano == defaults.model_copy(update={"contexts": 7})
    assert second == AnalyzeConfig(track=load_config({**NANO_TRACK, "seed": 1}))
    assert (reverse.track.direction, reverse.track.seed) == ("reverse", 1)
    assert (jump.track.model, jump.controls) == ("mini", {})
    assert (study.seed, len(study.controls)) == (1, 6), "of a name that both have: the analysis"
    with pytest.raises(UserError, match="d_sea=64: unknown name; did you mean d_sae"):
        says("analyze", "wrong.yaml")
    with pytest.raises(UserError, match="those of a track, not of a comparison: give it to"):
        says("compare", "nano.yaml")


# Commands with --json that other tests run: they need an analysis, or a server.
ELSEWHERE = {"analyze", "compare", "explain", "explore", "results"}
WITH_JSON = [
    *(("chains",), ("show", "nano"), ("plan", "nano.yaml"), ("families",), ("families", "mini")),
    ("families", "mini", "--checkpoints"),
    *(("track", "nano.yaml"), ("sweep", "sweep.yaml")),  # where nothing is left to train
]


def test_json_is_json_and_nothing_else(says: Says, chain: Chain, environment: Path) -> None:
    sweep = {"track": "nano.yaml", "over": {"seed": [0]}}
    for name, values in (("nano.yaml", NANO_TRACK), ("sweep.yaml", sweep)):
        (environment / name).write_text(yaml.safe_dump(values))

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    for words in WITH_JSON:
        assert json.loads(says(*words, "--json").stdout, parse_constant=refuse), words
    commands = typer.main.get_group(command_line.app).commands.items()
    takes_json = {
        name for name, one in commands if any("--json" in option.opts for option in one.params)
    }
    assert takes_json == ELSEWHERE | {words[0] for words in WITH_JSON}


def test_what_is_no_number_is_null_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({"rows": [{"kappa": float("nan"), "share": 0.5}]})
    assert json.loads(capsys.readouterr().out) == {"rows": [{"kappa": None, "share": 0.5}]}


def test_an_unfinished_chain_says_of_how_many(
    settings: Settings, track: Track, source: CheckpointSource
) -> None:
    registry = Registry(settings)
    assert registry.chains().empty
    run_jobs(track.jobs[:2], source, registry)
    (row,) = registry.chains().to_dict("records")
    assert (row["registered"], row["planned"], row["lm_step"]) == (2, 4, 1)


def test_an_empty_registry_says_what_to_do(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAETRACK_TRACKING_URI", settings.tracking_uri)
    monkeypatch.setenv("SAETRACK_ARTIFACT_DIR", str(settings.artifact_dir))
    assert (
        "saetrack track mini trains a chain"
        in CliRunner().invoke(command_line.app, ["chains"]).output
    )


@pytest.mark.parametrize(
    "command",
    [
        *(["chains"], ["chains", "--json"], ["show", "x"], ["export", "x", "--all", "--to", "out"]),
        *(["explore", "x"], ["explore", "--no-browser"], ["plan", "mini"], ["analyze", "x.L1"]),
    ],
)
def test_who_reads_makes_no_registry(
    command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAETRACK_TRACKING_URI", f"sqlite:///{tmp_path}/mistyped/mlflow.db")
    monkeypatch.setenv("SAETRACK_ARTIFACT_DIR", str(tmp_path / "mistyped" / "artifacts"))
    monkeypatch.setenv("SAETRACK_CACHE_DIR", str(tmp_path / "cache"))
    found = CliRunner().invoke(command_line.app, command)
    if command[0] in {"chains", "plan"}:
        assert found.exit_code == 0, found.output
    else:
        assert isinstance(found.exception, UserError)
        assert "there is no registry yet; the first track makes it" in str(found.exception)
    assert not (tmp_path / "mistyped").exists()


def test_a_chain_is_shown_with_its_config_and_how_to_pull(
    says: Says, chain: Chain, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Path(os.environ["SAETRACK_TRACKING_URI"].removeprefix("sqlite:///"))
    monkeypatch.chdir(database.parent)
    monkeypatch.setenv("SAETRACK_TRACKING_URI", f"sqlite:///{database.name}")
    output = says("show", "nano.L1").output
    table, _, rest = output.partition("Config")
    assert [line.split()[0] for line in table.splitlines() if line.strip()[:1].isdigit()] == [
        *("0", "1", "4", "16"),
    ]
    assert f"{registry.table(chain)['explained_variance'].iloc[-1]:.3f}" in table
    config, _, python = rest.partition("In Python, or in a notebook:")
    shown = load_config(yaml.safe_load(config.partition("\n")[2]))
    assert shown == chain.config
    monkeypatch.chdir("/")  # it leads to the same registry from anywhere
    monkeypatch.delenv("SAETRACK_TRACKING_URI")
    names: dict[str, Any] = {}
    exec(python, names)
    assert names["link"].version == 4 and names["W_dec"].shape == (64, 32)
    assert names["feature_acts"].shape[1] == 64 and len(names["table"]) == 4


def test_the_tables_of_a_chain_and_of_its_name_are_one(registry: Registry, chain: Chain) -> None:
    pd.testing.assert_frame_equal(registry.table(chain), registry.links(chain.name))


def test_one_link_is_exported(says: Says, environment: Path, registry: Registry) -> None:
    for how in (("--version", "4"), ("--lm-step", "16"), ("--alias", "final")):
        to = environment / how[0]
        output = says("export", "nano", *how, "--to", str(to)).output
        assert "version 4" in output
        assert {file.name for file in to.iterdir()} == {
            *(CONFIG_FILE, WEIGHTS_FILE, "sparsity.safetensors"),
        }
    link = registry.pull(registry.chains()["name"][0], version=4)
    exported = read_saelens(to)
    x = torch.randn(50, 32)
    x -= x.mean(dim=1, keepdim=True)
    torch.testing.assert_close(exported.sae.encode(x), link.sae.encode(x), rtol=1e-4, atol=1e-5)
    assert exported.metadata["saetrack"]["identity"] == link.cfg["identity"]
    assert exported.metadata["model_from_pretrained_kwargs"]["revision"] == "step16"


def test_a_chain_is_exported_as_one_repository(
    says: Says, environment: Path, registry: Registry, chain: Chain
) -> None:
    to = environment / "repository"
    assert "4 links" in says("export", "nano", "--all", "--to", str(to)).output
    folders = ["step0", "step1", "step4", "step16"]
    assert {path.name for path in to.iterdir()} == {"README.md", *folders}
    assert [read_saelens(to / name).metadata["saetrack"]["link"] for name in folders] == [
        *(0, 1, 2, 3),
    ]
    _, header, card = (to / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(header)["library_name"] == "saelens"
    assert "base_model" not in yaml.safe_load(header), "the embedded LM is on no hub"
    rows = [line for line in card.splitlines() if line.startswith("| `step")]
    assert [row.split("`")[1] for row in rows] == folders
    final = registry.table(chain)["explained_variance"].iloc[-1]
    assert f"{final:.4f}" in rows[-1]
    assert chain.name in card
    assert to.stat().st_mode & 0o777 == 0o755


def test_links_of_one_step_have_folders_of_their_own(
    settings: Settings, source: CheckpointSource, corpus: Corpus, tmp_path: Path
) -> None:
    schedule = [{"first": 2, "last": 2, "repeat": 2, "tokens": 2_048}]
    still = plan(source, corpus, schedule=schedule)
    registry = Registry(settings)
    run(still, source, registry)
    links = export_chain(registry, still.chains[0].name, tmp_path / "still")
    assert list(links["folder"]) == ["step2-link0", "step2-link1"]


def test_an_export_that_breaks_off_leaves_nothing(
    registry: Registry, chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("saetrack.registry.formats.export.model_card", crash)
    with pytest.raises(KeyboardInterrupt):
        export_chain(registry, chain.name, tmp_path / "to" / "repository")
    assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["show", "nono"], r"chain='nono': no such chain is registered; did you mean nano.L1"),
        (["show", "nano' or '1"], r'chain="nano\' or \'1": no such chain is registered'),
        (["export", "nano", "--to", "x"], "exactly one of --version, --lm-step, --alias, --all"),
        (["export", "nano", "--to", "x", "--all", "--version", "1"], "give exactly one of"),
        (["export", "nano", "--to", "x", "--lm-step", "2"], r"has no lm_step=2; it has \[0, 1, 4"),
        (
            ["export", "nano", "--to", "x", "--alias", "best"],
            "has no alias='best'; its aliases are first",
        ),
        (["export", "nano", "--to", ".", "--all"], r"to='.': holds something already"),
        (["export", "nano", "--to", "/proc/x", "--all"], r"to='/proc/x': cannot be written"),
        (["export", "nano", "--to", "a-file/x", "--all"], r"to='a-file/x': cannot be written"),
        (["init", "nowhere/a.yaml", "-y"], r"file=nowhere/a.yaml: there is no folder nowhere"),
        (["init", "/proc/a.yaml", "-y"], r"file=/proc/a.yaml: cannot be written \(No such file"),
        (
            ["import", "nowhere", "--name", "x"],
            r"nowhere: no such folder; taken are the folders of SAELens",
        ),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    registry: Registry,
    environment: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    line: str,
) -> None:
    (environment / "a-file").touch()
    monkeypatch.setattr(sys, "argv", ["saetrack", *words])
    assert command_line.run() == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert re.search(line, told.err), told.err


# A chain that starts from an imported SAE


def test_a_chain_goes_on_from_an_imported_link_as_it_would_have_here(
    settings: Settings,
    says: Says,
    environment: Path,
    registry: Registry,
    chain: Chain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The chain's second link again, its parent exported and imported elsewhere.

    As many SAEs are shared, it comes without its features' densities.
    """
    says("export", "nano", "--version", "1", "--to", "first")
    (environment / "first" / SPARSITY_FILE).unlink()
    monkeypatch.setenv("SAETRACK_TRACKING_URI", settings.tracking_uri)
    monkeypatch.setenv("SAETRACK_ARTIFACT_DIR", str(settings.artifact_dir))
    told = [says("import", "first", "--name", "theirs").output for _ in range(2)]
    assert "theirs: imported; relu, d_in 32, d_sae 64, of blocks.1.hook_resid_pre" in told[0]
    assert "theirs: was imported before" in told[1]
    assert "theirs" in says("chains").output
    parameters = {
        **NANO_TRACK,
        "start": "theirs",
        "schedule": [{"first": 1, "last": 3, "stride": 2, "tokens": 4_096}],
    }
    ready = prepare(load_config(parameters), settings)
    (started,) = ready.track.chains
    assert ready.registry.chains().empty, "an imported SAE is no chain"
    assert run(ready.track, ready.source, ready.registry) == 2
    update_chain_page(ready.registry, started)
    here = registry.links(chain.name).iloc[1]
    there = ready.registry.links(started.name).iloc[0]
    assert there["start_explained_variance"] == pytest.approx(
        here["start_explained_variance"], abs=1e-5
    )
    assert there["explained_variance"] == pytest.approx(here["explained_variance"], abs=1e-3)
    assert run(ready.track, ready.source, ready.registry) == 0, "a second time nothing is trained"
    (row,) = ready.registry.chains().to_dict("records")
    assert (row["registered"], row["planned"]) == (2, 2)
    export_chain(ready.registry, started.name, environment / "whole")
    assert (environment / "whole" / "step1" / SPARSITY_FILE).exists(), "its own links have one"
    with pytest.raises(UserError, match=r"version 1: its files lack feature_dens"):
        ready.registry.pull("imported.theirs", version=1)


def imported(folder: Path, name: str, registry: Registry, **changes: torch.Tensor) -> None:
    """Import the SAE of a folder, with other weights."""
    weights = {**load_file(folder / WEIGHTS_FILE), **changes}
    save_file(weights, folder / WEIGHTS_FILE)
    registry.imported.add(name, read_saelens(folder))


def test_identities_follow_the_content_of_the_start_and_not_its_name(
    settings: Settings, says: Says, environment: Path
) -> None:
    registry = Registry(settings)
    says("export", "nano", "--version", "1", "--to", "sae")
    folder = environment / "sae"
    imported(folder, "one", registry)
    imported(folder, "same", registry)
    imported(folder, "other", registry, b_enc=torch.zeros(64))

    def planned(start: str | None) -> Chain:
        return prepare(load_config({**NANO_TRACK, "start": start}), settings).track.chains[0]

    one, same, other, fresh = (planned(name) for name in ("one", "same", "other", None))
    assert one.name == same.name
    assert [link.identity for link in one.links] == [link.identity for link in same.links]
    assert len({one.name, other.name, fresh.name}) == 3
    assert len({chain.links[-1].identity for chain in (one, other, fresh)}) == 3
    assert one.links[0].optimiser == one.config.later_links
    assert fresh.links[0].optimiser == fresh.config.first_link
    with pytest.raises(UserError, match="name='one': belongs to another imported SAE"):
        imported(folder, "one", registry)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"start": "absent"}, r"start='absent': no such SAE was imported; there are: small"),
        ({"start": "small"}, r"start='small': has d_in=16, but the chain has d_in=32"),
        ({"start": "wide"}, r"start='wide': has d_sae=80, but the chain has d_sae=64"),
        ({"start": "no/name"}, r"start='no/name': no such SAE was imported"),
        ({"start": "x", "layers": [0, 1]}, r"layers=\[0, 1\]: must be one hook, since start='x'"),
    ],
)
def test_a_start_that_does_not_fit_is_one_line(
    module_settings: Settings,
    registry: Registry,
    tmp_path: Path,
    change: dict[str, object],
    line: str,
) -> None:
    for name, d_in, d_sae in (("small", 16, 64), ("wide", 32, 80)):
        weights = {
            "W_enc": torch.ones(d_in, d_sae),
            "b_enc": torch.zeros(d_sae),
            "W_dec": torch.ones(d_sae, d_in),
            "b_dec": torch.zeros(d_in),
        }
        save_file(weights, tmp_path / WEIGHTS_FILE)
        (tmp_path / CONFIG_FILE).write_text(json.dumps({"d_in": d_in, "d_sae": d_sae}))
        registry.imported.add(name, read_saelens(tmp_path))
    with pytest.raises(UserError, match=line) as caught:
        prepare(load_config({**NANO_TRACK, **change}), module_settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("theirs", "is_told"),
    [
        ("blocks.1.hook_resid_pre", False),
        ("blocks.0.hook_resid_post", False),  # the same activations
        ("", False),
        ("blocks.1.hook_mlp_out", True),
        ("blocks.1.attn.hook_z", True),
    ],
)
def test_a_start_that_was_trained_on_another_hook_is_told(
    settings: Settings,
    tmp_path: Path,
    theirs: str,
    is_told: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    weights = {"W_enc": torch.ones(32, 64), "b_enc": torch.zeros(64), "b_dec": torch.zeros(32)}
    save_file({**weights, "W_dec": torch.ones(64, 32)}, tmp_path / WEIGHTS_FILE)
    cfg = {"d_in": 32, "d_sae": 64, "metadata": {"hook_name": theirs}}
    (tmp_path / CONFIG_FILE).write_text(json.dumps(cfg))
    Registry(settings).imported.add("theirs", read_saelens(tmp_path))
    prepare(load_config({**NANO_TRACK, "start": "theirs"}), settings)
    line = f"start='theirs': was trained on {theirs}, but the chain reads blocks.1.hook_resid_pre"
    assert (line in caplog.messages) == is_told
    assert any("but the chain reads" in message for message in caplog.messages) == is_told
    line = "start='theirs': was trained on raw residuals, but those of the chain are centred"
    assert line in caplog.messages
    caplog.clear()
    prepare(load_config({**NANO_TRACK, "start": "theirs", "residual": "raw"}), settings)
    assert not any("residuals, but" in message for message in caplog.messages)


@pytest.mark.parametrize("name", ["", "../up", "a/b", "a'b", ".hidden", "x y"])
def test_a_name_that_cannot_be_one_is_refused(
    registry: Registry, says: Says, environment: Path, name: str
) -> None:
    says("export", "nano", "--version", "1", "--to", "sae")
    with pytest.raises(UserError, match="must be made of letters, digits"):
        registry.imported.add(name, read_saelens(environment / "sae"))
