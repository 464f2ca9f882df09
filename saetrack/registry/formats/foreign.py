"""SAEs that others trained, in our form: `b_dec` subtracted first, decoder rows of norm 1.

What is the same in all formats; a file beside this one for each says what its files are called and
what they mean.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from saetrack.sae.architectures import sae_of_settings
from saetrack.sae.architectures.batchtopk import BatchTopKSAE
from saetrack.sae.architectures.jumprelu import JumpReLUSAE
from saetrack.sae.model import SAE
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

# Numbers of a matrix that are converted at a time, 32 MB in float64.
ROW_NUMBERS = 2**22

# In SAELens' releases before 6 a factor per feature between encoder and decoder.
FACTORS = ("scaling_factor", "finetuning_scaling_factor")


@dataclass(frozen=True)
class ForeignSAE:
    """An SAE that was read from a folder of another project.

    Attributes:
        sae: decoder rows have norm 1; a feature's activations grew by its row's old norm, so that
            `sae_out` stayed the same.
        feature_density: share of tokens on which each feature fires, (d_sae,); None where unknown.
        residual_mean_distance: of the residuals that it was trained on; 0 where unknown.
        residual: of these residuals.
        metadata: what the folder says of the LM and the hook: `model_name`, and `hook_name` as
            TransformerLens names it, where they are known.
    """

    sae: SAE
    feature_density: Float[Tensor, " d_sae"] | None
    residual_mean_distance: float
    residual: str
    metadata: dict[str, Any]


class Weights:
    """The tensors of a file by our names; of a matrix, some rows are read at a time."""

    def __init__(
        self,
        tensors: Mapping[str, Any],
        names: Mapping[str, str] | None = None,
        transposed: Collection[str] = (),
    ) -> None:
        """Reads nothing yet.

        Args:
            tensors: tensors, or slices of an open safetensors file, by the file's names.
            names: those of the file, by ours; None where they are the same.
            transposed: ours of the matrices that the file holds transposed.
        """
        self._names = {name: name for name in tensors} if names is None else dict(names)
        self._tensors = tensors
        self._transposed = frozenset(transposed)

    def __contains__(self, name: str) -> bool:
        """Whether the file has a tensor, by our name."""
        return self._names.get(name) in self._tensors

    def require_shapes(self, shapes: Mapping[str, tuple[Any, ...]], said_by: str) -> None:
        """Check that tensors are there and have the shapes that a config says.

        Args:
            shapes: by our names, not transposed.
            said_by: name of the config's file.

        Raises:
            ValueError: one differs, or a tensor of the file is none of ours.
        """
        for name, shape in shapes.items():
            theirs = self._names.get(name, name)
            wanted = shape[::-1] if name in self._transposed else shape
            found = self._shape(theirs) if theirs in self._tensors else None
            if found != wanted:
                raise ValueError(f"{theirs} has shape {found}; {said_by} says {wanted}")
        known = [self._names[name] for name in shapes]
        for name in self._tensors:
            if name not in known and name not in FACTORS:
                raise ValueError(f"{name}: unknown tensor; known: {', '.join(known)}")

    def whole(self, name: str) -> Tensor:
        """A tensor in float64, never the file's own.

        Raises:
            ValueError: it holds values that are not finite.
        """
        return self._finite(name, self._tensors[self._names[name]][...])

    def rows(self, name: str) -> Iterator[tuple[slice, Tensor]]:
        """A matrix in float64, some rows at a time.

        Raises:
            ValueError: it holds values that are not finite.
        """
        theirs = self._names[name]
        matrix, shape = self._tensors[theirs], self._shape(theirs)
        is_transposed = name in self._transposed
        n_rows, n_columns = shape[::-1] if is_transposed else shape
        size = max(1, ROW_NUMBERS // n_columns)
        for start in range(0, n_rows, size):
            block = slice(start, min(start + size, n_rows))
            yield block, self._finite(name, matrix[:, block].T if is_transposed else matrix[block])

    def _shape(self, theirs: str) -> tuple[int, ...]:
        tensor = self._tensors[theirs]
        return tuple(tensor.shape if isinstance(tensor, torch.Tensor) else tensor.get_shape())

    def _finite(self, name: str, values: Tensor) -> Tensor:
        if not values.isfinite().all():
            raise ValueError(f"{self._names[name]} holds values that are not finite")
        return values.to(torch.float64, copy=True)


@torch.no_grad()
def in_our_form(weights: Weights, cfg: Mapping[str, Any]) -> SAE:
    """An SAE of ours that computes the same.

    Some rows at a time, in float64: no second copy of the weights exists.

    Args:
        weights: of the right shapes: `W_enc`, `b_enc`, `W_dec`, `b_dec`, and `threshold` where the
            architecture has one.
        cfg: `architecture` as ours are called, with their settings; `apply_b_dec_to_input`, True
            where it is missing; `rescale_acts_by_decoder_norm`, False where it is missing.

    Raises:
        ValueError: a tensor holds values that are not finite, or `k` and the rows cannot be ours.
    """
    b_enc, b_dec = weights.whole("b_enc"), weights.whole("b_dec")
    sae = sae_of_settings({**cfg, "d_in": len(b_dec), "d_sae": len(b_enc)})
    factors = [weights.whole(name) for name in FACTORS if name in weights]
    norms = torch.ones_like(b_enc)
    for features, W_dec in weights.rows("W_dec"):
        for factor in factors:
            W_dec.mul_(factor[features, None])
        lengths = W_dec.norm(dim=1)
        norms[features] = torch.where(lengths > 0, lengths, 1.0)
        sae.W_dec[features] = (W_dec / norms[features, None]).float()
    _require_same_order(cfg, norms)
    for dimensions, W_enc in weights.rows("W_enc"):
        if not cfg.get("apply_b_dec_to_input", True):
            b_enc += b_dec[dimensions] @ W_enc
        sae.W_enc[dimensions] = (W_enc * norms).float()
    sae.b_enc.copy_(b_enc * norms)
    sae.b_dec.copy_(b_dec)
    # Nobody lets anything negative through, whatever the threshold.
    if isinstance(sae, JumpReLUSAE):
        sae.threshold.copy_((weights.whole("threshold") * norms).clamp_min(0))
    elif isinstance(sae, BatchTopKSAE):
        sae.topk_threshold.copy_((weights.whole("threshold") * norms.mean()).clamp_min(0))
    return sae


def _require_same_order(cfg: Mapping[str, Any], norms: Tensor) -> None:
    """The k largest activations stay the k largest when rows are divided by their norms."""
    by_norm = cfg.get("rescale_acts_by_decoder_norm", False)
    if (
        cfg.get("architecture") in ("topk", "batchtopk")
        and not by_norm
        and float(norms.max() / norms.min()) > 1.001
    ):
        raise ValueError(
            f"W_dec has rows of norm {norms.min():.3g} to {norms.max():.3g}; of a "
            f"{cfg['architecture']} SAE all must have the same, or rescale_acts_by_decoder_norm "
            "must be true"
        )


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object that describes an SAE.

    Raises:
        UserError: it cannot be read, or is none.
    """
    try:
        cfg = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not JSON"
        raise UserError(f"{path}: cannot be read ({reason})") from None
    if not isinstance(cfg, dict):
        raise UserError(f"{path}: must hold a JSON object")
    return cfg


def section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A part of a config that is an object itself; empty where there is none."""
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def require_values(
    path: Path, cfg: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]]
) -> None:
    """Check the fields of a config whose meaning is known.

    Args:
        path: of the config.
        cfg: what it says.
        allowed: values of each field; the first one is meant where the field is missing.

    Raises:
        UserError: names the first field with another value.
    """
    for field, values in allowed.items():
        value = cfg.get(field, values[0])
        if value not in values:
            known = ", ".join(repr(name) for name in values)
            raise UserError(f"{path}: {field}={value!r}: must be {known}")
