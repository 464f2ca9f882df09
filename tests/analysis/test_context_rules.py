"""The authors' rule for datapoints beside ours: what both have, and what the other changes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from saetrack.analysis.contexts.context_rules import datapoint_overlap, rules_side_by_side
from saetrack.analysis.contexts.top_contexts import Contexts, Firings, TokenBatch, TopContexts
from saetrack.analysis.pipeline.config import load_analyze_config

BOS = 0
# Row 1 repeats row 0; the feature fires on 5 and, less, on BOS.
ROWS = np.array([[BOS, 5, 5, 2], [BOS, 5, 5, 2], [BOS, 3, 4, 5]])
ACTS = np.where(ROWS == 5, 2.0, 0) + np.where(ROWS == BOS, 1.0, 0)


def contexts(**choices: object) -> Contexts:
    top = TopContexts(2, 4, **choices)  # type: ignore[arg-type]
    tokens = torch.from_numpy(ACTS.reshape(-1)).nonzero()[:, 0]
    acts = torch.from_numpy(ACTS.reshape(-1))[tokens]
    top.add(Firings(torch.zeros_like(tokens), tokens, acts), TokenBatch(np.arange(3), ROWS))
    return top.result()


def test_the_authors_rule_takes_repeats_neighbours_and_bos() -> None:
    distinct = contexts(window=(1, 0))
    authors = contexts(window=None, rows_count_once=False)
    assert list(zip(distinct.rows[0], distinct.positions[0], strict=True))[:2] == [(0, 1), (2, 3)]
    assert list(zip(authors.rows[0], authors.positions[0], strict=True)) == [
        (0, 1),
        (0, 2),
        (1, 1),
        (1, 2),
    ]
    features = np.array([0, 1])
    found = datapoint_overlap(distinct, authors, features, ROWS == BOS)
    assert found["feature"].tolist() == [0, 1]
    assert found["overlap"].tolist() == [1 / 4, 0]  # the second fires nowhere
    assert found["same_row"].tolist() == [2 / 4, 0] and found["bos"].tolist() == [0, 0]
    all_of_it = TopContexts(1, 8, window=None, rows_count_once=False)
    tokens = torch.arange(12)
    all_of_it.add(
        Firings(torch.zeros_like(tokens), tokens, torch.from_numpy(ACTS.reshape(-1))),
        TokenBatch(np.arange(3), ROWS),
    )
    longer = all_of_it.result()
    found = datapoint_overlap(distinct, longer, features[:1], ROWS == BOS)
    assert found["overlap"][0] == 2 / 8 and found["bos"][0] == 3 / 8


def test_what_the_rule_changes_is_paired_by_feature() -> None:
    of_features = pd.DataFrame(
        {
            "feature": [0, 1, 2, 3],
            "overlap": [1.0, 0.6, 0.2, 0.6],
            "same_row": [0.0, 0.4, 0.0, 0.0],
            "bos": 0.0,
            "label": ["token", "token", "concept", "contextual"],
            "label_authors": ["token", "concept", "concept", "contextual"],
        }
    )
    ours = pd.DataFrame({"feature": range(4), "m": [0.1, 0.2, 0.9, 0.4], "rule": "distinct"})
    theirs = ours.assign(rule="authors", m=ours["m"] + 0.3)
    table = rules_side_by_side(of_features, pd.concat([ours, theirs]), ["m"], seed=0)
    table = table.set_index("quantity")
    authors = table["authors"]
    assert authors["datapoints in both lists, mean"] == pytest.approx(0.6)
    assert authors["datapoints in both lists, least"] == 0.2
    assert authors["features with the same label"] == 0.75
    assert table.loc["features labelled concept", ["distinct", "authors"]].tolist() == [1, 2]
    of_measure = table.loc["median m"]
    assert of_measure["distinct"] == pytest.approx(0.3) and of_measure["authors"] == pytest.approx(
        0.6
    )
    assert of_measure[["difference", "low", "high"]].to_list() == pytest.approx([0.3] * 3)


def test_bos_follows_the_rule_unless_it_is_said() -> None:
    for rule, said, left_out in (
        ("distinct", None, True),
        ("both", None, True),
        ("authors", None, False),
        ("authors", True, True),
        ("distinct", False, False),
    ):
        config = load_analyze_config({"chain": "x", "context_rule": rule, "exclude_bos": said})
        assert config.leaves_bos_out is left_out
