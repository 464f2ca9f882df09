"""A store is read in place, and refused in a line if it is not as its manifest says."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saetrack.analysis.life_store.layout import (
    array_bytes,
    link_folder,
    planned_bytes,
    record_arrays,
)
from saetrack.analysis.life_store.reader import LifeStore
from saetrack.utils.errors import UserError
from tests.support.life_store import small_store, write_store


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def store(written: Path) -> LifeStore:
    return LifeStore(written)


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "lives"))


def test_a_life_is_what_the_arrays_hold(store: LifeStore) -> None:
    feature = int(np.flatnonzero(store.of_chain("match_features")[:, 0] >= 0)[3])
    life = json.loads(json.dumps(store.life(feature), allow_nan=False))
    assert len(life["links"]) == len(store.manifest.links) == 8
    for link, moment in enumerate(life["links"]):
        assert life["labels"][link] == store.column(link, "label")[feature]
        assert moment["histogram"] == store.column(link, "histogram")[feature].tolist()
        density = life["curves"]["feature_density"][link]
        assert density == pytest.approx(store.column(link, "feature_density")[feature], rel=1e-4)
        for context in moment["contexts"]:
            row = store.tokens[context["row"]]
            last = context["first"] + len(context["ids"])
            assert context["ids"] == row[context["first"] : last].tolist()
            assert len(context["acts"]) == len(context["ids"]) <= 32
            assert context["first"] <= context["position"] < last
            own = context["acts"][context["position"] - context["first"]]
            assert abs(own / 255 * life["curves"]["max_act"][link] - context["act"]) < 0.05
    assert life["curves"]["cosine_to_previous"][0] is None
    assert {match["chain"] for match in life["matches"]} == {store.manifest.matches[0].chain}


def test_a_window_ends_where_its_row_does(store: LifeStore) -> None:
    for position in (0, 5, 64, 127):
        first, ids = store.window(3, position)
        assert first == max(position - 20, 0)
        assert ids == store.tokens[3, first : position + 12].tolist()
    with pytest.raises(UserError, match="no position 128 of row 3"):
        store.window(3, 128)


@pytest.mark.parametrize("feature", [-1, 300])
def test_a_feature_that_is_not_there_is_one_line(store: LifeStore, feature: int) -> None:
    for ask in (store.life, lambda number: store.contexts(number, 0)):
        with pytest.raises(UserError, match=f"feature={feature}: must be a number from 0 to 299"):
            ask(feature)


def replaced(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, array)


def pickled(folder: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(folder / "owned"),)

    np.save(folder / "of_chain/pattern.npy", np.array([Payload()], object), allow_pickle=True)


def bare_pickle(folder: Path) -> None:
    (folder / "of_chain/pattern.npy").write_bytes(pickle.dumps([1, 2]))


def linked(folder: Path) -> None:
    (folder / "of_chain/map.npy").unlink()
    (folder / "of_chain/map.npy").symlink_to("/etc/hostname")


def cut(folder: Path) -> None:
    path = link_folder(folder, 3) / "histogram.npy"
    path.write_bytes(path.read_bytes()[:-8])


def archive(folder: Path) -> None:
    np.savez(folder / "tokens.npz", a=np.zeros(2))
    (folder / "tokens.npz").rename(folder / "tokens.npy")


def manifest(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "chain.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def array_of(name: str, facts: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "chain.json"
        values = json.loads(path.read_text())
        values["arrays"]["links"][name] = facts
        path.write_text(json.dumps(values))

    return change


@pytest.mark.parametrize(
    ("poison", "line"),
    [
        (pickled, r"pattern\.npy: is no array that is read here"),
        (bare_pickle, r"pattern\.npy: is no array that is read here"),
        (linked, r"map\.npy: missing, or no file"),
        (cut, r"0003/histogram\.npy: is no array"),
        (archive, r"tokens\.npy: is no array but an archive"),
        (lambda folder: (link_folder(folder, 7) / "label.npy").unlink(), r"label\.npy: missing"),
        (lambda folder: shutil.rmtree(link_folder(folder, 2)), r"0002/.*: missing"),
        (replaced("of_chain/pattern.npy", np.zeros(301, "u1")), r"uint8\[301\], not u1\[300\]"),
        (replaced("of_chain/pattern.npy", np.zeros(300, "i8")), r"int64\[300\], not u1"),
        (replaced("of_chain/formation_link.npy", np.zeros(300, ">i2")), r">i2\[300\], not i2"),
        (
            replaced("of_chain/map.npy", np.asfortranarray(np.zeros((300, 2), "f4"))),
            r"map\.npy: .*not f4",
        ),
        (lambda folder: (folder / "chain.json").unlink(), r"chain\.json: missing"),
        (lambda folder: (folder / "chain.json").write_text("{"), r"cannot be read as JSON"),
        (lambda folder: (folder / "chain.json").write_text("[" * 10**5), r"cannot be read as"),
        (lambda folder: (folder / "chain.json").write_text("[]"), r"chain\.json: parameters=\[\]"),
        (manifest(version=2), r"version=2: is not read here"),
        (manifest(d_sae=301), r"arrays\.links\.label=u1\[300\]: must be u1\[301\]"),
        (manifest(d_sae="300"), r"d_sae='300': input should be a valid integer"),
        (manifest(extra=1), r"extra=1: unknown name"),
        (manifest(live=[1]), r"8 links, but 1 values"),
        (manifest(labels_of_directions=[[1] * 8] * 7), r"must have 8 counts at each of 8 links"),
        (manifest(links=[]), r"links=\[\]: must have 1 or more"),
        (array_of("../../etc/passwd", {"dtype": "u1", "shape": [3]}), r"passwd.*should match"),
        (array_of("label", {"dtype": "O", "shape": [300]}), r"dtype='O'"),
    ],
)
def test_what_is_not_as_it_says_is_refused_in_a_line(
    copied: Path, poison: Callable[[Path], None], line: str
) -> None:
    poison(copied)
    with pytest.raises(UserError, match=line) as caught:
        LifeStore(copied)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert not (copied / "owned").exists()


@pytest.mark.parametrize("texts", ["{}", "[1, 2]", '["a"]'])
def test_a_vocabulary_that_is_none_is_refused(copied: Path, texts: str) -> None:
    (copied / "vocabulary.json").write_text(texts)
    store = LifeStore(copied)
    with pytest.raises(UserError, match=r"vocabulary\.json: (must be|has)"):
        _ = store.vocabulary


def test_contexts_that_are_nowhere_are_refused(copied: Path) -> None:
    fires = int(LifeStore(copied).column(7, "max_act").argmax())
    for name, value in (("context_rows", 10**6), ("context_positions", 60_000)):
        path = link_folder(copied, 7) / f"{name}.npy"
        whole = np.load(path)
        np.save(path, np.full_like(whole, value))
        store = LifeStore(copied)
        with pytest.raises(UserError, match="has no position"):
            store.life(fires)
        np.save(path, whole)


def test_an_analysis_may_add_curves_that_no_page_knows(copied: Path) -> None:
    path = copied / "chain.json"
    values = json.loads(path.read_text())
    new = dict(values["columns"][1], name="logit", title="Logit", control=None)
    values["columns"].append(new)
    values["arrays"]["links"]["logit"] = {"dtype": "f4", "shape": [300]}
    path.write_text(json.dumps(values))
    for link in range(8):
        np.save(link_folder(copied, link) / "logit.npy", np.full(300, link, "f4"))
    assert LifeStore(copied).life(5)["curves"]["logit"] == list(range(8))


def test_the_size_is_known_beforehand(written: Path) -> None:
    arrays = [path for path in written.rglob("*.npy") if path.name != "tokens.npy"]
    heads_bytes = 128 * len(arrays)
    assert sum(path.stat().st_size for path in arrays) - heads_bytes == planned_bytes(300, 8)
    assert planned_bytes(65_536, 29, tokens=4_194_304) < 3e9


def test_a_large_store_is_opened_without_being_read(tmp_path: Path) -> None:
    """Sparse files in the arrays' places: they take no room, and opening reads none of them."""
    folder = write_store(tmp_path / "lives", d_sae=64, links=3, rows=50)
    d_sae = 50_000
    path = folder / "chain.json"
    values = json.loads(path.read_text()) | {"d_sae": d_sae}
    for where, folders in (
        ("links", [link_folder(folder, link) for link in range(3)]),
        ("of_chain", [folder / "of_chain"]),
    ):
        for name, facts in values["arrays"][where].items():
            facts["shape"][0] = d_sae
            for of_array in folders:
                shape = tuple(facts["shape"])
                np.lib.format.open_memmap(
                    of_array / f"{name}.npy", "w+", f"<{facts['dtype']}", shape
                )
    path.write_text(json.dumps(values))
    store = LifeStore(folder)
    assert store.column(2, "label").shape == (d_sae,)
    assert len(store.contexts(49_999, 2)) == 20
    records = record_arrays(d_sae, 20).values()
    apparent = sum(file.stat().st_size for file in folder.rglob("*.npy"))
    assert apparent > 3 * sum(map(array_bytes, records))
    assert sum(file.stat().st_blocks * 512 for file in folder.rglob("*.npy")) < apparent / 20
