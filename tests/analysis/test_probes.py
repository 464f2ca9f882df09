"""Probes of few features: labels by hand, plain formulas, and planted activations."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score

from saetrack.analysis.figures.probes import probes_figure
from saetrack.analysis.probes.logistic import auc, scores_of_few, scores_of_many, standardised
from saetrack.analysis.probes.pools import (
    KNOWN,
    NEW,
    TEXTS,
    Pool,
    split,
    text_pool,
    token_pools,
    why_left_out,
)
from saetrack.analysis.probes.sparse_probes import Examples, chosen_features, probe_table
from saetrack.analysis.probes.tables import best_feature_table, curve_table, onset_table
from saetrack.analysis.probes.token_labels import row_labels
from saetrack.utils.figures.steps import Setting
from tests.support.planted_figures import kept_figures

N, D_SAE, D_IN = 900, 60, 12


def labels_of(texts: list[str | None], task: str) -> dict[str, bool]:
    """By text, of those tokens that have a label."""
    found = row_labels(texts)
    return {str(text): of[task] for text, of in zip(texts, found, strict=True) if task in of}


def test_labels_of_what_tokens_are() -> None:
    texts = [
        None,
        "The",
        " qu",
        "ick",
        " Fox",
        "\u00df",
        "\ufffd",
        "er",
        "7",
        " 10",
        "x1",
        "\u4e2d",
    ]
    assert labels_of(texts, "capital") == {"The": True, " qu": False, " Fox": True, "x1": False}
    assert labels_of(texts, "word_start") == {
        "The": True,
        " qu": True,
        "ick": False,
        " Fox": True,
        "\u00df": False,
        "x1": True,
        "\u4e2d": True,
    }
    # A part of a character says neither whether a word goes on, nor what case it has.
    assert labels_of(texts, "digit") == {
        "The": False,
        " qu": False,
        "ick": False,
        " Fox": False,
        "\u00df": False,
        "er": False,
        "7": True,
        " 10": True,
        "\u4e2d": False,
    }


def test_labels_of_where_lines_begin() -> None:
    texts = ["unknown", "\n", "if", " x", ":\n", "    ", " return", "\n\t", "y", "\n\n", " z", None]
    assert labels_of([*texts, "new", "\n", "line"], "indented") == {
        "if": False,
        " return": True,
        "y": True,
        " z": True,
        "line": False,
    }


def test_labels_of_what_follows() -> None:
    texts = ["one", " two", ",", " thr", "ee", ".", "x", "_", "y", " ...", None, "z"]
    assert labels_of(texts, "before_punctuation") == {"one": False, " two": True, "ee": True}


@pytest.mark.parametrize(
    ("texts", "inside"),
    [
        (["use", " `", "f", "`", " here"], {"f"}),
        (["use", " ``", "a", "`", "b", "``", " here"], {"a", "b"}),
        (["use", " `", "`", "a", "``", " here"], {"a"}),
        (["open", " `", "a", "\n", "\n", "after"], {"a"}),
        (["```", "py", "\n\n", "code", "\n", "```", "\n", "after"], {"py", "code"}),
        (["`", "a", None, "b"], {"a"}),
    ],
)
def test_labels_of_spans_of_code(texts: list[str | None], inside: set[str]) -> None:
    found = labels_of(texts, "code")
    words = {text for text in texts if text and text.strip().isalpha()}
    assert set(found) == words
    assert {text for text, label in found.items() if label} == inside


def test_rows_without_backticks_have_no_label_of_code() -> None:
    assert labels_of(["plain", " text"], "code") == {}


def test_pools_and_splits_are_balanced_apart_and_the_same_again() -> None:
    generator = np.random.default_rng(0)
    texts = [None, *(f" {'A' if n % 3 else 'a'}{chr(97 + n % 26)}" for n in range(200))]
    # Token 1 makes up half of the text.
    rows = np.where(generator.random((160, 32)) < 0.5, 1, generator.integers(1, 201, (160, 32)))
    rows[:, 0] = 0
    kept = rows > 0
    kept[:, 31] = False
    pools = {of.pool.task: of for of in token_pools(rows, kept, texts, 1000, seed=3)}
    found = pools["capital"]
    pool = found.pool
    assert len(pool.labels) == 1000 and pool.labels.sum() == 500
    assert pool.tokens is not None
    assert (pool.tokens == rows[found.rows, found.positions]).all()
    assert kept[found.rows, found.positions].all()
    assert (pool.labels == [str(texts[token])[1] == "A" for token in pool.tokens]).all()
    assert np.bincount(pool.tokens).max() == 10, "2 % of a class"
    of_seed = split(pool, 0)
    parts = {"train": of_seed.train, **of_seed.tests}
    assert list(parts) == ["train", KNOWN, NEW]
    for part in parts.values():
        assert 2 * pool.labels[part].sum() == len(part) >= 60
    groups = {name: set(found.rows[part] // 4) for name, part in parts.items()}
    tokens = {name: set(pool.tokens[part]) for name, part in parts.items()}
    assert not groups["train"] & (groups[KNOWN] | groups[NEW])
    assert not tokens["train"] & tokens[NEW]
    again = token_pools(rows, kept, texts, 1000, seed=3)
    assert np.array_equal(again[0].positions, found.positions)
    assert np.array_equal(split(pool, 0).train, of_seed.train)
    assert not np.array_equal(split(pool, 1).train, of_seed.train)
    assert why_left_out(pool, [0, 1]) == ""
    assert why_left_out(pools["digit"].pool, [0]) == "0 of a class for training, fewer than 20"


def test_equal_texts_are_never_on_both_sides() -> None:
    texts = [f"text {number // 2}" for number in range(600)]
    labels = np.arange(600) % 6 < 2
    pool, chosen = text_pool("some", texts, labels, 1_000, seed=0)
    assert len(chosen) == 400 and pool.labels.sum() == 200
    of_seed = split(pool, 0)
    assert set(of_seed.tests) == {TEXTS}
    sides = [{texts[chosen[n]] for n in part} for part in (of_seed.train, of_seed.tests[TEXTS])]
    assert not sides[0] & sides[1] and len(sides[1]) > 50


def test_few_columns_as_scikit_learn_has_it() -> None:
    generator = np.random.default_rng(0)
    train, test = generator.exponential(size=(300, 3)), generator.exponential(size=(100, 3))
    train[:, 2] = test[:, 2] = 0  # a column that is not there
    noisy = train[:, 0] + generator.normal(0, 0.5, 300) > 1
    for labels in (noisy, train[:, 1] > 1, np.arange(300) < 20):
        x, of_tests = standardised(train, test)
        probe = LogisticRegression(C=100.0, tol=1e-6, max_iter=1000).fit(x, labels)
        expected = probe.decision_function(of_tests)
        found = scores_of_few(train, labels, test)
        np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02)


def test_area_under_the_curve_as_scikit_learn_has_it() -> None:
    generator = np.random.default_rng(1)
    labels = generator.random(200) < 0.3
    scores = np.round(labels + generator.normal(size=200), 1)  # with ties
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    assert np.isnan(auc(scores, np.ones(200, bool)))


def planted(seed: int = 0, *, reads: int = 17) -> tuple[Pool, Examples]:
    """Features that fire at random, one that tells the classes, and one that half does."""
    generator = np.random.default_rng(seed)
    labels = np.arange(N) % 2 == 0
    acts = np.where(generator.random((N, D_SAE)) < 0.1, generator.exponential(size=(N, D_SAE)), 0)
    acts *= np.geomspace(0.01, 100, D_SAE)  # no scale is like another
    fires = np.where(labels, 0.9, 0.05)
    acts[:, reads] = np.where(generator.random(N) < fires, generator.exponential(size=N) + 0.2, 0)
    fires = np.where(labels, 0.5, 0.2)
    acts[:, 40] = np.where(generator.random(N) < fires, generator.exponential(size=N), 0) * 1e-3
    x = generator.normal(size=(N, D_IN)) + 0.6 * labels[:, None]
    pool = Pool("planted", labels, np.arange(N) // 3, generator.integers(0, 300, N))
    return pool, Examples(x, sparse.csr_array(acts.astype(np.float32)))


def plain_choice(acts: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Every feature by the difference of its class means, as sae-probes orders them."""
    normed = acts / (np.abs(acts).sum(axis=0) / ((acts != 0).sum(axis=0) + 1e-6) + 1e-6)
    return np.argsort(-np.abs(normed[labels].mean(axis=0) - normed[~labels].mean(axis=0)))


