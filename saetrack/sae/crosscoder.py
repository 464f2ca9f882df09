"""A crosscoder: one dictionary over several checkpoints of an LM, with a decoder for each.

The residuals x_k of a token at K checkpoints, each divided by its spread s_k, are read together:

    feature_acts = ReLU(sum over k of  (x_k / s_k - b_dec_k) W_enc_k  + b_enc)
    sae_out_k    = s_k (feature_acts W_dec_k + b_dec_k)
    loss         = reconstruction  +  l1_coefficient  sum over features of
                   feature_acts_f  sum over k of ||W_dec_k,f||

(Lindsey et al. 2024, "Sparse crosscoders for cross-layer features and model diffing"; over
snapshots of one LM: Ge et al. 2025.) The sum of norms, not the norm of all decoders together, lets
a feature do without the checkpoints at which it says nothing.

Side by side, the K residuals are the input of an ordinary SAE; only the penalty differs. So a
crosscoder is one, with its kernels and its step. With one checkpoint of spread 1 it is the ReLU SAE
whose penalty is `decoder_norm`, bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from saetrack.sae.architectures.relu import ReLU
from saetrack.sae.config import ReLUConfig
from saetrack.sae.dead_features import DeadGradient
from saetrack.sae.files import load_cfg, load_tensors, save_tensors
from saetrack.sae.kernels.sparse import FeatureGradient, SparseGradient
from saetrack.sae.model import SAE, geometric_median
from saetrack.sae.step import SPARSE_BELOW, TrainStep
from saetrack.sae.tensor_parallel import ALONE, Ranks
from saetrack.sae.warm_start import mean_distance

if TYPE_CHECKING:
    from jaxtyping import Float

WEIGHTS_FILE = "crosscoder.safetensors"
CONFIG_FILE = "cfg.json"
DENSITY = "feature_density"


class Crosscoder(SAE):
    """An SAE over the residuals of several checkpoints, side by side: `d_in` is all their widths.

    Attributes:
        spread: mean distance of each checkpoint's residuals from their mean, (checkpoints,).
        n_checkpoints: K.

    Example:
        >>> tuple(Crosscoder(n_checkpoints=3, d_resid=4, d_sae=8).decoder_norms().shape)
        (3, 8)
    """

    architecture: ClassVar[str] = "crosscoder"
    spread: Tensor

    def __init__(self, n_checkpoints: int, d_resid: int, d_sae: int) -> None:
        super().__init__(n_checkpoints * d_resid, d_sae)
        self.n_checkpoints = n_checkpoints
        self.register_buffer("spread", torch.ones(n_checkpoints))

    @property
    def d_resid(self) -> int:
        """Width of one checkpoint's residuals."""
        return self.d_in // self.n_checkpoints

    def joined(self, x: Float[Tensor, "checkpoints batch d_resid"]) -> Float[Tensor, "batch d_in"]:
        """Residuals of the same tokens at all checkpoints, each in its spreads, side by side."""
        side_by_side: Tensor = (x / self.spread[:, None, None]).movedim(0, 1).flatten(1)
        return side_by_side

    def parted(
        self, joined: Float[Tensor, "batch d_in"]
    ) -> Float[Tensor, "checkpoints batch d_resid"]:
        """What `joined` joined, in the residuals' own units."""
        parts: Tensor = joined.unflatten(1, (self.n_checkpoints, self.d_resid)).movedim(1, 0)
        return parts * self.spread[:, None, None]

    def reconstruct(
        self, x: Float[Tensor, "checkpoints batch d_resid"]
    ) -> Float[Tensor, "checkpoints batch d_resid"]:
        """What it makes of the residuals of the same tokens at all checkpoints."""
        return self.parted(self.decode(self.encode(self.joined(x))))

    def decoder_norms(self) -> Float[Tensor, "checkpoints d_sae"]:
        """Norm of each feature's decoder row at each checkpoint, in spreads of its residuals."""
        rows = self.W_dec.unflatten(1, (self.n_checkpoints, self.d_resid))
        norms: Tensor = rows.norm(dim=2).T
        return norms

    @torch.no_grad()
    def decoder_at(self, checkpoint: int) -> SAE:
        """The decoder of one checkpoint, in its residuals' own units; an SAE without an encoder."""
        part = slice(checkpoint * self.d_resid, (checkpoint + 1) * self.d_resid)
        sae = SAE(self.d_resid, self.d_sae).to(self.W_dec.device)
        sae.W_dec.copy_(self.W_dec[:, part] * self.spread[checkpoint])
        sae.b_dec.copy_(self.b_dec[part] * self.spread[checkpoint])
        return sae

    def settings(self) -> dict[str, Any]:
        """As `SAE` has it."""
        return {
            "architecture": self.architecture,
            "n_checkpoints": self.n_checkpoints,
            "d_resid": self.d_resid,
            "d_sae": self.d_sae,
        }

    def empty(self, d_sae: int, ranks: Ranks = ALONE) -> SAE:
        """As `SAE` has it; one rank alone trains a crosscoder."""
        if ranks.count > 1:
            raise ValueError("a crosscoder is trained by one process")
        return Crosscoder(self.n_checkpoints, self.d_resid, d_sae)


