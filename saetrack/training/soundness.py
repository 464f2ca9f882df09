"""What leaves training: refused where it is broken, told where it is odd."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from saetrack.sae.metrics import Evaluation
    from saetrack.sae.model import SAE

# Share of the held-out tokens, and of the residuals' variance from which on these tokens are all
# that an explained variance speaks of.
FEW_TOKENS, MOST_VARIANCE = 0.05, 0.9
MANY_DEAD = 0.5
# Distance of the residuals from their mean, over the mean's norm: below it they are equal.
EQUAL = 1e-6


def require_finite_link(name: str, sae: SAE, metrics: dict[str, float]) -> None:
    """Refuse a link before it is registered.

    Args:
        name: of the link, for the message.
        sae: its weights.
        metrics: its numbers, by name.

    Raises:
        UserError: a weight or a number is NaN or infinite.
    """
    broken = [of for of, weight in sae.named_parameters() if not weight.isfinite().all()]
    broken += [of for of, value in metrics.items() if not math.isfinite(value)]
    if broken:
        more = f" and {len(broken) - 4} more" if len(broken) > 4 else ""
        raise UserError(
            f"{name}: {', '.join(broken[:4])}{more}: not finite after training; not registered (a "
            "lower learning_rate may help)"
        )


@torch.no_grad()
def warnings_of(evaluation: Evaluation, held_out: Float[Tensor, "tokens d_in"]) -> tuple[str, ...]:
    """What looks wrong with a link but may be right: a line for each.

    Args:
        evaluation: after its last token.
        held_out: the residuals of that evaluation.
    """
    found = []
    mean = held_out.mean(dim=0)
    squares = (held_out - mean).square().sum(dim=1)
    if float(squares.max()) <= (EQUAL * float(mean.norm())) ** 2:
        found.append("all held-out residuals are equal")
    else:
        few = math.ceil(FEW_TOKENS * len(squares))
        share = float(squares.topk(few).values.sum(dtype=torch.float64) / squares.double().sum())
        if share >= MOST_VARIANCE:
            found.append(
                f"{FEW_TOKENS:.0%} of the held-out tokens hold {share:.0%} of the residuals' "
                "variance: explained variance speaks of them"
            )
    if evaluation.explained_variance < 0:
        found.append(
            f"explained variance is {evaluation.explained_variance:.2g}: worse than the mean"
        )
    if evaluation.dead >= MANY_DEAD:
        found.append(f"{evaluation.dead:.0%} of the features are dead")
    return tuple(found)
