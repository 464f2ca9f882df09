"""The folders of sparsify (EleutherAI/sparsify, before that EleutherAI/sae).

`sae.safetensors` and `cfg.json`, one folder a hook, named after the module whose output it reads:

    latents = TopK(ReLU(W_enc (x - b_dec) + b_enc))
    sae_out = latents W_dec + b_dec
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from saetrack.registry.formats.foreign import (
    ForeignSAE,
    Weights,
    in_our_form,
    read_config,
    require_values,
)
from saetrack.sae.model import SAE
from saetrack.utils.errors import UserError

WEIGHTS_FILE, CONFIG_FILE = "sae.safetensors", "cfg.json"

# Fields of `cfg.json`, and the values whose arithmetic is ours; the first one is meant where the
# field is missing. `multi_topk` matters in training only.
UNDERSTOOD: dict[str, tuple[Any, ...]] = {
    "activation": ("topk",),
    "transcode": (False,),
    "skip_connection": (False,),
    "signed": (False,),
}
NAMES = {
    "W_enc": "encoder.weight",
    "b_enc": "encoder.bias",
    "W_dec": "W_dec",
    "b_dec": "b_dec",
}

# A module of a block in `transformers`, and what TransformerLens calls its output.
MODULE = re.compile(r"(?:layers|h|blocks)\.(\d{1,6})(?:\.(\w+))?")
OUTPUTS = {
    None: "resid_post",
    "mlp": "mlp_out",
    "attention": "attn_out",
    "self_attn": "attn_out",
    "attn": "attn_out",
}


def read_sparsify(folder: Path) -> ForeignSAE:
    """Read a folder of sparsify as an SAE of ours. Only safetensors and JSON are opened.

    Raises:
        UserError: a file is missing or broken, or the SAE computes what ours cannot.
    """
    cfg = read_config(folder / CONFIG_FILE)
    require_values(folder / CONFIG_FILE, cfg, UNDERSTOOD)
    sae = _read_weights(folder / WEIGHTS_FILE, cfg)
    return ForeignSAE(sae, None, 0.0, "raw", {**cfg, "hook_name": _hook(folder.resolve())})


def _read_weights(path: Path, cfg: dict[str, Any]) -> SAE:
    d_in = cfg.get("d_in")
    d_sae = cfg.get("num_latents")
    if not d_sae and isinstance(d_in, int) and isinstance(cfg.get("expansion_factor"), int):
        d_sae = d_in * cfg["expansion_factor"]
    shapes = {"W_enc": (d_in, d_sae), "b_enc": (d_sae,), "W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            weights = Weights(tensors, NAMES, transposed=["W_enc"])
            weights.require_shapes(shapes, CONFIG_FILE)
            return in_our_form(weights, {"architecture": "topk", "k": cfg.get("k")})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a whole safetensors file ({error})") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _hook(folder: Path) -> str | None:
    """TransformerLens' name of what the SAE reads, by its folder; None if it has none."""
    if re.fullmatch(r"seed\d+", folder.name):  # several SAEs of one hook
        folder = folder.parent
    found = MODULE.fullmatch(folder.name)
    if found is None or found[2] not in OUTPUTS:
        return None
    return f"blocks.{found[1]}.hook_{OUTPUTS[found[2]]}"
