"""What analyses over a chain are given, one link or one checkpoint at a time.

Both come from iterators: of a long chain of large dictionaries only a few links are in memory at
once. Along a chain means along the LM's training, ascending, also when the chain was trained
backwards: the final link is that of the LM's final checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor


class DecoderLink(NamedTuple):
    """A link's feature directions, and which features are alive.

    Attributes:
        lm_step: of the link's checkpoint.
        checkpoint_index: of the same in the LM's list.
        W_dec: decoder rows, of any length, (d_sae, d_in).
        feature_density: share of held-out tokens on which each feature fires, (d_sae,).
    """

    lm_step: int
    checkpoint_index: int
    W_dec: Float[Tensor, "d_sae d_in"]
    feature_density: Float[Tensor, " d_sae"]


class Residuals(NamedTuple):
    """The residual stream of one checkpoint on tokens that are the same at every checkpoint.

    Attributes:
        lm_step: of the checkpoint.
        checkpoint_index: of the same in the LM's list.
        x: as the SAEs get it, (tokens, d_in).
    """

    lm_step: int
    checkpoint_index: int
    x: Float[Tensor, "tokens d_in"]
