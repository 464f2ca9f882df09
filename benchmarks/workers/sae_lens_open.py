"""SAELens opens exported links as a user of it would, and measures them with its own evaluation."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from sae_lens import SAE, __version__
from sae_lens.evals import EvalConfig, run_evals
from sae_lens.load_model import load_model
from sae_lens.training.activation_scaler import ActivationScaler
from sae_lens.training.activations_store import ActivationsStore
from safetensors.torch import save_file

ROWS_AT_ONCE = 16
# Of the core metrics, in one batch: two of them depend on it.
CORE_ROWS = 8


class Rows:
    """The part of an activations store that the evaluation asks: tokens, here always the same."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.context_size = rows.shape[1]
        self.store_batch_size_prompts = ROWS_AT_ONCE
        self._rows = rows
        self._at = 0

    def get_batch_tokens(self, count: int) -> torch.Tensor:
        batch = self._rows[self._at : self._at + count]
        self._at += count
        return batch

    def reset_input_dataset(self) -> None:
        self._at = 0


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Metrics of each folder; features and reconstructions of its first rows go into files."""
    rows = torch.from_numpy(np.load(job["rows"]).astype(np.int64))
    found = {name: open_one(Path(job["repository"]) / name, rows, job) for name in job["folders"]}
    return {"version": __version__, "links": found}


@torch.no_grad()
def open_one(folder: Path, rows: torch.Tensor, job: dict[str, Any]) -> dict[str, Any]:
    """One link on the LM that its own metadata names, in two conventions."""
    sae = SAE.load_from_disk(folder)
    metadata = sae.cfg.metadata
    kwargs = metadata.model_from_pretrained_kwargs
    name = (metadata.model_class_name, metadata.model_name, "cpu")
    lm = load_model(*name, model_from_pretrained_kwargs=kwargs)
    raw_kwargs = {"revision": kwargs["revision"]}
    raw_lm = load_model(*name, model_from_pretrained_kwargs=raw_kwargs)
    some = rows[:ROWS_AT_ONCE]
    residuals, raw = (_residuals(one, metadata.hook_name, some) for one in (lm, raw_lm))
    feature_acts = sae.encode(residuals)
    kept = {
        "residuals": residuals,
        "feature_acts": feature_acts,
        "raw_feature_acts": sae.encode(raw),
        "sae_out": sae.decode(feature_acts),
    }
    kept = {name: tensor.contiguous() for name, tensor in kept.items()}
    save_file(kept, Path(job["output"]) / f"{folder.name}.safetensors")
    held_out = EvalConfig(
        batch_size_prompts=ROWS_AT_ONCE,
        n_eval_sparsity_variance_batches=len(rows) // ROWS_AT_ONCE,
        n_eval_reconstruction_batches=job["ce_rows"] // ROWS_AT_ONCE,
        compute_sparsity_metrics=True,
        compute_variance_metrics=True,
        compute_ce_loss=True,
    )
    store = cast("ActivationsStore", Rows(rows))
    excluded = metadata.exclude_special_tokens
    scaler = ActivationScaler()
    metrics, _ = run_evals(sae, store, lm, scaler, held_out, exclude_special_tokens=excluded)
    core = EvalConfig(
        batch_size_prompts=CORE_ROWS,
        n_eval_sparsity_variance_batches=1,
        n_eval_reconstruction_batches=1,
        compute_sparsity_metrics=True,
        compute_variance_metrics=True,
        compute_l2_norms=True,
        compute_ce_loss=True,
        compute_kl=True,
    )
    store.reset_input_dataset()
    groups, _ = run_evals(sae, store, lm, scaler, core, exclude_special_tokens=excluded)
    return {
        "core": {name: value for of in groups.values() for name, value in of.items()},
        "explained_variance": metrics["reconstruction_quality"]["explained_variance"],
        "l0": metrics["sparsity"]["l0"],
        "ce_loss": metrics["model_performance_preservation"]["ce_loss_without_sae"],
        "ce_loss_spliced": metrics["model_performance_preservation"]["ce_loss_with_sae"],
        "ce_loss_zero": metrics["model_performance_preservation"]["ce_loss_with_ablation"],
    }


def _residuals(lm: Any, hook_name: str, rows: torch.Tensor) -> torch.Tensor:
    _, cache = lm.run_with_cache(rows, prepend_bos=False, names_filter=hook_name)
    residuals: torch.Tensor = cache[hook_name].flatten(0, 1)
    return residuals


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    Path(given["answer"]).write_text(json.dumps(main(given)))
