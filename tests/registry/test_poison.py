"""Whatever a registry, a hub or a cache holds: used if it is what it must be, else one line."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file

from saetrack.analysis.pipeline.checkpoint_result import load_contexts
from saetrack.chain.config import TrackConfig, load_config
from saetrack.chain.plan import Chain, Track
from saetrack.data.corpus import prepare_corpus
from saetrack.lm.checkpoints import download, hub
from saetrack.lm.checkpoints.checkpoint_files import present_files
from saetrack.lm.checkpoints.files import CHECKPOINT
from saetrack.lm.checkpoints.folder_layout import find_lm
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.lm.hook import Hook
from saetrack.lm.hooked import HookedLM
from saetrack.registry import Registry
from saetrack.registry.chain_run import ChainRuns
from saetrack.registry.received import require_no_paths
from saetrack.training.state import load_state, save_state
from saetrack.utils.errors import UserError
from saetrack.utils.files import content_hash, file_sha256
from saetrack.utils.settings import Settings
from tests.support.live_folder import shard, write
from tests.support.nano import NANO_TRACK
from tests.support.running import run_jobs

WEIGHTS, CFG, DENSITY = "sae_weights.safetensors", "cfg.json", "feature_density.safetensors"


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def one_line(caught: pytest.ExceptionInfo[UserError], *parts: str) -> None:
    text = str(caught.value)
    assert "\n" not in text
    assert all(part in text for part in parts), text


@pytest.fixture(scope="module")
def registered(module_settings: Settings, track: Track, source: CheckpointSource) -> Path:
    """The files of a chain's first link, as they were registered."""
    run_jobs(track.jobs[:1], source, Registry(module_settings))
    (weights,) = module_settings.artifact_dir.rglob(WEIGHTS)
    return weights.parent


@pytest.fixture
def folder(
    registered: Path, tmp_path: Path, module_settings: Settings, chain: Chain
) -> Iterator[Path]:
    """The same, to be poisoned; healed afterwards."""
    shutil.copytree(registered, tmp_path / "healthy")
    yield registered
    shutil.rmtree(registered)
    shutil.copytree(tmp_path / "healthy", registered)
    vouch(module_settings, chain, registered)


def vouch(settings: Settings, chain: Chain, folder: Path) -> None:
    """Give the version the hash of what lies there now, as whoever owns the registry can."""
    files = {file.name: file_sha256(file) for file in sorted(folder.iterdir()) if file.is_file()}
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    client.set_model_version_tag(chain.name, "1", "sha256", content_hash(files))


def tensors(name: str, **changes: Any) -> Callable[[Path], None]:
    """Replace tensors of a file by what a function makes of them; None leaves one out."""

    def poison(folder: Path) -> None:
        found = load_file(folder / name)
        for key, change in changes.items():
            value = change(found[key].clone()) if key in found else change
            if value is None:
                del found[key]
            else:
                found[key] = value.contiguous()
        save_file(found, folder / name)

    return poison


def with_one(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1)[-1] = value
        return tensor

    return change


def cfg(**changes: Any) -> Callable[[Path], None]:
    def poison(folder: Path) -> None:
        found = json.loads((folder / CFG).read_text())
        (folder / CFG).write_text(json.dumps({**found, **changes}))

    return poison


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(raw) and None


def pickled(folder: Path) -> None:
    torch.save({"W_enc": Evil(folder.parents[1] / "run")}, folder / WEIGHTS)