class CrosscoderObjective(ReLU):
    """Squared error, and activations weighted by the summed norms of their decoder rows."""

    def _weights(self) -> Float[Tensor, " d_sae"]:
        assert isinstance(self.sae, Crosscoder)
        return self.sae.decoder_norms().sum(dim=0)


class CrosscoderStep(TrainStep):
    """The step of an SAE, with a norm for each decoder of a feature instead of one."""

    def __init__(
        self, crosscoder: Crosscoder, sae_config: ReLUConfig, sparse_below: float = SPARSE_BELOW
    ) -> None:
        if sae_config.unit_rows:
            raise ValueError("penalty=unit_decoder: a crosscoder's decoder rows must be free")
        super().__init__(crosscoder, sae_config, sparse_below=sparse_below)
        self.objective = CrosscoderObjective(crosscoder, sae_config)
        self._fused = None  # as the compiled kernels, it knows one norm per feature
        self._crosscoder = crosscoder

    def _update_sparsely(
        self, gradient: SparseGradient, dead: DeadGradient | None
    ) -> Float[Tensor, " d_in"]:
        through_encoder: Tensor = gradient.b_enc() @ self.sae.W_enc.T
        of_norms = gradient.of_norms
        assert of_norms is not None
        self._update_blocks(self._with_norms(replace(gradient, of_norms=None), of_norms), dead)
        return through_encoder

    def _with_norms(
        self, gradient: SparseGradient, of_norms: Float[Tensor, " d_sae"]
    ) -> Iterator[FeatureGradient]:
        """Each block with the penalty's gradient by the norm of each of its decoders."""
        n_checkpoints = self._crosscoder.n_checkpoints
        for of_block in gradient.blocks(self.sae):
            rows = self.sae.W_dec[of_block.features].unflatten(1, (n_checkpoints, -1))
            directions = rows / rows.norm(dim=2, keepdim=True).clamp_min(1e-12)
            of_block.W_dec.addcmul_(of_norms[of_block.features, None], directions.flatten(1))
            yield of_block


def new_crosscoder(
    x: Float[Tensor, "checkpoints tokens d_resid"], d_sae: int, sae_config: ReLUConfig, seed: int
) -> Crosscoder:
    """A random crosscoder around the geometric median of the first residuals, on their device.

    Args:
        x: the first residuals that are trained on; their spread is kept.
        d_sae: features.
        sae_config: what is minimised.
        seed: of the random numbers.
    """
    crosscoder = Crosscoder(len(x), x.shape[2], d_sae)
    crosscoder.spread.copy_(torch.tensor([max(mean_distance(of), 1e-12) for of in x]))
    joined = crosscoder.joined(x.cpu())
    CrosscoderObjective(crosscoder, sae_config).draw(geometric_median(joined), seed)
    return crosscoder.to(x.device)


def save_crosscoder(
    folder: Path, crosscoder: Crosscoder, density: Float[Tensor, " d_sae"], cfg: dict[str, Any]
) -> None:
    """Write weights, feature densities, and what is known about them."""
    tensors = {**dict(crosscoder.state_dict()), DENSITY: density}
    save_tensors(folder / WEIGHTS_FILE, tensors)
    text = json.dumps({**cfg, **crosscoder.settings()}, indent=1)
    (folder / CONFIG_FILE).write_text(text)


def load_crosscoder(folder: Path) -> tuple[Crosscoder, Float[Tensor, " d_sae"], dict[str, Any]]:
    """Read what `save_crosscoder` wrote.

    Raises:
        ValueError: in one line that begins with a file's name: it is not JSON or safetensors, or a
            size, a name or a value in it is not what it must be.
    """
    cfg = load_cfg(folder / CONFIG_FILE)
    sizes = {name: cfg.get(name) for name in ("n_checkpoints", "d_resid", "d_sae")}
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{CONFIG_FILE}: {name}={size!r} must be a whole number above 0")
    with torch.device("meta"):
        crosscoder = Crosscoder(**sizes)  # type: ignore[arg-type]
    shapes = {name: tuple(tensor.shape) for name, tensor in crosscoder.state_dict().items()}
    tensors = load_tensors(folder / WEIGHTS_FILE, {**shapes, DENSITY: (crosscoder.d_sae,)})
    density = tensors.pop(DENSITY)
    crosscoder.to_empty(device="cpu").load_state_dict(tensors)
    return crosscoder, density, cfg
