"""SAELens' folders, from our SAEs and into them: the same features, to float rounding.

Written are its architectures `standard` (ReLU), `topk` and `jumprelu` (BatchTopK too, as SAELens
itself saves it) in the format of its release 6; read are these and the older format. What others
compute cannot be trained on here and is refused.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from saetrack.data.datasets import hub_repo
from saetrack.registry.facts import current_names
from saetrack.registry.formats.foreign import (
    ForeignSAE,
    Weights,
    in_our_form,
    read_config,
    require_values,
    section,
)
from saetrack.sae.architectures.batchtopk import BatchTopKSAE
from saetrack.sae.architectures.jumprelu import JumpReLUSAE
from saetrack.sae.architectures.topk import TopKSAE
from saetrack.sae.files import CONFIG_FILE, WEIGHTS_FILE, save_tensors
from saetrack.sae.model import SAE
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

# The first release that keeps what it knows of the LM under `metadata`, as it is written here.
FORMAT = "6.0.0"
SPARSITY_FILE = "sparsity.safetensors"
MIN_SHARE = 1e-10  # added to a feature's density before its logarithm, as SAELens does

# What a link's `cfg.json` says of itself that SAELens has no field for.
FACTS = (
    *("chain", "link", "identity", "parent_identity", "lm", "layer", "direction", "seed"),
    *("lm_step", "checkpoint_index", "commit", "tokens", "corpus"),
    *("residual_mean_distance", "metrics"),
)

# Fields of a foreign `cfg.json`, and the values whose arithmetic is ours; the first one is meant
# where the field is missing.
UNDERSTOOD: dict[str, tuple[Any, ...]] = {
    "architecture": ("standard", "topk", "jumprelu"),
    "activation_fn": ("relu", "topk"),
    "activation_fn_str": ("relu", "topk"),
    "normalize_activations": ("none", None, False),
    "reshape_activations": ("none",),
    "apply_b_dec_to_input": (True, False),
}


def write_saelens(
    folder: Path,
    sae: SAE,
    cfg: dict[str, Any],
    feature_density: Float[Tensor, " d_sae"] | None,
) -> None:
    """Write an SAE so that SAELens loads it with `SAE.load_from_disk`.

    Args:
        folder: exists.
        sae: a link's weights.
        cfg: the link's `cfg.json` in the registry.
        feature_density: share of tokens on which each feature fires, (d_sae,); None if unknown.
    """
    centred = cfg["track"]["residual"] == "centred"
    architecture, fields, tensors = _as_saelens(sae)
    weights = (fold_centring(sae) if centred else four_weights(sae)) | tensors
    save_tensors(folder / WEIGHTS_FILE, weights)
    if feature_density is not None:
        log_density = (feature_density + MIN_SHARE).log10()
        save_tensors(folder / SPARSITY_FILE, {"sparsity": log_density})
    written = {
        "architecture": architecture,
        "d_in": sae.d_in,
        "d_sae": sae.d_sae,
        **fields,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": _metadata(cfg, centred),
    }
    (folder / CONFIG_FILE).write_text(json.dumps(written, indent=1))


def four_weights(sae: SAE) -> dict[str, Tensor]:
    """What every architecture has."""
    weights = sae.state_dict()
    return {name: weights[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec")}


def _as_saelens(sae: SAE) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """SAELens' architecture that computes the same, its own fields, and its further tensors."""
    if isinstance(sae, TopKSAE):
        return "topk", {"k": sae.k, "rescale_acts_by_decoder_norm": False}, {}
    if isinstance(sae, JumpReLUSAE):
        return "jumprelu", {}, {"threshold": sae.threshold}
    if isinstance(sae, BatchTopKSAE):
        return "jumprelu", {}, {"threshold": sae.topk_threshold.expand(sae.d_sae)}
    return "standard", {}, {}


@torch.no_grad()
def fold_centring(sae: SAE) -> dict[str, Tensor]:
    """Weights whose features are the same on raw residuals and on centred ones.

    Centring is x - mean(x) = x C with C = I - 1 1^T / d_in, so the encoder becomes C W_enc. SAELens
    subtracts `b_dec` in front of it, whose mean would then be lost; `b_enc` takes it over.
    `sae_out` is left as it is: a reconstruction of the centred residual.
    """
    W_enc = sae.W_enc.double()
    weights = four_weights(sae)
    weights["W_enc"] = (W_enc - W_enc.mean(dim=0)).float()
    weights["b_enc"] = (sae.b_enc - sae.b_dec.double().mean() * W_enc.sum(dim=0)).float()
    return weights