def truncated(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def linked(folder: Path) -> None:
    (folder / DENSITY).unlink()
    (folder / DENSITY).symlink_to("/etc/passwd")


POISONS: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncated, WEIGHTS),
    "a pickle in disguise": (pickled, WEIGHTS),
    "a header of 2^60 bytes": (text(WEIGHTS, (2**60).to_bytes(8, "little") + b"{}"), WEIGHTS),
    "NaN": (tensors(WEIGHTS, W_dec=with_one(float("nan"))), "W_dec holds values"),
    "infinity": (tensors(WEIGHTS, b_enc=with_one(float("inf"))), "b_enc holds values"),
    "a shorter tensor": (tensors(WEIGHTS, W_enc=lambda t: t[:, :-1]), "W_enc is F32 of shape"),
    "a transposed tensor": (tensors(WEIGHTS, W_enc=lambda t: t.T), "W_enc is F32 of shape"),
    "half precision": (tensors(WEIGHTS, W_enc=lambda t: t.half()), "W_enc is F16"),
    "a missing tensor": (tensors(WEIGHTS, b_dec=lambda _: None), "b_dec"),
    "one tensor more": (tensors(WEIGHTS, W_skip=torch.zeros(3)), "W_skip"),
    "a dictionary of 10^12": (cfg(d_sae=10**12), "must be F32 of (32, 1000000000000)"),
    "a negative size": (cfg(d_in=-32), "cfg.json: d_in=-32"),
    "a size that is a text": (cfg(d_sae="64"), "cfg.json: d_sae='64'"),
    "a mean distance that is NaN": (
        cfg(residual_mean_distance=float("nan")),
        "cfg.json: residual_mean_distance=nan",
    ),
    "a mean distance that is a list": (
        cfg(residual_mean_distance=[1.0]),
        "cfg.json: residual_mean_distance=[1.0]",
    ),
    "another identity": (cfg(identity="0" * 64), "cfg.json: is of another link"),
    "a list": (text(CFG, "[1, 2]"), "cfg.json: not a JSON object"),
    "no JSON": (text(CFG, pickle.dumps({"d_in": 32})), "cfg.json: not a JSON object"),
    "JSON without end": (text(CFG, "[" * 200_000), "cfg.json: not a JSON object"),
    "a density above 1": (tensors(DENSITY, feature_density=with_one(2.0)), DENSITY),
    "a density of NaN": (tensors(DENSITY, feature_density=with_one(float("nan"))), DENSITY),
    "densities of others": (tensors(DENSITY, feature_density=lambda t: t[:-1]), DENSITY),
    "a file more": (text("sitecustomize.py", "import os"), "sitecustomize.py"),
    "a folder more": (lambda folder: (folder / "more").mkdir(), "'more'"),
    "a link out of the folder": (linked, DENSITY),
}


@pytest.mark.parametrize(("poison", "part"), POISONS.values(), ids=POISONS)
def test_a_poisoned_link_is_refused(
    poison: Callable[[Path], None],
    part: str,
    folder: Path,
    module_settings: Settings,
    chain: Chain,
) -> None:
    poison(folder)
    vouch(module_settings, chain, folder)
    with pytest.raises(UserError) as pulled:
        Registry(module_settings).pull(chain.name, version=1)
    one_line(pulled, f"{chain.name} version 1", part)
    with pytest.raises(UserError) as started_from:
        Registry(module_settings).parent(chain, chain.links[1])
    assert str(started_from.value) == str(pulled.value)
    assert not (folder.parents[1] / "run").exists(), "a pickle was run"


@pytest.mark.parametrize("name", [WEIGHTS, CFG, DENSITY])
def test_the_hash_covers_every_file_and_name(
    name: str, folder: Path, module_settings: Settings, chain: Chain
) -> None:
    content = (folder / name).read_bytes()
    for change in (
        lambda: (folder / name).write_bytes(content + b" "),
        (folder / name).unlink,
    ):
        change()
        with pytest.raises(UserError) as caught:
            Registry(module_settings).pull(chain.name, version=1)
        one_line(caught, "wrong hash")
        (folder / name).write_bytes(content)


def test_a_hash_names_no_folder(module_settings: Settings, chain: Chain, folder: Path) -> None:
    client = MlflowClient(module_settings.tracking_uri, module_settings.tracking_uri)
    for sha256 in ("../../..", "/etc", ""):
        client.set_model_version_tag(chain.name, "1", "sha256", sha256)
        with pytest.raises(UserError) as caught:
            Registry(module_settings).pull(chain.name, version=1)
        one_line(caught, f"{chain.name} version 1: sha256={sha256!r} is no hash")


def other_sae(d_in: int, d_sae: int) -> Callable[[Path], None]:
    """A sound link of another size."""

    def poison(folder: Path) -> None:
        shapes = {
            "W_enc": (d_in, d_sae),
            "b_enc": (d_sae,),
            "W_dec": (d_sae, d_in),
            "b_dec": (d_in,),
        }
        save_file({name: torch.ones(shape) for name, shape in shapes.items()}, folder / WEIGHTS)
        save_file({"feature_density": torch.zeros(d_sae)}, folder / DENSITY)
        cfg(d_in=d_in, d_sae=d_sae)(folder)

    return poison


