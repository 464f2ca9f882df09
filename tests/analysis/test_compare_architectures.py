"""Kinds of SAE side by side: planted links, and nano chains from the registry to the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient
from scipy.sparse import csr_array

from saetrack.analysis.comparison.architectures import (
    FollowedLink,
    kept,
    kept_table,
    over_seeds,
    per_seed,
    token_ratios,
)
from saetrack.analysis.matching.activation_matching import FeatureActs
from saetrack.analysis.pipeline.compare import compare_trained
from saetrack.analysis.pipeline.compare_architectures import followed_links
from saetrack.analysis.pipeline.config import CompareConfig, load_compare_config
from saetrack.chain.plan import Track, plan_track, scheduled
from saetrack.chain.presets import load_preset
from saetrack.data.corpus import Corpus
from saetrack.data.exclusion import Excluded
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM
from saetrack.registry import Registry
from saetrack.sae.model import new_sae
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.running import run, set_environment

TRACK: dict[str, Any] = {
    **NANO_TRACK,
    "schedule": [
        {"first": 0, "last": 0, "tokens": 2_048},
        {"first": 5, "last": 5, "tokens": 1_024},
    ],
}
KINDS: dict[str, Any] = {
    "relu": {"l1_coefficient": 1e-3},
    "topk": {"architecture": "topk", "k": 8},
}
SEED = 0


def planted(turned: int, silent: int = 0, number: int = 0, features: int = 40) -> FollowedLink:
    """A link whose first features are exchanged in a circle, and whose last are silent."""
    rng = np.random.default_rng(3)
    rows = torch.from_numpy(rng.normal(size=(features, 200)))
    acts = rng.random((features, 500)) * (rng.random((features, 500)) < 0.1)
    order = np.r_[np.roll(np.arange(turned), 1), np.arange(turned, features)]
    rows, acts = rows[torch.from_numpy(order)], acts[order]
    acts[features - silent :] = 0
    return FollowedLink(number, 10 * number, rows, FeatureActs.of(csr_array(acts)))


def test_what_is_kept_is_counted_over_features_alive_in_both() -> None:
    found = kept(planted(0), planted(turned=10, silent=20), SEED)
    assert found["features"] == 20
    assert found["keeps_index"] == found["keeps_meaning"] == pytest.approx(0.5)
    assert found["shuffled_keeps_meaning"] < 0.1
    assert kept(planted(0), planted(0), SEED)["angle_rad"] == 0
    nothing = kept(planted(0), planted(0, silent=40), SEED)
    assert nothing["features"] == 0
    assert np.isnan(nothing["keeps_index"])


def test_a_chain_is_read_link_by_link_and_at_its_ends() -> None:
    table = kept_table((planted(4 * n, number=n) for n in range(3)), SEED)
    assert table["span"].tolist() == ["next", "next", "ends"]
    assert table["link"].tolist() == [1, 2, 2]
    assert table["keeps_index"].tolist() == pytest.approx([36 / 40, 35 / 40, 32 / 40])


def curves(*quality: float) -> pd.DataFrame:
    at = [0, 100, 200, 400]
    nan = dict.fromkeys(("loss", "mse", "explained_variance", "l0", "dead"), np.nan)
    return pd.DataFrame({"tokens": at, "train_s": at, "explained_variance_at_l0": quality}).assign(
        **nan, ce_loss_recovered=np.nan, nats_lost=np.nan, seed=0, lm_step=5, checkpoint_index=5
    )


def test_tokens_to_equal_quality_go_both_ways() -> None:
    found = token_ratios(
        {
            "reference": curves(0.0, 0.5, 0.6, 0.8),
            "twice_as_fast": curves(0.0, 0.6, 0.8, 0.9),
            "half_as_fast": curves(0.0, 0.3, 0.5, 0.6),
        }
    )
    ratios = found.set_index("architecture")["equal_quality_token_ratio"]
    assert ratios.to_dict() == pytest.approx(
        {"reference": 1.0, "twice_as_fast": 0.5, "half_as_fast": 2.0}
    )


def test_links_without_a_parent_are_not_averaged() -> None:
    at = {"architecture": "a", "seed": 1}
    measured = ("explained_variance", "explained_variance_at_l0", "ce_loss_recovered", "dead", "l0")
    measured += ("nats_lost",)
    links = pd.DataFrame(
        [{**at, "link": n, "lm_step": n} | dict.fromkeys(measured, n) for n in range(3)]
    )
    moved = kept_table((planted(4 * n, number=n) for n in range(3)), SEED).assign(**at)
    both = pd.concat([moved.assign(chain="chain"), moved.assign(chain="frozen", keeps_index=1.0)])
    ratios = pd.DataFrame(
        [{**at, "lm_step": n, "equal_quality_token_ratio": 1.0 * n} for n in range(3)]
    )
    (row,) = per_seed(links, both, ratios).to_dict("records")
    assert row["l0"] == row["equal_quality_token_ratio"] == 1.5
    assert row["keeps_index"] == pytest.approx(35.5 / 40)
    assert row["ends_keeps_index"] == pytest.approx(32 / 40)
    assert row["frozen_keeps_index"] == 1
    other = {**row, "seed": 2, "l0": 2.5}
    (summary,) = over_seeds(pd.DataFrame([row, other])).to_dict("records")
    assert (summary["l0_min"], summary["l0_mean"], summary["l0_max"]) == (1.5, 2.0, 2.5)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"architectures": {"relu": {}}}, "architectures="),
        ({"architectures": KINDS | {"topk": {"architecture": "topk", "k": 65}}}, r"sae\.k=65"),
        (
            {"architectures": KINDS, "track": {**TRACK, "schedule": TRACK["schedule"][:1]}},
            "two links",
        ),
    ],
)
def test_a_mistake_is_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        load_compare_config({"track": TRACK, **changes})
    assert "\n" not in str(caught.value)


def test_each_kind_has_a_control_as_long_at_the_last_checkpoint() -> None:
    config = load_compare_config(load_preset("compare", "mini-architectures"))
    tracks = config.all_tracks()
    assert len(tracks) == 5 * 3 * 2
    chain, control = config.of_architecture("topk")[1]
    assert chain.seed == control.seed == 1
    assert chain.sae == control.sae
    assert (chain.direction, control.direction) == ("forward", "frozen")
    assert [tokens for _, tokens in control.planned or ()] == [
        tokens for _, tokens in chain.planned or ()
    ]
    assert {index for index, _ in control.planned or ()} == {28}


def test_what_features_keep_is_read_where_links_are_trained(
    source: CheckpointSource, corpus: Corpus
) -> None:
    excluded = Excluded(first_positions=5)
    lm = HookedLM(source.fetch(source.resolve([5])[0]), [Hook("resid_pre", 1)])
    whole: Any = SimpleNamespace(
        chain=SimpleNamespace(corpus=replace(corpus, excluded=excluded)),
        links=[SimpleNamespace(number=0, checkpoint=SimpleNamespace(lm_step=0))],
        lm=lambda _: lm,
        pull=lambda _: SimpleNamespace(sae=new_sae(lm.d_in, 64, torch.zeros(lm.d_in), seed=0)),
    )
    (link,) = followed_links(whole, 1_024, "a chain")
    rows = corpus.rows("analysis")[: 1_024 // corpus.context_size]
    kept = excluded.and_token(corpus.bos_token_id).kept_in(rows)
    assert link.acts.acts.shape[1] == kept.sum() < rows.size - 5 * len(rows) + 1


@pytest.fixture(scope="module")
def compared(
    module_settings: Settings, source: CheckpointSource, corpus: Corpus
) -> tuple[CompareConfig, list[Track]]:
    config = load_compare_config(
        {"track": TRACK, "architectures": KINDS, "match_tokens": 1_024, "seeds": [0, 1]}
    )
    registry = Registry(module_settings)
    tracks = [
        plan_track(one, source, scheduled(one, source), corpus) for one in config.all_tracks()
    ]
    for track in tracks:
        run(track, source, registry)
    return config, tracks


def test_the_page_has_a_table_and_a_figure_and_is_made_once(
    compared: tuple[CompareConfig, list[Track]],
    module_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    config, tracks = compared
    set_environment(module_settings, monkeypatch)
    for _ in range(2):  # the second time changes nothing
        (said,) = compare_trained(config, tracks, module_settings)
    assert said.startswith(
        "compare architectures · nano L1 · 2 seeds: in MLflow's experiment nano, run "
    )
    client = MlflowClient(tracking_uri=module_settings.tracking_uri)
    experiment = client.get_experiment_by_name("nano")
    assert experiment is not None
    (report,) = client.search_runs([experiment.experiment_id], "tags.kind = 'comparison'")
    assert all(track.chains[0].name in report.data.tags["versions"] for track in tracks)
    folder = Path(client.download_artifacts(report.info.run_id, "", str(tmp_path)))
    tables = {path.stem: pd.read_csv(path) for path in folder.glob("*.csv")}
    assert tables["summary"]["architecture"].tolist() == ["relu", "topk"]
    assert tables["summary"]["equal_quality_token_ratio_mean"].iloc[0] == 1
    kept_rows = tables["kept"]
    # Neighbours and ends, of chain and control, of two kinds and two seeds.
    assert len(kept_rows) == 2 * 2 * 2 * 2
    assert (kept_rows["features"] > 0).all()
    registry = Registry(module_settings)
    table = registry.table(tracks[0].chains[0])
    first = tables["seeds"].iloc[0]
    assert first["explained_variance"] == pytest.approx(table["explained_variance"].iloc[1:].mean())
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        f"{n}.{kind}" for n in ("architectures", "along_chain") for kind in ("png", "svg")
    }
    assert "topk.keeps_meaning" in report.data.metrics
