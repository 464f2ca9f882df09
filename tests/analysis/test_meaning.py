"""Forms of tokens, coherence, senses, sheets and contexts on data whose answer is planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from saetrack.analysis.contexts.datapoints import token_ids_at
from saetrack.analysis.contexts.examples import CheckpointContexts, context_table
from saetrack.analysis.contexts.token_purity import PREFIX_LETTERS, purity, vocabulary_forms
from saetrack.analysis.contexts.top_contexts import Contexts
from saetrack.analysis.meaning.coherence import coherence, matched_null, window_embedder
from saetrack.analysis.meaning.labelling import agreement, read_sheet, write_sheet
from saetrack.analysis.meaning.polysemy import polysemy_loss
from tests.support.planted_semantics import FORM_TOKENS as TOKENS
from tests.support.planted_topics import LENGTH, ROWS, TOPICS, topical

FORMS, K = vocabulary_forms(TOKENS), 10


def test_forms_of_a_word_are_one_stem_and_cases_one_text() -> None:
    texts = [FORMS.texts[text] for text in FORMS.text_ids]
    assert texts[6:10] == ["firm", "firm", "\n", "\n\n"] and texts[4:6] == ["utiliz", "utiliz"]
    assert len({*FORMS.stem_ids[1:4]}) == 1 and FORMS.stem_ids[10] == FORMS.stem_ids[11]
    assert FORMS.stem_ids[4] != FORMS.stem_ids[1], "no word: Snowball does not know it"
    assert len({*FORMS.prefix_ids[1:6]}) == 1 and len("util") == PREFIX_LETTERS
    assert FORMS.prefix_ids[10] != FORMS.prefix_ids[11], "three letters are no beginning"


def test_purity_is_the_share_of_the_commonest() -> None:
    ids = np.array([[3, 3, 1, 3], [2, 1, 1, 2], [5, -1, -1, -1], [-1, -1, -1, -1]])
    found = purity(ids)
    np.testing.assert_array_equal(found.share, [0.75, 0.5, 1, np.nan])
    assert found.commonest.tolist() == [3, 1, 5, -1] and found.distinct.tolist() == [2, 2, 1, 0]


def test_an_embedder_is_the_weighted_mean_of_its_window() -> None:
    rows, embeddings = topical()
    counts = np.bincount(rows.reshape(-1), minlength=210) / rows.size
    weight = 1e-3 / (1e-3 + counts)
    weight[205] = 0
    mean = (counts * weight) @ embeddings.numpy() / (counts * weight).sum()
    embed = window_embedder(embeddings, rows, window=(3, 2), own_token=False, skip=[205])
    found = embed(np.array([4, 9]), np.array([1, 20])).numpy()
    for vector, row, at in zip(found, (4, 9), (1, 20), strict=True):
        ids = [rows[row, i] for i in range(max(at - 3, 0), at + 3) if i != at]
        slow = sum(weight[i] * (embeddings[i].numpy() - mean) for i in ids)
        np.testing.assert_allclose(vector, slow, atol=1e-6)


def test_coherence_finds_the_topic_and_nothing_where_there_is_none() -> None:
    rows, embeddings = topical()
    embed = window_embedder(embeddings, rows, window=(6, 6))
    null = matched_null(embed, rows, 210, K, seed=0, sets=200, frequency_classes=3)
    generator = np.random.default_rng(1)
    features = 60
    chosen = np.stack([generator.permutation(ROWS)[:K] for _ in range(features)])
    chosen[0] = np.arange(K) * TOPICS + 3  # rows of topic 3
    positions = generator.integers(0, LENGTH, chosen.shape)
    chosen[1, 1:], chosen[2] = -1, -1
    ids = token_ids_at(rows, chosen, positions)
    table = coherence(embed, chosen, positions, ids, null)
    assert table["coherence_z"][0] > 8
    assert table["coherence_z"][1:3].isna().all()
    others = table["coherence_z"][3:]
    assert abs(others.mean()) < 0.4 and 0.6 < others.std() < 1.5
    again = matched_null(embed, rows, 210, K, seed=0, sets=200, frequency_classes=3)
    assert np.array_equal(null.products, again.products)


def test_the_random_sets_are_those_of_a_slow_evaluation() -> None:
    rows, embeddings = topical()
    embed = window_embedder(embeddings, rows, window=(4, 4))
    null = matched_null(embed, rows, 210, 4, seed=5, sets=6, frequency_classes=2)
    generator = np.random.default_rng(5)
    flat, draws = rows.reshape(-1), []
    for b in range(2):
        eligible = np.flatnonzero(null.frequency_class[flat] == b)
        assert 0.3 < len(eligible) / len(flat) < 0.7
        draws.append([generator.choice(eligible, 4, replace=False) for _ in range(6)])
    ids = np.array([[210 - 1, 208, 3, 5], [0, 1, -1, -1], [209, 208, 207, -1]])
    found = null.similarities(ids)
    for feature, members in enumerate(ids):
        classes = null.frequency_class[members[members >= 0]]
        for number in range(6):
            places = np.concatenate([draws[b][number][: (classes == b).sum()] for b in range(2)])
            units = embed(*np.divmod(places, LENGTH)).double()
            units = torch.nn.functional.normalize(units, dim=1).numpy()
            gram = units @ units.T
            slow = (gram.sum() - np.trace(gram)) / (len(places) * (len(places) - 1))
            assert found[feature, number] == pytest.approx(slow, abs=1e-5)


def test_polysemy_is_lost_where_recall_falls_and_contexts_close_in() -> None:
    kinds = ["maintaining"] * 4 + ["shifting"]
    patterns = pd.DataFrame({"feature": range(5), "pattern": kinds, "final_label": "token"})
    recalls = np.array([0.9, 0.9, 0.9, 0.3, 0.9]), np.array([0.3, 0.8, 0.3, 0.1, 0.1])
    closeness = np.full(5, 0.1), np.array([0.4, 0.4, 0.1, 0.4, 0.4])
    table = polysemy_loss(patterns, recalls, closeness)
    assert table["feature"].tolist() == [0, 1, 2, 3]
    assert table["lost_senses"].tolist() == [True, False, False, False]
    of_several = polysemy_loss(patterns.assign(final_label="several_tokens"), recalls, closeness)
    assert of_several.empty


def decode(ids: list[int]) -> str:
    return "".join(TOKENS[i] for i in ids)


def some_examples() -> pd.DataFrame:
    rows = np.arange(40).reshape(4, 10) % len(TOKENS)
    n = 8
    contexts = Contexts(
        rows=np.array([[1, 0, 2]] * (n - 1) + [[3, -1, -1]], np.int32),
        positions=np.array([[4, 5, 6]] * (n - 1) + [[0, -1, -1]], np.int32),
        feature_acts=np.array([[3.0, 2, 1]] * (n - 1) + [[1.0, 0, 0]], np.float32),
        counts=np.array([3] * (n - 1) + [1]),
        fires=np.full(n, 9),
        tokens=40,
    )
    labels = pd.DataFrame({"label": ["token", "concept"] * 4})
    checkpoint = CheckpointContexts(512, 3, contexts, labels)
    return context_table(np.arange(n), [checkpoint], rows, decode, per_cell=2)


def test_contexts_are_laid_out_by_feature_and_checkpoint() -> None:
    table = some_examples()
    assert len(table) == 7 * 2 + 1 and table["rank"].tolist() == [1, 2] * 7 + [1]
    assert "⟦Sea⟧" in table["text"][0] and table["label"].tolist()[-1] == "concept"
    wide = table.pivot_table("text", ["feature", "rank"], "lm_step", aggfunc="first")
    assert list(wide.columns) == [512] and len(wide) == 15


def test_a_sheet_goes_out_blind_and_comes_back_as_agreement(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    write_sheet(some_examples(), path, seed=3)
    text = path.read_text()
    assert "concept" not in text and "token" not in text
    sheet = pd.read_csv(path, dtype=str)
    assert len(sheet) == 8 and sheet["feature"].tolist() != sorted(sheet["feature"])
    with pytest.raises(ValueError, match="no row has a label"):
        read_sheet(path)
    hand = {
        0: "Token",
        1: "weak concept",
        2: "token",
        3: "concept",
        4: "several-tokens",
        5: "concept",
    }
    sheet["label"] = sheet["feature"].astype(int).map(hand).fillna("")
    sheet.to_csv(path, index=False)
    automatic = pd.Series(["token", "concept"] * 4)
    found = agreement(read_sheet(path), automatic)
    # Observed 4/6; by chance 2/6 * 3/6 + 2/6 * 3/6.
    assert found.kappa == pytest.approx((4 / 6 - 1 / 3) / (1 - 1 / 3))
    assert (found.features, found.unlabelled) == (6, 2)
    assert found.agreement == pytest.approx(4 / 6)
    assert found.confusion.loc["weak_concept", "concept"] == 1
    with pytest.raises(ValueError, match=r"sheet without an automatic label: 3, 4, 5$"):
        agreement(read_sheet(path), automatic[:3])
    numbered = pd.Series("token", index=range(14))
    with pytest.raises(ValueError, match=r"label: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 4 more$"):
        agreement(numbered, automatic[:0])
    spreadsheet = tmp_path / "spreadsheet.csv"  # as some write it: semicolons, a mark at its begin
    sheet.to_csv(spreadsheet, index=False, sep=";", encoding="utf-8-sig")
    pd.testing.assert_series_equal(read_sheet(spreadsheet), read_sheet(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feature,label\n1,token\n2,tokn\n3,?\n", r"found row 3 'tokn', row 4 '\?'$"),
        ("feature,meaning\n1,token\n", "no column label$"),
        ("feature,label\n1,token\n1,contextual\n", "feature 1 is there twice$"),
        ("feature,label\nx,token\n", "every row's feature must be a number$"),
        ("", "not a sheet: No columns to parse from file$"),
    ],
)
def test_a_bad_sheet_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sheet.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_sheet(path)
    assert "\n" not in str(caught.value)