def _metadata(cfg: dict[str, Any], centred: bool) -> dict[str, Any]:
    """What SAELens, and tools that build on it, must know to give the SAE its residuals."""
    track = without_paths(cfg["track"], cfg["lm"])
    corpus = track["corpus"]
    first = corpus.get("exclude_first_positions", 0)
    # TransformerLens then subtracts the mean from all that is written to the residual stream.
    centring = {"center_writing_weights": True} if centred else {}
    return {
        "sae_lens_version": FORMAT,
        "sae_lens_training_version": None,
        "model_name": cfg["repo"],
        "model_class_name": "HookedTransformer",
        "model_from_pretrained_kwargs": {"revision": cfg["revision"], **centring},
        "hook_name": cfg["hook_name"],
        "hook_head_index": None,
        "context_size": corpus["context_size"],
        "prepend_bos": True,
        # True would mean every special token there; older releases knew of BOS only.
        "exclude_special_tokens": cfg.get("excluded_token_ids") or corpus["exclude_bos"],
        **({"seqpos_slice": [first, None]} if first else {}),
        "dataset_path": hub_repo(corpus["dataset"]) or corpus["dataset"],
        "saetrack": {**{name: cfg[name] for name in FACTS}, "track": track},
    }


def without_paths(track: dict[str, Any], lm_name: str) -> dict[str, Any]:
    """A track's parameters for other machines: LMs and texts on this one by their names only."""
    dataset = track["corpus"]["dataset"]
    named = dataset if hub_repo(dataset) else Path(dataset).name
    corpus = {**track["corpus"], "dataset": named}
    return {**track, "model": lm_name, "corpus": corpus}


def read_saelens(folder: Path) -> ForeignSAE:
    """Read a SAELens folder as an SAE of ours. Only safetensors and JSON are opened.

    Raises:
        UserError: a file is missing or broken, or the SAE computes what ours cannot.
    """
    cfg = _read_cfg(folder / CONFIG_FILE)
    sae = _read_weights(folder, cfg)
    metadata = section(cfg, "metadata") or {k: cfg[k] for k in cfg if k not in UNDERSTOOD}
    facts = current_names(section(metadata, "saetrack"))
    distance = facts.get("residual_mean_distance")
    is_centred = section(metadata, "model_from_pretrained_kwargs").get("center_writing_weights")
    return ForeignSAE(
        sae,
        _read_density(folder, sae.d_sae),
        distance if isinstance(distance, float) and math.isfinite(distance) else 0.0,
        "centred" if is_centred else "raw",
        metadata,
    )


def _read_cfg(path: Path) -> dict[str, Any]:
    cfg = read_config(path)
    require_values(path, cfg, UNDERSTOOD)
    if "topk" in (cfg.get("activation_fn"), cfg.get("activation_fn_str")):  # as releases before 6
        kwargs = section(cfg, "activation_fn_kwargs")
        cfg = {"k": kwargs.get("k"), **cfg, "architecture": "topk"}
    return cfg


def _read_weights(folder: Path, cfg: dict[str, Any]) -> SAE:
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(f"{path}: no such file; weights in other formats are not read")
    d_in, d_sae = cfg.get("d_in"), cfg.get("d_sae")
    shapes = {"W_enc": (d_in, d_sae), "b_enc": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    if cfg.get("architecture") == "jumprelu":
        shapes["threshold"] = (d_sae,)
    try:
        with safe_open(path, framework="pt") as file:
            weights = Weights({name: file.get_slice(name) for name in file.keys()})  # noqa: SIM118
            weights.require_shapes(shapes, CONFIG_FILE)
            return in_our_form(weights, cfg)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _read_density(folder: Path, d_sae: int) -> Tensor | None:
    """Of SAELens' log densities; a feature that never fired has the smallest of them."""
    path = folder / SPARSITY_FILE
    if not path.is_file():
        return None
    try:
        log_density = load_file(path).get("sparsity")
    except SafetensorError as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})") from None
    if log_density is None or log_density.shape != (d_sae,):
        raise UserError(f"{path}: sparsity must have shape ({d_sae},)")
    density = 10 ** log_density.float()
    if not ((density >= 0) & (density < 1.001)).all():
        raise UserError(f"{path}: sparsity must hold logarithms of shares, 0 at most")
    return torch.where(density < 2 * MIN_SHARE, 0.0, density.clamp_max(1.0))
