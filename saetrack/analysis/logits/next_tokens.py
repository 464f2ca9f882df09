"""Whether what a feature promotes is what comes next where it fires.

The agreement of a feature is the mean centred logit of the tokens that follow its strongest
contexts, in standard deviations of what the same logits give to tokens that follow the contexts of
other features: those know which tokens are common, and nothing of this feature. The control is the
agreement of each feature's logits with the next tokens of one other feature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray
    from torch import Tensor

    from saetrack.analysis.contexts.top_contexts import Contexts

# Other features whose next tokens each feature's logits are held against.
OTHERS = 128


def next_tokens(
    token_rows: Int[ndarray, "rows context"], contexts: Contexts
) -> Int[ndarray, "d_sae k"]:
    """The token behind each context; -1 fills up, and stands for a row's end."""
    rows, behind = contexts.rows, contexts.positions + 1
    there = (rows >= 0) & (behind < token_rows.shape[1])
    found = token_rows[np.where(there, rows, 0), np.where(there, behind, 0)]
    return np.where(there, found.astype(np.int64), -1)


@dataclass(frozen=True)
class NextTokens:
    """What follows the contexts of features, and of others beside them.

    Attributes:
        own: of each feature, (d_sae, k); -1 fills up.
        shuffled: those of one other feature, (d_sae, k).
        others: of some features, (others, k).
        other_features: which these are, (others,).
    """

    own: Int[Tensor, "d_sae k"]
    shuffled: Int[Tensor, "d_sae k"]
    others: Int[Tensor, "others k"]
    other_features: Int[Tensor, " others"]

    @classmethod
    def of(cls, own: Int[ndarray, "d_sae k"], seed: int, device: torch.device) -> NextTokens:
        """Draw the others among features that have next tokens.

        Args:
            own: as `next_tokens` gives them.
            seed: of the draws.
            device: where the logits will be.
        """
        generator = np.random.default_rng(seed)
        # The same order at every link, so that who stands for whom hardly changes along a chain.
        order = generator.permutation(len(own))
        order = order[(own[order] >= 0).any(axis=1)]
        shuffled = np.full_like(own, -1)
        shuffled[order] = own[np.roll(order, 1)]  # none is its own, if there are two
        others = np.sort(order[:OTHERS])
        arrays = (own, shuffled, own[others], others)
        return cls(*(torch.from_numpy(array).to(device) for array in arrays))

    def agreement(
        self, logits: Float[Tensor, "block vocabulary"], features: slice
    ) -> tuple[Float[Tensor, " block"], Float[Tensor, " block"]]:
        """The agreement of some features, and that of the control; NaN without next tokens."""
        chance = _mean_at(logits, self.others.expand(len(logits), *self.others.shape))
        itself = torch.arange(features.start, features.stop, device=logits.device)
        chance[itself[:, None] == self.other_features] = torch.nan
        middle = chance.nanmean(dim=1)
        spread = (chance - middle[:, None]).square().nanmean(dim=1).sqrt().clamp_min(1e-12)
        own, shuffled = (
            (_mean_at(logits, tokens[features]) - middle) / spread
            for tokens in (self.own, self.shuffled)
        )
        return own, shuffled


def _mean_at(
    logits: Float[Tensor, "block vocabulary"], tokens: Int[Tensor, "block *more k"]
) -> Float[Tensor, "block *more"]:
    """The mean logit of some tokens, of which -1 are left out; NaN of none."""
    flat = tokens.clamp_min(0).flatten(1)
    found = logits.gather(1, flat).view(tokens.shape)
    return found.masked_fill(tokens < 0, torch.nan).nanmean(dim=-1)
