"""The analysis of a registered chain, from the registry to the page in MLflow."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from typer.testing import CliRunner

from saetrack.analysis.contexts.datapoints import unite
from saetrack.analysis.contexts.top_contexts import TopContexts
from saetrack.analysis.meaning.labelling import HAND_LABELS
from saetrack.analysis.pipeline.analyze import (
    analyze_chains,
    checkpoints_to_read,
    finish_analysis,
)
from saetrack.analysis.pipeline.chain_analysis import ChainAnalysis, chain_analyses
from saetrack.analysis.pipeline.chain_reader import ChainReader
from saetrack.analysis.pipeline.config import AnalyzeConfig, load_analyze_config
from saetrack.analysis.pipeline.effect_pass import effect_pass
from saetrack.analysis.pipeline.registered_chain import RegisteredChain, registered_chains
from saetrack.analysis.pipeline.results import newest_groups
from saetrack.analysis.results.pages import write_results
from saetrack.analysis.results.paper_claims import CLAIMS
from saetrack.chain.plan import plan_track, scheduled
from saetrack.cli.main import app
from saetrack.data.corpus import Corpus
from saetrack.data.exclusion import Excluded
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.registry import Registry
from saetrack.training.activations_store import ActivationsStore
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.planted_analysis import QUESTIONS, STILL, without_umap
from tests.support.running import run


@pytest.fixture(scope="module")
def analyze_config() -> AnalyzeConfig:
    return load_analyze_config(QUESTIONS)


@pytest.fixture(scope="module")
def registered(
    analyze_config: AnalyzeConfig,
    module_settings: Settings,
    source: CheckpointSource,
    corpus: Corpus,
) -> RegisteredChain:
    registry = Registry(module_settings)
    assert analyze_config.track is not None
    for one in (analyze_config.track, analyze_config.controls["stands still"].track):
        run(plan_track(one, source, scheduled(one, source), corpus), source, registry)
    (found,) = registered_chains(analyze_config, module_settings)
    return found


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"chain": "mini"}, r"chain='mini': give either chain or track"),
        ({"track": None}, r"chain=None: give either chain or track"),
        ({"baseline_draws": 1}, r"baseline_draws=1: input should be greater than or equal to 5"),
        ({"versions": [1]}, r"versions=.*must have 3 or more in its list"),
    ],
)
def test_a_mistake_is_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        load_analyze_config({**QUESTIONS, **changes})
    assert "\n" not in str(caught.value)


def test_what_is_not_registered_is_said_in_one_line(
    registered: RegisteredChain, module_settings: Settings
) -> None:
    unknown = load_analyze_config({"chain": "nobody"})
    with pytest.raises(UserError, match="chain='nobody': no such chain is registered"):
        registered_chains(unknown, module_settings)
    untrained = load_analyze_config({"track": {**NANO_TRACK, "seed": 9}})
    with pytest.raises(UserError, match="0 of its 4 links are registered"):
        registered_chains(untrained, module_settings)


def test_a_chain_that_stands_still_is_analysed_by_its_links(
    registered: RegisteredChain,
    module_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    without_umap(monkeypatch)
    monkeypatch.setattr("saetrack.analysis.pipeline.analyze.draw", lambda inputs, folder: None)
    asked = {**QUESTIONS, "track": STILL, "controls": {}, "effect_tokens": 0}
    asked["context_rule"] = "authors"
    frozen = load_analyze_config(asked)
    caplog.set_level("INFO", "saetrack")
    (line,) = analyze_chains(frozen, module_settings)
    spoken = [record.getMessage() for record in caplog.records]
    after = spoken[spoken.index("step 3: read, 4 of 4") + 1 :]
    assert [line.partition(":")[0] for line in after] == [
        *["tables"] * 5,
        "lives of features, for the explorer; a map of their directions, by UMAP",
        "files go to the registry",
    ], "figures aside, which are not drawn here"
    title, where, page, look, command = re.split(": |; ", line)
    assert title.startswith("analyze · nano.L1.frozen-step16")
    assert re.fullmatch(r"in MLflow's experiment nano, run [0-9a-f]{32}", where)
    assert Path(page).name == "page.html" and Path(page).is_file()
    assert (look, command) == ("look at it", title.replace("analyze ·", "saetrack explore"))
    client = MlflowClient(tracking_uri=module_settings.tracking_uri)
    experiment = client.get_experiment_by_name("nano").experiment_id
    (logged,) = client.search_runs(
        [experiment], "tags.kind = 'analysis' and tags.chain LIKE 'nano.L1.frozen%'"
    )
    folder = Path(client.download_artifacts(logged.info.run_id, "", str(tmp_path)))
    tables = {path.stem: pd.read_parquet(path) for path in (folder / "tables").iterdir()}
    assert sorted(tables["label_counts"]["lm_step"].unique()) == [0, 1, 2, 3]
    # The LM is the same at each link, and what an SAE regains is its own.
    assert (tables["continuity"]["median_displacement"] == 0).all()
    assert tables["continuity"]["link_tokens"].tolist() == [4_096] * 3
    assert "Its LM stands still at step 16: steps are links." in (folder / "page.html").read_text()
    # Effects are left out, and without a control nothing says what converges.
    assert not {"effects", "calibration", "core_metrics"} & set(tables)
    assert set(tables["moments"]["moment"]) == {"forms", "predicts"}
    assert not {"theorem", "context_rules"} & set(tables)


def test_a_chain_whose_features_all_died_is_one_line(
    registered: RegisteredChain, module_settings: Settings
) -> None:
    demanding = load_analyze_config({**QUESTIONS, "controls": {}, "min_density": 0.999})
    (analysis,) = chain_analyses(demanding, module_settings)
    with pytest.raises(UserError, match=r"min_density=0\.999: no live features") as caught:
        next(checkpoints_to_read(analysis)).read()
    assert "\n" not in str(caught.value)


def test_positions_that_training_leaves_out_take_no_part(
    registered: RegisteredChain,
    analyze_config: AnalyzeConfig,
    module_settings: Settings,
    tmp_path: Path,
) -> None:
    (analysis,) = chain_analyses(analyze_config, module_settings)
    chain, excluded = registered.chain, Excluded((5, 9), first_positions=3)
    chain = replace(chain, corpus=replace(chain.corpus, excluded=excluded))
    settings = module_settings.model_copy(update={"cache_dir": tmp_path})
    changed = replace(
        analysis, registered=replace(registered, chain=chain), settings=settings, controls={}
    )
    reader = ChainReader(changed)
    rows = chain.corpus.rows("analysis")
    kept = ~np.isin(rows, [5, 9, chain.corpus.bos_token_id])
    kept[:, :3] = False
    chosen = reader.chosen
    for contexts in (chosen.final, chosen.first, chosen.regions):
        assert contexts.tokens == kept.sum()
    assert kept[chosen.points.rows, chosen.points.positions].all()
    share = 100 * (1 - kept.mean())
    line = reader.text.left_out_line()
    assert f"Positions left out: {share:.1f} % (" in line and "the first 3 of each row" in line


def test_a_chain_is_found_by_its_name_and_versions(
    registered: RegisteredChain, module_settings: Settings
) -> None:
    whole = registered.chain.name
    for name in (whole, whole[:-3]):
        by_name = load_analyze_config({"chain": name, "versions": [1, 2, 4]})
        (found,) = registered_chains(by_name, module_settings)
        assert found.chain.name == whole
        assert [link.number for link in found.links] == [0, 1, 3]


def test_one_pass_reads_what_the_residual_stream_gives(
    registered: RegisteredChain, corpus: Corpus
) -> None:
    link = registered.links[-1]
    feature_pass = registered.open(link)
    rows = corpus.rows("analysis")
    points = unite({"some": (np.array([0, 3, 63]), np.array([5, 0, 31]))})
    top = TopContexts(64, 5, window=None)
    found = feature_pass.at(points, [top])
    lm = feature_pass.lm
    expected = lm.activations(torch.from_numpy(rows[[0, 3, 63]].astype(np.int64)))[0]
    expected = expected[torch.arange(3), torch.tensor([5, 0, 31])]
    torch.testing.assert_close(found.x, expected, rtol=1e-4, atol=1e-4)
    assert found.feature_acts is not None
    dense = torch.from_numpy(found.feature_acts.toarray())
    torch.testing.assert_close(
        dense, feature_pass.sae.encode(found.x).detach(), rtol=1e-3, atol=1e-4
    )
    stream = ActivationsStore(lm, replace(corpus), exclude_bos=False, seed=0)
    whole = stream._residuals("analysis", torch.arange(len(rows)))[0]
    acts = feature_pass.sae.encode(whole).detach()
    contexts = top.result()
    torch.testing.assert_close(
        torch.from_numpy(contexts.max_acts), acts.max(dim=0).values, rtol=1e-3, atol=1e-4
    )
    assert list(contexts.fires) == (acts > 0).sum(dim=0).tolist()


def test_the_last_token_of_a_text_is_read_as_if_it_were_alone(registered: RegisteredChain) -> None:
    feature_pass = registered.open(registered.links[-1])
    generator = np.random.default_rng(0)
    texts = [generator.integers(0, 100, length) for length in (7, *range(1, 32), 2)]
    x, acts = feature_pass.at_ends(texts)
    assert acts.shape == (33, 64)
    for number in (0, 1, 30, 32):
        alone = feature_pass.lm.activations(torch.from_numpy(texts[number])[None])[0, 0, -1]
        torch.testing.assert_close(x[number], alone, rtol=1e-4, atol=1e-4)
        dense = torch.from_numpy(acts[[number]].toarray()[0])
        expected = feature_pass.sae.encode(alone[None]).detach()[0]
        torch.testing.assert_close(dense, expected, rtol=1e-3, atol=1e-4)


def texts_to_probe(folder: Path) -> Path:
    """A set whose classes the last token tells, and one that is no set of two classes."""
    folder.mkdir()
    for name, classes in (("ends", 2), ("many", 3)):
        rows = [
            f"{number} text {'.(a'[number % classes]},{number % classes}\n" for number in range(150)
        ]
        (folder / f"{name}.csv").write_text("prompt,target\n" + "".join(rows))
    return folder


def test_texts_of_probes_that_are_not_there_are_refused_before_any_work(
    registered: RegisteredChain, analyze_config: AnalyzeConfig, module_settings: Settings
) -> None:
    absent = analyze_config.model_copy(update={"probe_texts": "nowhere/at/all"})
    with pytest.raises(UserError, match="probe_texts='nowhere/at/all': must be a folder that"):
        chain_analyses(absent, module_settings)


def test_other_texts_of_probes_are_another_analysis(
    registered: RegisteredChain,
    analyze_config: AnalyzeConfig,
    module_settings: Settings,
    tmp_path: Path,
) -> None:
    def content_hash(folder: Path) -> str:
        config = analyze_config.model_copy(update={"probe_texts": str(folder)})
        return chain_analyses(config, module_settings)[0].content_hash

    folders = [texts_to_probe(tmp_path / name) for name in ("one", "same", "other")]
    (folders[2] / "ends.csv").write_text("prompt,target\nx,1\n")
    one, same, other = map(content_hash, folders)
    assert one == same != other


def test_the_analysis_is_a_run_with_tables_and_figures(
    registered: RegisteredChain,
    analyze_config: AnalyzeConfig,
    module_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    without_umap(monkeypatch)
    monkeypatch.setattr("saetrack.analysis.probes.pools.MIN_OF_CLASS", 2)  # so short is the text
    # Another seed than that of this file's other analyses, which may have run before.
    folder = texts_to_probe(tmp_path / "sets")
    analyze_config = analyze_config.model_copy(
        update={"seed": 1, "probe_texts": str(folder), "context_rule": "both"}
    )
    lms, passes = count_loads(monkeypatch), count_passes(monkeypatch)
    fetched = count_fetched_ahead(monkeypatch)
    pulled = count_pulls(monkeypatch)
    (analysis,) = chain_analyses(analyze_config, module_settings)
    interrupted = checkpoints_to_read(analysis)
    for _, pending in zip(range(2), interrupted, strict=False):
        pending.read()
    interrupted.close()
    # The final checkpoint, where datapoints are chosen, then each in order.
    assert lms == [5, 0, 1] and passes == [0, 1]
    (again,) = chain_analyses(analyze_config, module_settings)
    labels = []
    for pending in checkpoints_to_read(again):
        pending.read()
        labels.append(pending.label)
    # Checkpoints that were read are not read again; of the last of them the weights are loaded, to
    # which the next one's are compared, and of the final one the token embeddings.
    of_links = [f"read · blocks.1.hook_resid_pre · step {step}" for step in (4, 16)]
    assert labels == [*of_links, "read · ends of stands still"]
    assert passes == [0, 1, 3, 5]
    # The last two are the ends of the control, which stands still: numbers of links.
    assert sorted(lms[3:-2]) == [1, 3, 5, 5] and lms[-2:] == [3, 0]
    assert fetched[0] == 1  # while the one before was read
    line = finish_analysis(again)
    assert registered.chain.name in line
    own = [version for name, version in pulled if name == registered.chain.name]
    # The final one to choose datapoints, and when it is read; again after the interruption.
    assert sorted(own) == [1, 2, 3, 4, 4]
    still = [version for name, version in pulled if name != registered.chain.name]
    # To be matched, and its ends; of the others only the decoder rows are read.
    assert still == [4, 4, 1]
    the_run_holds_what_was_found(again, module_settings, tmp_path)
    (repeated,) = analyze_chains(analyze_config, module_settings)
    assert "was analysed before" in repeated
    assert passes == [0, 1, 3, 5]


def the_run_holds_what_was_found(analysis: ChainAnalysis, settings: Settings, place: Path) -> None:
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    (logged,) = client.search_runs(
        [client.get_experiment_by_name("nano").experiment_id],
        f"tags.kind = 'analysis' and tags.identity = '{analysis.content_hash}'",
    )
    assert logged.data.tags["chain"] == analysis.registered.chain.name
    assert logged.data.tags["versions"] == "[1, 2, 3, 4]"
    assert "stands still" in logged.data.tags["controls"]
    assert "never trained" not in logged.data.tags["controls"]
    folder = Path(client.download_artifacts(logged.info.run_id, "", str(place)))
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert figures >= {"labels", "patterns", "progress", "drift", "trajectories", "collapse"}
    assert figures == {path.stem for path in (folder / "figures").glob("*.svg")}
    page = (folder / "page.html").read_text()
    assert page.count("data:image/png") == len(figures)
    counts = pd.read_parquet(folder / "tables" / "label_counts.parquet")
    assert set(counts.groupby("lm_step")["features"].sum()) == {64}
    curves = pd.read_parquet(folder / "tables" / "curves.parquet")
    assert {"final", "first", "random_directions"} == set(curves["chosen"])
    tables = {path.stem: pd.read_parquet(path) for path in (folder / "tables").iterdir()}
    assert figures >= {"logits", "effects", "moments"}
    assert set(tables["moments"]["moment"]) == {"forms", "converges", "predicts", "causes"}
    assert sorted(tables["effects"]["lm_step"].unique()) == [0, 1, 4, 16]
    core = tables["core_metrics"]
    assert core["kl_score"].notna().all()
    assert (core["nats_lost"] == core["ce_sae"] - core["ce"]).all()
    # The nano LM has 512 tokens.
    assert (core["zero_worse_than_guess"] == (core["ce_zero"] > np.log(512))).all()
    assert tables["calibration"]["rows"].between(4, 16).all()
    shares = tables["pattern_shares"]
    assert set(shares["chain"]) == {"chain", "stands still"}
    of_chain = shares[shares["chain"] == "chain"].set_index("pattern")["features"]
    live = tables["patterns"][tables["status"]["status"].to_numpy() == "live"]
    assert of_chain[of_chain > 0].to_dict() == live["pattern"].value_counts().to_dict()
    assert set(tables["pattern_agreement"]["role"]) == {"noise"}, "no replicate was trained"
    assert tables["patterns"]["pattern_kappa"].isna().all()
    results_name_the_run(logged.info.run_id, settings, place)
    moved = pd.read_parquet(folder / "tables" / "continuity.parquet")["parameter_displacement"]
    assert (moved > 0).all()
    rules = tables["context_rules"].set_index("quantity")
    assert 0 < rules.loc["datapoints in both lists, mean", "authors"] < 1
    medians = tables["context_rules_progress"]
    assert set(medians["rule"]) == {"distinct", "authors"} and medians["lm_step"].nunique() == 4
    assert "theorem" in figures
    theorem, ways = tables["theorem"], tables["theorem_path"]
    assert ways["lm_step"].tolist() == [0, 4] and ways["to_step"].tolist() == [1, 16]
    assert ways["learning_rate_sum"][0] == pytest.approx(1e-2 / 4)  # the first of its warm-up
    assert ways["parameter_displacement"].tolist() == [moved[0], moved[2]]
    assert set(theorem["tokens"]) == set(theorem["rows"]) == {4}
    probes_are_of_each_link(folder, figures)


def results_name_the_run(run_id: str, settings: Settings, place: Path) -> None:
    (group,) = newest_groups(Registry(settings))
    assert set(group.headline["run"]) == {run_id} and group.title == "nano, L1, seed 0"
    asked = group.headline[group.headline["name"] == "control"].set_index("control")["role"]
    assert asked.to_dict() == {"stands still": "noise", "never trained": "replicate"}
    index, *pages = write_results([group], place / "results")
    text = index.read_text()
    assert run_id in text and "0.2.0, tables" in text
    assert all(f"claims/{claim.key}.md" in text for claim in CLAIMS) and len(pages) > len(CLAIMS)
    single = (place / "results" / "claims" / "single-features.md").read_text()
    assert "## nano, L1, seed 0: cannot be told" in single and "in never trained" in single


def probes_are_of_each_link(folder: Path, figures: set[str]) -> None:
    tables = {path.stem: pd.read_parquet(path) for path in (folder / "tables").glob("probe*")}
    assert "probes" in figures
    left_out = tables["probe_tasks"].set_index("task")["left_out"]
    assert left_out["many"] == "3 classes, not two" and left_out["ends"] == ""
    probes = tables["probes"]
    assert set(probes["task"]) == set(left_out.index[left_out == ""]) >= {"ends", "word_start"}
    for _, of_link in probes.groupby("lm_step"):
        assert set(of_link["tested_on"]) == {"texts", "known tokens", "new tokens"}
        assert set(of_link["seed"]) == {1, 2}
    assert sorted(probes["lm_step"].unique()) == [0, 1, 4, 16]
    of_lm = probes[(probes["task"] == "ends") & (probes["probe"] == "residual")]
    assert (of_lm["accuracy"] == 1).all(), "the last token is all that there is to know"
    assert {"probe_curves", "probe_onsets", "probe_features"} < set(tables)


def test_effects_are_those_of_the_lm_without_the_feature(
    registered: RegisteredChain, analyze_config: AnalyzeConfig, corpus: Corpus
) -> None:
    feature_pass = registered.open(registered.links[-1], whole=True)
    held_out, excluded = corpus.rows("held_out"), corpus.left_out(exclude_bos=True)
    reading = effect_pass(feature_pass, held_out, np.ones(64), excluded, analyze_config)
    found = reading.read()
    assert found.effects.tokens == 512 == reading.rows.numel()
    assert set(found.ablations["feature"]) <= set(reading.sampled) and len(reading.sampled) == 4
    lm, sae, hook = feature_pass.lm, feature_pass.sae, feature_pass.lm.hooks[0]
    kept = reading.kept[..., None]
    for feature, of_feature in found.ablations.groupby("feature"):
        acts = sae.encode(lm.activations(reading.rows)[0].flatten(0, 1)).detach()
        acts = acts[:, int(str(feature))].view(reading.rows.shape)[..., None] * kept
        row = int((acts[..., 0] > 0).any(dim=1).nonzero()[0])
        minus = acts[row] * sae.W_dec[int(str(feature))].detach()
        losses = [
            lm.spliced_loss(reading.rows[[row]], hook, replace) * (reading.rows.shape[1] - 1)
            for replace in (None, lambda x, minus=minus: x - minus)
        ]
        assert of_feature["ablation"].iloc[0] == pytest.approx(
            losses[1] - losses[0], rel=0.02, abs=2e-4
        )
    with torch.no_grad():
        dense = sae.encode(lm.activations(reading.rows)[0].flatten(0, 1)) > 0
    fires = (dense & reading.kept.flatten()[:, None]).sum(dim=0)
    assert list(found.effects.fires) == fires.tolist(), "BOS takes no part"

    def spliced(x: torch.Tensor) -> torch.Tensor:
        return sae.decode(sae.encode(x.flatten(0, 1))).view_as(x).where(kept, x)

    x, core = lm.activations(reading.rows)[0], found.core
    with torch.no_grad():
        clean, with_sae = (lm.log_p(reading.rows, hook, of) for of in (lambda x: x, spliced))
    kl = (clean.exp() * (clean - with_sae)).sum(-1)[reading.kept].mean()
    assert core["kl"] == pytest.approx(float(kl), rel=1e-3)
    at = kept[:, :-1, 0]
    ce = -with_sae[:, :-1].gather(2, reading.rows[:, 1:, None])[..., 0][at].mean()
    assert core["ce_sae"] == pytest.approx(float(ce), rel=1e-4)
    y = spliced(x)[reading.kept].detach()
    x = x[reading.kept]
    assert core["cosine"] == pytest.approx(float(torch.cosine_similarity(x, y).mean()), rel=1e-3)
    assert core["l0"] == pytest.approx(float(fires.sum()) / int(reading.kept.sum()))
    unit = torch.nn.functional.normalize(sae.W_dec.detach(), dim=1)
    cosines = unit @ unit.T - 3 * torch.eye(64)
    assert core["mean_largest_decoder_cosine"] == pytest.approx(
        float(cosines.amax(1).mean()), rel=1e-4
    )


def test_labels_by_hand_are_held_against_the_automatic_ones(
    registered: RegisteredChain,
    analyze_config: AnalyzeConfig,
    module_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("saetrack.utils.settings.load_settings", lambda: module_settings)
    without_umap(monkeypatch)
    analyze_chains(analyze_config, module_settings)
    chain = registered.chain.name
    client = MlflowClient(tracking_uri=module_settings.tracking_uri)
    experiment = client.get_experiment_by_name("nano").experiment_id
    logged, *_ = client.search_runs(  # the newest, as the commands take it
        [experiment], f"tags.kind = 'analysis' and tags.chain = '{chain}'"
    )
    run_id = logged.info.run_id
    folder = Path(client.download_artifacts(run_id, "", str(tmp_path)))
    sheet = tmp_path / "labelled.csv"
    command = CliRunner().invoke
    written = command(app, ["sheet", chain, "--to", str(sheet), "--features", "10"])
    assert written.exit_code == 0, written.output
    rows = pd.read_csv(sheet, dtype=str, keep_default_na=False)
    assert len(rows) == 10 and set(rows["label"]) == {""}
    assert rows["contexts"].str.startswith("1. ").all()
    refused = command(app, ["sheet", chain, "--to", str(sheet)])
    assert isinstance(refused.exception, UserError) and "exists already" in str(refused.exception)
    automatic = pd.read_parquet(folder / "tables" / "labels.parquet").set_index("feature")["label"]
    features = rows["feature"].astype(int)
    rows["label"] = automatic[features].where(automatic.isin(HAND_LABELS), "contextual").to_numpy()
    agrees = (rows["label"] == automatic[features].to_numpy()).mean()
    rows.to_csv(sheet, index=False)
    read = command(app, ["agreement", chain, str(sheet)])
    assert read.exit_code == 0 and "10 features, 0 left empty" in read.output
    assert client.get_run(run_id).data.metrics["hand.agreement"] == pytest.approx(agrees)
    rows.assign(label="token level").to_csv(sheet, index=False)
    wrong = command(app, ["agreement", chain, str(sheet)])
    assert isinstance(wrong.exception, UserError) and "labels are token" in str(wrong.exception)
    nobody = command(app, ["sheet", "nobody"])
    assert "chain='nobody': no such chain is registered" in str(nobody.exception)


def count_loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Checkpoints whose LM is loaded, in order."""
    loads: list[int] = []
    load = RegisteredChain.lm

    def lm(self: RegisteredChain, link: Any, *rest: Any, **how: Any) -> Any:
        loads.append(link.checkpoint.checkpoint_index)
        return load(self, link, *rest, **how)

    monkeypatch.setattr(RegisteredChain, "lm", lm)
    return loads


def count_pulls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Chains and versions that are pulled, in order."""
    pulls: list[tuple[str, int]] = []
    pull = Registry.pull

    def counted(self: Registry, name: str, **which: Any) -> Any:
        pulls.append((name, which["version"]))
        return pull(self, name, **which)

    monkeypatch.setattr(Registry, "pull", counted)
    return pulls


def count_passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Checkpoints at whose datapoints a pass reads, in order."""
    from saetrack.analysis.pipeline.feature_pass import FeaturePass

    passes: list[int] = []
    read = FeaturePass.at

    def at(self: FeaturePass, *rest: Any) -> Any:
        passes.append(self.checkpoint.checkpoint_index)
        return read(self, *rest)

    monkeypatch.setattr(FeaturePass, "at", at)
    return passes


def count_fetched_ahead(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Checkpoints that begin to be fetched before they are asked for, in order."""
    from saetrack.lm.checkpoints.ahead import Ahead

    fetched: list[int] = []
    begin = Ahead._begin

    def began(self: Ahead, checkpoint: Any) -> None:
        fetched.append(checkpoint.checkpoint_index)
        begin(self, checkpoint)

    monkeypatch.setattr(Ahead, "_begin", began)
    return fetched