@pytest.mark.parametrize(
    ("poison", "parts"),
    [
        (other_sae(32, 16), ("version 1", "cfg.json: d_sae=16 must be the chain's, 64")),
        (cfg(layer=0), ("version 1", "cfg.json: layer=0 must be the chain's, 1")),
        (other_sae(8, 64), ("link 01", "d_in=8", "32")),
    ],
    ids=["d_sae", "layer", "d_in"],
)
def test_a_parent_must_fit_the_chain(
    poison: Callable[[Path], None],
    parts: tuple[str, ...],
    folder: Path,
    module_settings: Settings,
    track: Track,
    source: CheckpointSource,
) -> None:
    (chain,) = track.chains
    poison(folder)
    vouch(module_settings, chain, folder)
    with pytest.raises(UserError) as caught:
        run_jobs(track.jobs[1:2], source, Registry(module_settings))
    one_line(caught, chain.name, *parts)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"corpus": {**NANO_TRACK["corpus"], "dataset": "/etc"}}, "corpus.dataset='/etc'"),
        ({"corpus": None}, "corpus.dataset=None"),
        ({"corpus": {**NANO_TRACK["corpus"], "dataset": "../texts"}}, "corpus.dataset='../texts'"),
        ({"model": "/etc"}, "model='/etc'"),
        ({"model": "~root/lm"}, "model='~root/lm'"),
        ({"model": ["nano"]}, "model=['nano']"),
        (
            {"schedule": [{"first": 0, "last": 10**15, "tokens": 1}]},
            "schedule.0.last=1000000000000000",
        ),
        ({"schedule": [{"first": 0, "last": 0, "tokens": 1, "repeat": 10**15}]}, "repeat"),
        ({"sae": {"l1_coefficient": "nan"}}, "l1_coefficient"),
        ({"run": "me"}, "run='me': unknown name"),
    ],
)
def test_a_registered_track_is_checked_like_a_users_and_names_no_folder(
    changes: dict[str, Any],
    part: str,
    registered: Path,
    module_settings: Settings,
    chain: Chain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    registry = Registry(module_settings)
    assert registry.config_of(chain.name) == load_config(NANO_TRACK)
    poisoned = {**registry.track_of(chain.name)[0], **changes}
    monkeypatch.setattr(ChainRuns, "tracks", lambda *_: {chain.name: poisoned})
    with pytest.raises(UserError) as caught:
        registry.config_of(chain.name)
    one_line(caught, f"chain='{chain.name}': its registered track: ", part)


@pytest.mark.parametrize("name", ["x' OR name LIKE '%", "../../etc", "a b", "", "x'\n"])
def test_a_name_is_no_condition_and_no_path(name: str, module_settings: Settings) -> None:
    registry = Registry(module_settings)
    for ask in (
        lambda: registry.pull(name, version=1),
        lambda: registry.pull(name, lm_step=0),
        lambda: registry.track_of(name),
    ):
        with pytest.raises(UserError) as caught:
            ask()
        one_line(caught, f"chain={name!r}")


# Language models


@pytest.fixture
def checkpoint(source: CheckpointSource, tmp_path: Path) -> Path:
    """A checkpoint of the nano LM, to be poisoned."""
    (found,) = source.resolve([0])
    shutil.copytree(source.fetch(found), tmp_path / "checkpoint-0")
    return tmp_path / "checkpoint-0"


def bin_pickle(folder: Path, *, as_zip: bool) -> None:
    (folder / "model.safetensors").unlink()
    content = {"embed": Evil(folder.parent / "run")}
    torch.save(content, folder / "pytorch_model.bin", _use_new_zipfile_serialization=as_zip)


def own_code(folder: Path) -> None:
    found = json.loads((folder / "config.json").read_text())
    found |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C"}}
    (folder / "config.json").write_text(json.dumps(found))
    (folder / "own.py").write_text(f"import os; os.mkdir({str(folder.parent / 'run')!r})")


def half_weights(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "poison",
    [
        lambda folder: bin_pickle(folder, as_zip=True),
        lambda folder: bin_pickle(folder, as_zip=False),
        own_code,
        half_weights,
        text("config.json", "[]"),
    ],
    ids=["a pickle", "an old pickle", "code of its own", "half", "a config that is a list"],
)
def test_a_poisoned_checkpoint_is_refused(poison: Callable[[Path], None], checkpoint: Path) -> None:
    poison(checkpoint)
    with pytest.raises(UserError) as caught:
        HookedLM(checkpoint, [Hook("resid_pre", 1)])
    one_line(caught, "model: checkpoint-0 cannot be loaded")
    assert not (checkpoint.parent / "run").exists(), "code was run"


def test_shards_outside_of_a_checkpoint_are_refused(live: Path) -> None:
    path = write(live, 1)
    shard(path)
    present_files(path)
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../../etc/passwd"}}))
    with pytest.raises(UserError, match="etc/passwd"):
        present_files(path)
    with pytest.raises(UserError) as caught:
        find_lm(str(live))
    one_line(caught, "checkpoint-1/model.safetensors.index.json", "../../../etc/passwd")


def test_a_hub_names_no_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hub, "_offered", lambda *_: {"main": "../../../etc"})
    with pytest.raises(UserError) as caught:
        hub.commits("someone/lm", ["main"], tmp_path)
    one_line(caught, "someone/lm at main", "../../../etc")

    class Hub:
        def model_info(self, *_: Any, **__: Any) -> Any:
            file = {"rfilename": "model.safetensors", "size": 1, "blob_id": "../../x", "lfs": None}
            return type("Info", (), {"siblings": [type("File", (), file)]})

    monkeypatch.setattr(download, "HfApi", Hub)
    monkeypatch.setattr(download.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(UserError) as caught:
        download.list_files("someone/lm", "main", "0" * 40, CHECKPOINT)
    one_line(caught, "someone/lm at main", "no hash of model.safetensors")


# Caches of this machine


def test_a_poisoned_corpus_is_refused(
    config: TrackConfig, source: CheckpointSource, cache_dir: Path, tmp_path: Path
) -> None:
    def open_again() -> Any:
        return prepare_corpus(config.corpus, *source.tokenizer(), tmp_path)

    prepare_corpus(config.corpus, *source.tokenizer(), cache_dir)
    shutil.copytree(cache_dir / "corpora", tmp_path / "corpora")
    corpus = open_again()
    files = {name: (corpus.folder / name).read_bytes() for name in ("train.u32", "corpus.json")}
    for name, content in (
        ("train.u32", files["train.u32"][:-4]),
        ("corpus.json", b"[]"),
        ("corpus.json", b'{"bos_token_id": "no", "sha256": ""}'),
        ("corpus.json", pickle.dumps({})),
    ):
        (corpus.folder / name).write_bytes(content)
        with pytest.raises(UserError) as caught:
            open_again()
        one_line(caught, str(corpus.folder), "delete the folder")
        (corpus.folder / name).write_bytes(files[name])
    assert open_again() == corpus


@pytest.mark.parametrize("how", ["a pickle", "half", "no facts", "NaN"])
def test_a_poisoned_state_is_not_used(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, {"W": torch.ones(3)}, {"n": 1})
    assert load_state(path) is not None
    if how == "a pickle":
        torch.save({"W": Evil(tmp_path / "run")}, path)
    elif how == "half":
        path.write_bytes(path.read_bytes()[:-4])
    elif how == "no facts":
        save_file({"W": torch.ones(3)}, path)
    else:
        save_state(path, {"W": torch.full((3,), float("nan"))}, {"n": 1})
    assert load_state(path) is None
    assert "cannot be used, starting over" in caplog.text
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("poison", ["another shape", "nothing in it"])
def test_a_state_of_something_else_is_refused(
    poison: str, module_settings: Settings, track: Track, source: CheckpointSource, tmp_path: Path
) -> None:
    from saetrack.training.checkpoint import TrainingContext
    from saetrack.training.loop import train_track
    from tests.support.memory_store import MemoryStore

    sae = {name: torch.zeros(1) for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    named = {f"1.{name}": tensor for name, tensor in sae.items()}
    facts = {"links": {"1": {}} if poison == "another shape" else {}}
    save_state(tmp_path / f"{track.jobs[0].key}.safetensors", named, facts)
    training_context = TrainingContext(MemoryStore(), torch.device("cpu"), tmp_path)
    with pytest.raises(UserError) as caught:
        train_track(track, source, training_context)
    one_line(caught, track.jobs[0].key, "delete it and run again")


def test_cached_answers_are_no_pickles(tmp_path: Path) -> None:
    path = tmp_path / "contexts.npz"
    np.savez(path, tokens=np.array([Evil(tmp_path / "run")], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_contexts(path)
    assert not (tmp_path / "run").exists()


def test_a_registered_track_may_name_any_dataset_of_a_hub_but_nothing_that_is_a_path_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    track = {**NANO_TRACK, "corpus": {"dataset": "someone/stories"}}
    require_no_paths(track)
    (tmp_path / "someone").mkdir()
    (tmp_path / "someone" / "stories").write_text("text of this machine")
    with pytest.raises(UserError, match="only the machine that registered it may name a path"):
        require_no_paths(track)
