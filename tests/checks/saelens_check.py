"""`make saelens`: the newest SAELens, in an environment of its own, opens an exported chain.

The LM is the embedded one under the name of a Pythia in a hub cache of its own: SAELens then finds
model, revision and hook by nothing but what the exported metadata say, as it would online.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from benchmarks import tables
from benchmarks.once import run_once
from benchmarks.peers import SAE_LENS, say
from benchmarks.presets import mini_track
from saetrack.analysis.pipeline.effect_pass import BATCH_ROWS, EffectPass
from saetrack.analysis.pipeline.feature_pass import FeaturePass
from saetrack.chain.config import load_config
from saetrack.lm.catalog.models import find_model
from saetrack.lm.hooked import HookedLM
from saetrack.lm.open import open_source
from saetrack.registry.formats.export import export_chain
from saetrack.training.chain_page import update_chain_page
from saetrack.training.loop import train_track
from saetrack.training.prepare import PreparedTrack, prepare
from saetrack.utils.settings import Settings, load_settings
from tests.checks import saelens_gradients
from tests.support.hub_cache import put_in_hub_cache
from tests.support.nano import NANO_TRACK

PYTHIA = "pythia-70m"
# Those of the mini-LM's checkpoints that a Pythia has too.
SCHEDULE = [
    {"first": 0, "last": 0, "tokens": 400_000},
    {"first": 1, "last": 10, "tokens": 60_000},
]
SETTINGS: dict[str, dict[str, Any]] = {
    "relu": {},
    "topk": {"architecture": "topk", "k": 8},
    "batchtopk": {"architecture": "batchtopk", "k": 8, "matryoshka": [32]},
    "jumprelu": {"architecture": "jumprelu", "l0_coefficient": 3e-3},
}
METRICS = ("explained_variance", "l0", "ce_loss", "ce_loss_spliced", "ce_loss_zero")
COLUMNS: tables.Columns = {
    "lm_step": ("lm_step", "{:,}"),
    "explained_variance_here": ("explained\nvariance", "{:.5f}"),
    "explained_variance_there": ("there", "{:.5f}"),
    "l0_here": ("L0", "{:.3f}"),
    "l0_there": ("there", "{:.3f}"),
    "ce_loss_spliced_here": ("CE,\nspliced", "{:.4f}"),
    "ce_loss_spliced_there": ("there", "{:.4f}"),
    "feature_acts": ("features\ndiffer by", "{:.1e}"),
    "raw_feature_acts": ("on raw\nresiduals", "{:.1e}"),
    "sae_out": ("sae_out\ndiffers by", "{:.1e}"),
}
# The core metrics by our names and by SAELens', whose evaluation SAEBench's is made from.
CORE = {
    "kl": "kl_div_with_sae",
    "kl_zero": "kl_div_with_ablation",
    "kl_score": "kl_div_score",
    "ce": "ce_loss_without_sae",
    "ce_sae": "ce_loss_with_sae",
    "ce_zero": "ce_loss_with_ablation",
    "ce_score": "ce_loss_score",
    "explained_variance": "explained_variance",
    "explained_variance_per_token": "explained_variance_legacy",
    "cosine": "cossim",
    "l2_ratio": "l2_ratio",
    "relative_reconstruction_bias": "relative_reconstruction_bias",
    "l0": "l0",
    "l1": "l1",
}
CORE_COLUMNS: tables.Columns = {
    "lm_step": ("lm_step", "{:,}"),
    "kl": ("KL", "{:.4f}"),
    "kl_score": ("score", "{:.4f}"),
    "ce_score": ("of CE", "{:.4f}"),
    "explained_variance": ("explained\nvariance", "{:.4f}"),
    "explained_variance_per_token": ("per token", "{:.4f}"),
    "cosine": ("cosine", "{:.4f}"),
    "l2_ratio": ("ratio of\nnorms", "{:.4f}"),
    "relative_reconstruction_bias": ("bias", "{:.4f}"),
    "l1": ("L1", "{:.2f}"),
    "differ": ("differ by", "{:.1e}"),
}
# Of float32, over the largest value; and of metrics over thousands of tokens.
TENSORS_AGREE, METRICS_AGREE = 1e-5, 1e-4


def check(lm: str, track: dict[str, Any], place: Path) -> bool:
    """Train, export, open there, compare; whether everything agrees."""
    cache = place / "hub"
    _copy_into(cache, lm)
    constants.HF_HUB_CACHE = str(cache)
    os.environ["HF_HUB_CACHE"] = str(cache)
    say(f"training a chain over {lm}")
    prepared = _train({**track, "model": PYTHIA}, place)
    (chain,) = prepared.track.chains
    exported = export_chain(prepared.registry, chain.name, place / "repository")
    rows = chain.corpus.rows("held_out")
    np.save(place / "rows.npy", rows)
    (place / "opened").mkdir()
    say("SAELens opens it")
    job = {
        "repository": str(place / "repository"),
        "folders": list(exported["folder"]),
        "rows": str(place / "rows.npy"),
        "ce_rows": chain.config.evaluation.ce_tokens // chain.config.corpus.context_size,
        "output": str(place / "opened"),
    }
    answer = run_once(SAE_LENS, "sae_lens_open", job)
    found = pd.DataFrame(
        [
            _compare(prepared, row, answer["links"][row["folder"]], place / "opened")
            for _, row in exported.iterrows()
        ]
    )
    tables.show(found, COLUMNS, f"{lm} in SAELens {answer['version']}")
    core = pd.DataFrame(
        [
            _compare_core(prepared, row, answer["links"][row["folder"]]["core"])
            for _, row in exported.iterrows()
        ]
    )
    tables.show(core, CORE_COLUMNS, "core metrics of 8 rows, and by how much SAELens' differ")
    tensors = found[["feature_acts", "raw_feature_acts", "sae_out"]].max().max()
    differ = {m: _relative(found[f"{m}_here"], found[f"{m}_there"]).max() for m in METRICS}
    most = max(differ, key=lambda metric: differ[metric])
    say(
        f"largest difference of tensors {tensors:.1e} of their largest, of metrics "
        f"{differ[most]:.1e} ({most}), of core metrics {core['differ'].max():.1e}"
    )
    metrics = max(differ[most], core["differ"].max())
    return bool(tensors < TENSORS_AGREE and metrics < METRICS_AGREE)


def _relative(here: Any, there: Any) -> Any:
    """By how much a metric differs, relatively to one that is larger than 1.

    L0 counts: a single activation within rounding of 0 makes 1e-4 of 25, over 8,192 tokens.
    """
    return np.abs(here - there) / np.maximum(1, np.abs(there))


def _copy_into(cache: Path, lm: str) -> None:
    """The embedded LM as the checkpoints of a Pythia in a hub cache."""
    source = open_source(find_model(lm), load_settings().cache_dir, limit_bytes=10**9)
    checkpoints = source.resolve(list(range(len(source.spec.lm_steps))))
    for checkpoint in checkpoints:
        files = {path.name: path.read_bytes() for path in source.fetch(checkpoint).iterdir()}
        put_in_hub_cache(cache, f"EleutherAI/{PYTHIA}", checkpoint.revision, files)
    with tempfile.TemporaryDirectory() as place:
        tokenizer, _ = source.tokenizer()
        tokenizer.save_pretrained(place)
        files |= {path.name: path.read_bytes() for path in Path(place).iterdir()}
    put_in_hub_cache(cache, f"EleutherAI/{PYTHIA}", "main", files)


def _train(track: dict[str, Any], place: Path) -> PreparedTrack:
    settings = Settings(
        tracking_uri=f"sqlite:///{place}/mlflow.db",
        artifact_dir=place / "artifacts",
        cache_dir=place / "cache",
        device="cpu",
    )
    prepared = prepare(load_config(track), settings)
    train_track(prepared.track, prepared.source, prepared.context)
    update_chain_page(prepared.registry, prepared.track.chains[0])
    return prepared


def _compare(
    prepared: PreparedTrack, row: Any, there: dict[str, float], opened: Path
) -> dict[str, Any]:
    """One link here and there, on the residuals that SAELens took from the LM."""
    (chain,) = prepared.track.chains
    link = prepared.registry.pull(chain.name, version=int(row["version"]))
    sae = link.sae
    tensors = load_file(opened / f"{row['folder']}.safetensors")
    with torch.no_grad():
        feature_acts = sae.encode(tensors["residuals"])
        expected = {
            "feature_acts": feature_acts,
            "raw_feature_acts": feature_acts,
            "sae_out": sae.decode(feature_acts),
        }
    differences = {
        name: float((tensors[name] - here).abs().max() / here.abs().max())
        for name, here in expected.items()
    }
    return {
        "lm_step": row["lm_step"],
        **{f"{name}_here": link.cfg["metrics"][name] for name in METRICS},
        **{f"{name}_there": there[name] for name in METRICS},
        **differences,
    }


def _compare_core(prepared: PreparedTrack, row: Any, there: dict[str, float]) -> dict[str, float]:
    """The core metrics of a link, as an analysis has them, and by how much SAELens' differ."""
    (chain,) = prepared.track.chains
    pulled = prepared.registry.pull(chain.name, version=int(row["version"]))
    (checkpoint,) = [of.checkpoint for of in chain.links if of.checkpoint.lm_step == row["lm_step"]]
    folder = prepared.source.fetch(checkpoint)
    lm = HookedLM(folder, [chain.hook], residual=chain.config.residual, whole=True)
    rows = torch.from_numpy(chain.corpus.rows("held_out")[:BATCH_ROWS].astype(np.int64))
    feature_pass = FeaturePass(checkpoint, lm, pulled, chain.corpus.rows("analysis"))
    kept = torch.ones_like(rows, dtype=torch.bool)
    here = EffectPass(feature_pass, rows, kept, np.zeros(0, np.int64), seed=0).read().core
    differ = max(_relative(here[name], there[of]) for name, of in CORE.items())
    return {"lm_step": row["lm_step"], **{name: here[name] for name in CORE}, "differ": differ}


def check_gradients(place: Path) -> bool:
    """Every architecture's training step beside SAELens' own classes."""
    version, found = saelens_gradients.compare(place)
    title = f"Training steps beside SAELens {version}, relative differences"
    tables.show(found, saelens_gradients.COLUMNS, title)
    return bool(found[["feature_acts", "loss", "gradient"]].max().max() < TENSORS_AGREE)


def main(words: list[str]) -> int:
    """The mini-LM, or with `--quick` the nano LM; a chain of each architecture."""
    lm, track = (
        ("nano", {**NANO_TRACK, "d_sae": 128})
        if "--quick" in words
        else ("mini", mini_track(schedule=SCHEDULE))
    )
    agrees = True
    with tempfile.TemporaryDirectory() as name:
        agrees = check_gradients(Path(name))
        for architecture, settings in SETTINGS.items():
            place = Path(name) / architecture
            place.mkdir()
            sae = {**track["sae"], **settings} if architecture == "relu" else settings
            say(f"architecture: {architecture}")
            agrees &= check(lm, {**track, "sae": sae}, place)
    say("everything agrees" if agrees else "SOMETHING DIFFERS")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