def plain_probe(
    x: np.ndarray, labels: np.ndarray, of_tests: np.ndarray, truth: np.ndarray
) -> tuple[float, float]:
    """As sae-probes: C by the AUC on the last 100 training examples, columns as they are."""
    best, best_c = -1.0, 1.0
    for c in np.logspace(5, -5, 10):
        probe = LogisticRegression(C=c, max_iter=1000).fit(x[:-100], labels[:-100])
        found = roc_auc_score(labels[-100:], probe.predict_proba(x[-100:])[:, 1])
        if found > best:
            best, best_c = found, c
    probe = LogisticRegression(C=best_c, max_iter=1000).fit(x, labels)
    scores = probe.predict_proba(of_tests)[:, 1]
    return accuracy_score(truth, probe.predict(of_tests)), roc_auc_score(truth, scores)


def test_probes_are_those_of_sae_probes() -> None:
    pool, examples = planted()
    dense = examples.feature_acts.toarray()
    found = probe_table(pool, examples, np.arange(D_SAE), [0], lm_step=8).set_index(
        ["probe", "k", "tested_on"]
    )
    of_seed = split(pool, 0)
    train = np.random.default_rng(0).permutation(of_seed.train)
    labels = pool.labels[train]
    order = plain_choice(dense[train], labels)
    assert list(chosen_features(examples.feature_acts[train], labels, 5)) == list(order[:5])
    assert list(order[:2]) == [17, 40]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tested_on, part in of_seed.tests.items():
            truth = pool.labels[part]
            for k in (1, 2, 5):
                mine = found.loc[("features", k, tested_on)]
                assert mine["features"] == " ".join(map(str, order[:k]))
                columns = dense[:, order[:k]]
                plain = plain_probe(columns[train], labels, columns[part], truth)
                # Its penalty depends on scales, and is chosen by AUC, which knows no threshold.
                assert mine["accuracy"] > plain[0] - 0.02
                assert mine["auc"] > plain[1] - 0.01
                if k == 1:
                    assert mine["accuracy"] == pytest.approx(plain[0], abs=0.01)
                    assert mine["auc"] == pytest.approx(plain[1], abs=0.002)
            mine = found.loc[("residual", 0, tested_on)]
            plain = plain_probe(examples.x[train], labels, examples.x[part], truth)
            assert mine["accuracy"] == pytest.approx(plain[0], abs=0.02)
            assert mine["auc"] == pytest.approx(plain[1], abs=0.01)
            assert (mine["n_train"], mine["n_test"]) == (len(train), len(part))
    assert found.loc[("features", 1), "accuracy"].min() > 0.85
    for control in ("random features", "shuffled labels"):
        assert found.loc[control, "accuracy"].between(0.35, 0.65).all(), control
    assert (found.loc["majority class", "accuracy"] == 0.5).all()


