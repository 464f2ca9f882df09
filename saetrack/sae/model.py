"""The sparse autoencoder: parameters, encode, decode (paper, appendix B)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from saetrack.sae.kernels.sparse import ActivePairs, pairs_above
from saetrack.sae.tensor_parallel import ALONE, Ranks

if TYPE_CHECKING:
    from jaxtyping import Float

    from saetrack.sae.config import EncoderPrecision


class SAE(nn.Module):
    """A one-layer autoencoder with a dictionary of `d_sae` directions in `d_in` dimensions.

        hidden_pre   = (x - b_dec) W_enc + b_enc
        feature_acts = ReLU(hidden_pre)                 Eq 11, with its constant 1 as in the code
        sae_out      = feature_acts W_dec + b_dec       Eq 12

    Other architectures (`saetrack.sae.architectures`) differ in which features fire.

    If several ranks train one dictionary, `d_sae` and the weights are those of this rank's
    features, and `decode` sums over the ranks.

    Example:
        >>> sae = SAE(d_in=4, d_sae=8)
        >>> tuple(sae.W_dec.shape)
        (8, 4)
    """

    architecture: ClassVar[str] = "relu"

    W_enc: Float[Tensor, "d_in d_sae"]
    b_enc: Float[Tensor, " d_sae"]
    W_dec: Float[Tensor, "d_sae d_in"]
    b_dec: Float[Tensor, " d_in"]

    def __init__(self, d_in: int, d_sae: int, ranks: Ranks = ALONE) -> None:
        super().__init__()
        self.ranks = ranks
        # A feature's weights are contiguous in memory, since the step works feature by feature.
        self.W_enc = nn.Parameter(torch.zeros(d_sae, d_in).T)
        self.b_enc = nn.Parameter(torch.zeros(d_sae))
        self.W_dec = nn.Parameter(torch.zeros(d_sae, d_in))
        self.b_dec = nn.Parameter(torch.zeros(d_in))

    @property
    def d_in(self) -> int:
        """Width of the residual stream."""
        return self.W_enc.shape[0]

    @property
    def d_sae(self) -> int:
        """Features of the dictionary."""
        return self.W_enc.shape[1]

    def hidden_pre(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_sae"]:
        """What the activation function is applied to.

        The bias is folded, (x - b) W + e = x W + (e - b W), which saves the gradient by x - b that
        autograd would compute only to sum it into that of `b_dec`.
        """
        b_dec = self.ranks.sum_gradients(self.b_dec)
        return torch.addmm(self.b_enc - b_dec @ self.W_enc, x, self.W_enc)

    def activate(self, hidden_pre: Float[Tensor, "batch d_sae"]) -> Float[Tensor, "batch d_sae"]:
        """Feature activations from `hidden_pre`, once training is over."""
        return torch.relu(hidden_pre)

    def encode(self, x: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_sae"]:
        """Feature activations (Eq 11), once training is over."""
        return self.activate(self.hidden_pre(x))

    def active_pairs(
        self, x: Float[Tensor, "batch d_in"], precision: EncoderPrecision = "float32"
    ) -> ActivePairs:
        """What `encode` leaves above 0, without ever holding all activations.

        Args:
            x: residuals.
            precision: as of `saetrack.sae.kernels.sparse.pairs_above`.
        """
        return pairs_above(self, x, 0.0, precision)

    def settings(self) -> dict[str, Any]:
        """What `cfg.json` says beside the weights, from which an SAE of this kind is made again."""
        return {"architecture": self.architecture, "d_in": self.d_in, "d_sae": self.d_sae}

    def empty(self, d_sae: int, ranks: Ranks = ALONE) -> SAE:
        """An SAE of this kind with weights of zero."""
        return SAE(self.d_in, d_sae, ranks)

    @torch.no_grad()
    def scale_biases(self, growth: float) -> None:
        """Multiply all that has the unit of an activation, for residuals that grew or shrank."""
        self.b_enc.mul_(growth)
        self.b_dec.mul_(growth)

    def decode(
        self, feature_acts: Float[Tensor, "batch features"], n_features: int | None = None
    ) -> Float[Tensor, "batch d_in"]:
        """Reconstruction (Eq 12).

        Args:
            feature_acts: of the first features.
            n_features: how many; None for all.
        """
        rows = self.W_dec[:n_features]
        if self.ranks.count > 1:
            return self.ranks.all_reduce(feature_acts @ rows) + self.b_dec
        return torch.addmm(self.b_dec, feature_acts, rows)

    def shard(self, ranks: Ranks) -> SAE:
        """The features of this dictionary that one of several ranks trains."""
        if ranks.count == 1:
            return self
        shard = self.empty(self.d_sae // ranks.count, ranks)
        shard.load_state_dict(ranks.shard(dict(self.state_dict())))
        return shard

    def unshard(self) -> SAE:
        """The whole dictionary, on rank 0; all ranks must call this."""
        if self.ranks.count == 1:
            return self
        tensors = self.ranks.unshard(dict(self.state_dict()))
        whole = self.empty(tensors["W_dec"].shape[0])
        whole.load_state_dict(tensors)
        return whole

    @torch.no_grad()
    def normalise_decoder(self, features: slice = slice(None)) -> None:
        """Give decoder rows norm 1, all or those of some features; a zero row stays zero."""
        rows = self.W_dec[features]
        rows.div_(rows.norm(dim=1, keepdim=True).clamp_min(1e-12))


@torch.no_grad()
def draw_weights(sae: SAE, b_dec: Float[Tensor, " d_in"], seed: int, *, tied: bool = False) -> None:
    """Give an empty SAE the weights that training starts from.

    W_enc and W_dec are independent and Kaiming-uniform (bound sqrt(6 / second dimension)), as the
    authors start theirs; decoder rows are then divided by their norm, `b_enc` is zero. Random
    numbers are drawn on the CPU, so that every device starts from the same weights.

    Args:
        sae: on the CPU; is changed.
        b_dec: of the SAE.
        seed: of the random numbers.
        tied: whether W_enc starts as the decoder's transpose instead (Gao et al. 2024).
    """
    generator = torch.Generator().manual_seed(seed)
    for weight in (sae.W_enc, sae.W_dec):
        bound = (6 / weight.shape[1]) ** 0.5
        weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=generator))
    sae.normalise_decoder()
    if tied:
        sae.W_enc.copy_(sae.W_dec.T)
    sae.b_dec.copy_(b_dec)


def new_sae(d_in: int, d_sae: int, b_dec: Float[Tensor, " d_in"], seed: int) -> SAE:
    """A fresh ReLU SAE as the authors start theirs (`draw_weights`)."""
    sae = SAE(d_in, d_sae)
    draw_weights(sae, b_dec, seed)
    return sae


@torch.no_grad()
def geometric_median(
    points: Float[Tensor, "points d_in"], max_iterations: int = 100, tolerance: float = 1e-6
) -> Float[Tensor, " d_in"]:
    """The point with the least summed distance to `points`, by Weiszfeld's iteration from the mean.

    Stops when the summed distance falls by less than `tolerance` of itself.
    """
    median = points.mean(dim=0)
    last = torch.inf
    for _ in range(max_iterations):
        distances = (points - median).norm(dim=1).clamp_min(1e-6)
        total = float(distances.sum())
        if last - total <= tolerance * total:
            break
        last = total
        weights = 1 / distances
        median = (weights @ points) / weights.sum()
    return median
