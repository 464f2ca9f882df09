"""The folders of dictionary_learning (saprmarks/dictionary_learning): `ae.pt` and `config.json`.

    AutoEncoder             ReLU(W_enc (x - bias) + b_enc)
    AutoEncoderNew          ReLU(W_enc x + b_enc), its bias in the decoder
    AutoEncoderTopK         the k largest of each token, of what AutoEncoder gives
    BatchTopKSAE            what exceeds one threshold; matryoshka ones the same
    JumpReluAutoEncoder     what exceeds a threshold per feature, without `b_dec` in the encoder

`ae.pt` is a pickle: only its tensors are read (`weights_only`), and no code of it is run.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from saetrack.registry.formats.foreign import (
    ForeignSAE,
    Weights,
    in_our_form,
    read_config,
    section,
)
from saetrack.utils.errors import UserError, first_line

WEIGHTS_FILE, CONFIG_FILE = "ae.pt", "config.json"

_LINEAR = {
    "W_enc": "encoder.weight",
    "b_enc": "encoder.bias",
    "W_dec": "decoder.weight",
    "b_dec": "b_dec",
}
_PLAIN = {name: name for name in _LINEAR}


@dataclass(frozen=True)
class _Kind:
    """What a class of theirs is here.

    Attributes:
        architecture: of ours.
        names: of its tensors, by ours.
        subtracts: whether the encoder subtracts `b_dec`.
        unused: tensors without a meaning once training is over.
    """

    architecture: str
    names: dict[str, str]
    subtracts: bool = True
    unused: frozenset[str] = frozenset()


KINDS = {
    "AutoEncoder": _Kind("relu", {**_LINEAR, "b_dec": "bias"}),
    "AutoEncoderNew": _Kind("relu", {**_LINEAR, "b_dec": "decoder.bias"}, subtracts=False),
    "AutoEncoderTopK": _Kind("topk", _LINEAR, unused=frozenset({"threshold"})),
    "BatchTopKSAE": _Kind("batchtopk", {**_LINEAR, "threshold": "threshold"}),
    "MatryoshkaBatchTopKSAE": _Kind(
        "batchtopk", {**_PLAIN, "threshold": "threshold"}, unused=frozenset({"group_sizes"})
    ),
    "JumpReluAutoEncoder": _Kind("jumprelu", {**_PLAIN, "threshold": "threshold"}, subtracts=False),
}

# As their demos name what an SAE reads.
SUBMODULE = re.compile(r"(resid_pre|resid_mid|resid_post|mlp_out|attn_out)_layer_(\d{1,6})")


def read_dictionary(folder: Path) -> ForeignSAE:
    """Read a folder of dictionary_learning as an SAE of ours.

    Raises:
        UserError: a file is missing or broken, or the SAE computes what ours cannot.
    """
    path = folder / CONFIG_FILE
    config = read_config(path)
    trainer = section(config, "trainer")
    name = trainer.get("dict_class")
    if name not in KINDS:
        raise UserError(f"{path}: trainer.dict_class={name!r}: must be one of {', '.join(KINDS)}")
    if (io := section(config, "buffer").get("io", "out")) not in ("in", "out"):
        raise UserError(
            f"{path}: buffer.io={io!r}: must be 'in' or 'out'; what predicts an output from an "
            "input (a transcoder) is no SAE"
        )
    tensors = _read_tensors(folder / WEIGHTS_FILE)
    try:
        sae = _read_sae(tensors, trainer, KINDS[name])
    except ValueError as error:
        raise UserError(f"{folder / WEIGHTS_FILE}: {error}") from None
    metadata = {**trainer, "model_name": trainer.get("lm_name"), "hook_name": _hook(trainer)}
    return ForeignSAE(sae, None, 0.0, "raw", metadata)


def _read_sae(tensors: dict[str, Any], trainer: dict[str, Any], kind: _Kind) -> Any:
    tensors = {name: value for name, value in tensors.items() if name not in kind.unused}
    d_in, d_sae = trainer.get("activation_dim"), trainer.get("dict_size")
    shapes: dict[str, tuple[Any, ...]] = {
        "W_enc": (d_in, d_sae),
        "b_enc": (d_sae,),
        "W_dec": (d_sae, d_in),
        "b_dec": (d_in,),
    }
    if "threshold" in kind.names:
        shapes["threshold"] = () if kind.architecture == "batchtopk" else (d_sae,)
    k = trainer.get("k")
    if "k" in tensors and int(tensors.pop("k")) != k:
        raise ValueError(f"k differs from that of {CONFIG_FILE}, {k}")
    transposed = ("W_enc", "W_dec") if kind.names["W_enc"] == "encoder.weight" else ()
    weights = Weights(tensors, kind.names, transposed)
    weights.require_shapes(shapes, CONFIG_FILE)
    settings = {"architecture": kind.architecture, "apply_b_dec_to_input": kind.subtracts, "k": k}
    return in_our_form(weights, settings)


def _read_tensors(path: Path) -> dict[str, Any]:
    """The tensors of a pickle, of which nothing else is read.

    Raises:
        UserError: it holds something else, or is broken.
    """
    try:
        found = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except UnpicklingError:
        raise UserError(
            f"{path}: a pickle that holds more than tensors is never read; save the SAE's "
            "state_dict() with torch.save"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({first_line(error)})") from None
    if isinstance(found, dict) and {"ae", "optimizer"} <= set(found):
        raise UserError(
            f"{path}: is the backup of a training that has not ended (step {found.get('step')}), "
            "whose biases have another scale; import what it saves at its end"
        )
    if not isinstance(found, dict) or not all(
        isinstance(value, torch.Tensor) for value in found.values()
    ):
        raise UserError(f"{path}: must hold the SAE's state_dict() and nothing else")
    return found


def _hook(trainer: dict[str, Any]) -> str | None:
    found = SUBMODULE.fullmatch(str(trainer.get("submodule_name")))
    return f"blocks.{found[2]}.hook_{found[1]}" if found else None