def test_the_penalty_of_many_columns_is_chosen() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(240) % 2 == 0
    x = generator.normal(size=(240, 200))
    x[:, :40] += 0.35 * labels[:, None]
    test = generator.normal(size=(400, 200))
    truth = np.arange(400) % 2 == 0
    test[:, :40] += 0.35 * truth[:, None]
    weak = LogisticRegression(C=1.0, max_iter=1000).fit(x, labels).decision_function(test)
    assert auc(scores_of_many(x, labels, test, 0), truth) > auc(weak, truth) + 0.02


def test_random_features_are_live_ones_and_the_same_at_each_link() -> None:
    pool, examples = planted()
    some, fewer = np.arange(20, 60), np.arange(30, 60)
    drawn = []
    for live in (some, fewer):
        found = probe_table(pool, examples, live, [0], lm_step=0)
        texts = found.loc[(found["probe"] == "random features") & (found["k"] == 5), "features"]
        drawn.append([int(feature) for feature in texts.iloc[0].split()])
        assert set(drawn[-1]) <= set(live.tolist())
    assert [feature for feature in drawn[0] if feature >= 30] == [
        feature for feature in drawn[1] if feature in drawn[0]
    ]


def along() -> pd.DataFrame:
    """Of four links: the first reads nothing, the second by feature 3, the others by 17."""
    parts = []
    for step, reads in ((0, None), (1, 3), (4, 17), (16, 17)):
        pool, examples = planted(step, reads=17 if reads is None else reads)
        if reads is None:
            shuffled = np.random.default_rng(0).permutation(N)
            examples = Examples(examples.x[shuffled], examples.feature_acts[shuffled])
        parts.append(probe_table(pool, examples, np.arange(D_SAE), [0, 1], step))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def probes() -> pd.DataFrame:
    return along()


