"""Random directions beside features: which, and what a run says of both."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from saetrack.analysis.explanations.config import explain_config
from saetrack.analysis.explanations.directions import paired_directions
from saetrack.analysis.explanations.holding import QUANTILE
from saetrack.analysis.explanations.run import ExplanationRun
from saetrack.analysis.explanations.targets import Target
from saetrack.analysis.life_store.files import write_arrays
from saetrack.analysis.life_store.layout import link_folder
from saetrack.analysis.life_store.reader import LifeStore
from saetrack.analysis.pipeline.explain import open_explaining
from saetrack.analysis.pipeline.explanation_tables import agreement_table, said_of
from saetrack.registry import Registry
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings
from tests.support.planted_lives import D_SAE, LINKS, SINCE, UNTIL, planted_store

CHAIN = "synthetic.L2.forward.s0.4567"


class Densities:
    """As much of a store as pairing reads; `values` are (links, features)."""

    def __init__(self, values: Any) -> None:
        self.values = np.array(values)
        self.manifest = self
        self.d_sae = self.values.shape[1]

    def column(self, link: int, name: str) -> np.ndarray:
        assert name == "feature_density"
        return self.values[link]


def test_directions_stand_beside_features_that_fire_as_often() -> None:
    features: Any = Densities([[0.1, 0.01, 0.001, 0.2, 0.03], [0.001, 0.5, 0.5, 0.5, 0.1]])
    directions: Any = Densities([[0.002, 0.09, 0.011, 1e-5], [0.09, 1e-5, 0.0012, 0.0]])
    last = [Target("last", feature, 0) for feature in (0, 1, 2)]
    found = paired_directions(last, features, directions, 3)
    assert found == {
        Target("last", direction, 0): Target("last", feature, 0)
        for direction, feature in ((1, 0), (2, 1), (0, 2))
    }
    # At the link where each is formed, of which there are two.
    formed = [Target("formed", 0, 1), Target("formed", 1, 0), Target("formed", 4, 1)]
    found = paired_directions([*last, *formed], features, directions, 3)
    of_formed = {one: beside for one, beside in found.items() if one.place == "formed"}
    assert len(found) == 6
    assert of_formed == {
        Target("formed", direction, target.link): target
        for direction, target in zip((2, 1, 0), formed, strict=True)
    }
    # Fewer than there are features: from the rarest to the densest.
    all_of_them = [Target("last", feature, 0) for feature in range(5)]
    two = paired_directions(all_of_them, features, directions, 2)
    assert {beside.feature for beside in two.values()} == {2, 3}
    assert len(paired_directions(all_of_them, features, directions, 64)) == 4


@pytest.fixture(scope="module")
def analysed(planted: LifeStore, module_settings: Settings, tmp_path_factory: Any) -> Settings:
    """A registry with an analysis that has features that mean something, and directions."""
    registry = Registry(module_settings)
    analysis = tmp_path_factory.mktemp("analysis")
    shutil.copytree(planted.folder, analysis / "lives")
    planted_store(analysis / "direction_lives", seed=1, true=range(0))
    for link in range(LINKS):
        densities = np.geomspace(1e-3, 0.25, D_SAE).astype(np.float32)
        write_arrays(
            link_folder(analysis / "direction_lives", link), {"feature_density": densities}
        )
    facts = {"kind": "analysis", "identity": "with directions", "chain": CHAIN}
    registry.reports.log("synthetic", "analyze", analysis, metrics={}, facts=facts)
    registry._client.create_registered_model(CHAIN)
    registry._client.create_model_version(CHAIN, str(analysis), tags={"identity": "a link"})
    return module_settings


def test_directions_are_explained_and_hold_no_more_than_shuffled_explanations(
    analysed: Settings, tmp_path: Path
) -> None:
    all_of_them = {"chain": CHAIN, "feature": list(range(D_SAE))}
    given = {**all_of_them, "at": ["145"], "directions": 10, "rules": True}
    explaining = open_explaining(explain_config(given), analysed)
    alone = open_explaining(explain_config({**given, "directions": 0}), analysed)
    assert explaining.identity != alone.identity
    extra = explaining.cost().requests - alone.cost().requests
    said = explaining.run()
    (run_id,) = explaining.registry.reports.explanations.of_chain(CHAIN)
    client = explaining.registry._client
    folder = Path(client.download_artifacts(run_id, "", dst_path=str(tmp_path)))
    tables = {path.stem: pd.read_parquet(path) for path in (folder / "tables").glob("*.parquet")}
    # Tables of features have features alone.
    assert len(tables["explanations"]) == D_SAE
    assert len(tables["explanation_scores"]) == D_SAE * LINKS
    theirs, scores = tables["direction_explanations"], tables["direction_scores"]
    assert 5 <= len(theirs) <= 10 and len(scores) == len(theirs) * LINKS
    # Densities of features are 0.01 to 0.02: the nearest directions, each once.
    assert theirs["direction"].is_unique and theirs["density"].between(4e-3, 0.06).all()
    assert theirs["paired_density"].between(0.0099, 0.0201).all()
    curves = tables["explanation_curves"].set_index(["measure", "lm_step"])
    true = [explaining.lives.manifest.links[link].lm_step for link in range(SINCE, UNTIL + 1)]
    assert (curves.loc["holds"].loc[true, "mean"] == 1).all()
    assert curves.loc["holds", "direction_mean"].mean() < 0.3
    assert (curves["directions"] <= len(theirs)).all()
    # The threshold is that of the features' shuffled explanations.
    threshold = tables["explanation_scores"]["shuffled_score"].quantile(QUANTILE)
    assert (scores["threshold"] == threshold).all()
    judged = scores[scores["score"].notna()]
    assert (judged["holds"] == (judged["score"] > threshold)).all()
    holds = theirs["since"].notna().mean()
    assert re.search(
        rf"Of {len(theirs)} explanations of random directions {100 * holds:.0f} % \(\d+ to", said
    )
    assert (folder / "figures" / "explanations.png").stat().st_size > 10_000
    metrics = client.get_run(run_id).data.metrics
    assert metrics["directions.holds.where_explained"] == pytest.approx(holds)
    assert metrics["holds.where_explained"] == 1
    lines = gzip.decompress((folder / "answers.jsonl.gz").read_bytes()).decode().splitlines()
    of_directions = [one for one in map(json.loads, lines) if "direction" in one]
    assert len(of_directions) == extra
    assert not any("feature" in one for one in of_directions)


def test_a_copied_registry_asks_nothing_and_explains_nothing(
    analysed: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(analysed.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    copied = Settings(
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", cache_dir=analysed.cache_dir, device="cpu"
    )
    explaining = open_explaining(explain_config({"chain": CHAIN, "rules": True}), copied)
    assert explaining.cost().requests > 0, "what it would cost is told"
    monkeypatch.setattr(ExplanationRun, "explain", None)
    with pytest.raises(UserError, match="is a copy of another registry"):
        explaining.run()


def held(since: list[float], unjudged: int = 0) -> pd.DataFrame:
    links = [float(not np.isnan(one)) for one in since] + [np.nan] * unjudged
    since = since + [np.nan] * unjudged
    return pd.DataFrame({"place": "last", "since": since, "links_held": links})


def test_shares_of_few_explanations_have_intervals() -> None:
    never = [np.nan]
    tables = {
        "explanations": held([1.0] * 8 + never * 8, unjudged=4),
        "direction_explanations": held([1.0] * 9 + never),
    }
    # Wilson's intervals of 8 of 16 and of 9 of 10, as textbooks have them.
    nothing = "shows nothing about features"
    assert said_of(tables) == (
        "20 explanations. Of 16 explanations of features made at the last link, 50 % (28 to 72) "
        "hold there. Half of those that hold do so at 1 link in a row or more. Of 10 explanations "
        "of random directions 90 % (60 to 98) hold. That is as often as features, as far as these "
        f"intervals tell: that explanations hold here {nothing}"
    )
    # 0 of 10 is at most 27.8 %: below 28 % of the features, and so beyond directions.
    beyond = tables | {"direction_explanations": held(never * 10)}
    assert nothing not in said_of(beyond) and "0 % (0 to 28) hold" in said_of(beyond)
    assert "random" not in said_of({"explanations": tables["explanations"]})


def test_what_was_not_judged_says_what_it_takes() -> None:
    scores = pd.DataFrame({"shuffled_score": [0.5] * 87 + [np.nan] * 9})
    unjudged = {"explanations": held([], 3), "direction_explanations": held([1.0])}
    said = said_of(unjudged | {"explanation_scores": scores})
    assert said.startswith("3 explanations. Whether they hold was not judged: ")
    assert "there were 87, and 100 are needed; more --features give more" in said
    assert "random" not in said, "nothing that features could be held against"


def test_where_nothing_was_found_no_class_is_counted() -> None:
    table = pd.DataFrame(
        {
            "place": "last",
            "feature": [4, 5, 6, 7],
            "label": ["token", "several_tokens", "nothing_found", "token"],
            "automatic_label": ["token", "several_tokens", "contextual", "several_tokens"],
        }
    )
    by_hand = pd.Series({6: "contextual", 9: "token"})
    found = agreement_table(table, by_hand).set_index("beside")
    assert found.loc["automatic", "features"] == 3 and found.loc["automatic", "nothing_found"] == 1
    assert found.loc["automatic", "agreement"] == pytest.approx(2 / 3)
    assert found.loc["by_hand", "features"] == 0 and np.isnan(found.loc["by_hand", "kappa"])