def test_since_when_a_task_is_read_and_by_which_feature(probes: pd.DataFrame) -> None:
    curves = curve_table(probes)
    one = curves[(curves["probe"] == "features") & (curves["k"] == 1)]
    of = probes[(probes["probe"] == "features") & (probes["k"] == 1) & (probes["lm_step"] == 4)]
    of = of[of["tested_on"] == NEW]["accuracy"]
    row = one[(one["tested_on"] == NEW) & (one["lm_step"] == 4)].iloc[0]
    assert (row["lowest"], row["highest"]) == (of.min(), of.max())
    assert row["accuracy"] == pytest.approx(of.mean())
    onsets = onset_table(curves).set_index(["probe", "k", "tested_on"]).sort_index()
    assert onsets.loc[("features", 1), "read_since"].tolist() == [1, 1]
    assert set(onsets.loc[("residual", 0), "near_end_since"]) <= {1, 4, 16}
    assert (onsets["at_first"] < 0.65).all() and (onsets["at_end"] > 0.8).all()
    best = best_feature_table(probes).set_index("lm_step")
    assert best.loc[[1, 4, 16], "feature"].tolist() == [3, 17, 17]
    assert best["is_of_final"].tolist() == [False, False, True, True]
    assert best["is_of_before"].tolist() == [False, False, False, True]
    assert best.loc[[4, 16], "final_in_five"].all() and not best.loc[1, "final_in_five"]
    assert (best.loc[[1, 4, 16], "splits"] == 2).all()


def test_what_is_read_no_more_has_no_since(probes: pd.DataFrame) -> None:
    turned = probes.assign(lm_step=16 - probes["lm_step"])
    onsets = onset_table(curve_table(turned))
    assert onsets["read_since"].isna().all()


def test_the_figure_draws_means_their_range_and_one_panel_for_all_texts(
    probes: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = probes[probes["tested_on"] == NEW].assign(tested_on=TEXTS)
    sets = [texts.assign(task="one"), texts.assign(task="two", accuracy=texts["accuracy"] - 0.1)]
    curves = curve_table(pd.concat([probes, *sets]))
    figures = kept_figures(monkeypatch)
    probes_figure(curves, Setting("plain"), Path("probes"))
    shown = [axes for axes in figures[0].axes if axes.get_title()]
    assert [axes.get_title() for axes in shown] == ["planted", "texts, mean of 2 sets"]
    mean = curves[(curves["probe"] == "features") & (curves["k"] == 1)]
    mean = mean[mean["tested_on"] == TEXTS].groupby("lm_step")["accuracy"].mean()
    lines = [line.get_ydata() for line in shown[1].lines if len(line.get_xdata()) == 4]
    assert any(np.allclose(values, mean) for values in lines)
