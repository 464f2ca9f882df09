"""Theorem 2.1 as it is stated (appendix C), and the way that training really takes.

If the loss' gradient has norm G, and activations are K-Lipschitz in the parameters, a step of plain
gradient descent with learning rate eta moves a token's activations by eta K G at most. Measured at
a checkpoint are G, K near it at some tokens (`saetrack.lm.parameter_steps`), and how far such steps
move the same tokens. Two controls stand beside them: steps as long in a random direction, which
say how much the gradient's direction matters, and what training made of the same tokens from this
checkpoint to the next. That way is Adam's, whose steps are not eta times the gradient:

- held against K G times the summed learning rates it says whether the theorem covers training;
- held against K times the distance between the two checkpoints' parameters, whether it is the
  Lipschitz constant near the first one that fails, or the length of the steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from saetrack.lm.parameter_steps import ParameterSteps, length

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from numpy import ndarray
    from torch import Tensor

    from saetrack.lm.hooked import HookedLM

# Four decades, two in each.
LEARNING_RATES = tuple(10.0 ** (power / 2) for power in range(-8, 1))
# That a bound of zero, as at the end of a learning rate's schedule, gives no quotient.
NO_BOUND = 1e-30


@dataclass(frozen=True)
class TheoremNumbers:
    """What theorem 2.1 speaks of, at one checkpoint.

    Attributes:
        lipschitz: K at each token, activation per length of parameters below the hook, (tokens,).
        gradient_norm: G, of the mean loss (nats) over the rows, by all parameters.
        gradient_norm_below: the same by the parameters below the hook.
        moved: how far a step with each of `LEARNING_RATES` moves each token, (rates, tokens).
        moved_at_random: how far a step as long below the hook does in a random direction.
        rows: over which the loss was taken.
    """

    lipschitz: Float[ndarray, " tokens"]
    gradient_norm: float
    gradient_norm_below: float
    moved: Float[ndarray, "rates tokens"]
    moved_at_random: Float[ndarray, "rates tokens"]
    rows: int


def measure_theorem(
    lm: HookedLM,
    rows: Int[Tensor, "rows context"],
    texts: Int[Tensor, "tokens context"],
    positions: Int[Tensor, " tokens"],
    seed: int,
) -> TheoremNumbers:
    """Measure one checkpoint.

    Args:
        lm: loaded whole, in float32.
        rows: whose mean loss is stepped down.
        texts: rows, of each of which one token is looked at.
        positions: of these tokens.
        seed: of the random direction, and of what power iteration begins with.
    """
    steps = ParameterSteps(lm)
    gradient, norm = steps.loss_gradient(rows)
    norm_below = length(gradient)
    random = steps.random_direction(seed)
    each = torch.arange(len(texts))

    def at_tokens() -> Float[Tensor, "tokens d_in"]:
        return lm.activations(texts)[0].cpu()[each, positions]

    start = at_tokens()

    def moved(direction: list[Tensor], scale: float) -> list[ndarray]:
        found = []
        for rate in LEARNING_RATES:
            with steps.moved(direction, scale * rate):
                found.append((at_tokens() - start).norm(dim=1).numpy())
        return found

    return TheoremNumbers(
        lipschitz=np.array(
            [
                steps.lipschitz(text[: position + 1], seed)
                for text, position in zip(texts, positions.tolist(), strict=True)
            ]
        ),
        gradient_norm=norm,
        gradient_norm_below=norm_below,
        moved=np.stack(moved(gradient, -1.0)),
        moved_at_random=np.stack(moved(random, norm_below)),
        rows=len(rows),
    )


def theorem_table(found: Mapping[int, TheoremNumbers]) -> pd.DataFrame:
    """Steps of gradient descent from each checkpoint, and what bounds them.

    Args:
        found: by LM step.

    Returns:
        One row per checkpoint and learning rate: `lm_step`, `learning_rate`, `tokens`, `rows`;
        `lipschitz` (K, the largest of the tokens') and `lipschitz_median`; `gradient_norm`,
        `gradient_norm_below`; `movement_median`, `movement` (the largest of the tokens');
        `random_movement`, that of steps as long in a random direction; `bound` (learning rate times
        K times G), `looseness` (bound over movement), and whether it `holds`.
    """
    rows = []
    for lm_step, at in found.items():
        for rate, moved, random in zip(LEARNING_RATES, at.moved, at.moved_at_random, strict=True):
            bound = rate * float(at.lipschitz.max()) * at.gradient_norm
            rows.append(
                {
                    "lm_step": lm_step,
                    "learning_rate": rate,
                    "tokens": len(moved),
                    "rows": at.rows,
                    "lipschitz": float(at.lipschitz.max()),
                    "lipschitz_median": float(np.median(at.lipschitz)),
                    "gradient_norm": at.gradient_norm,
                    "gradient_norm_below": at.gradient_norm_below,
                    "movement_median": float(np.median(moved)),
                    "movement": float(moved.max()),
                    "random_movement": float(random.max()),
                    "bound": bound,
                    "looseness": bound / max(float(moved.max()), NO_BOUND),
                    "holds": bool(moved.max() <= bound),
                }
            )
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class TrainingPath:
    """What training made of the same tokens from a checkpoint to the next.

    Attributes:
        to_step: LM step of the next one.
        moved: how far it moved each token, (tokens,).
        learning_rate_sum: summed over the steps between; NaN where it is not known.
        parameter_displacement: between the two, of the parameters below the hook.
    """

    to_step: int
    moved: Float[ndarray, " tokens"]
    learning_rate_sum: float
    parameter_displacement: float


def theorem_path_table(
    found: Mapping[int, TheoremNumbers], paths: Mapping[int, TrainingPath]
) -> pd.DataFrame:
    """The way that training takes from each checkpoint, beside what would bound it.

    Args:
        found: by LM step.
        paths: by the LM step that they start at.

    Returns:
        One row per checkpoint: `lm_step`, `to_step`, `movement_median`, `movement` (the largest of
        the tokens'), `learning_rate_sum`, `bound` (K G times that), `over_bound` (movement over
        it; above 1 the theorem does not cover this way), `parameter_displacement`,
        `displacement_bound` (K times that), `over_displacement_bound`.
    """
    rows = []
    for lm_step, at in found.items():
        path, lipschitz = paths[lm_step], float(at.lipschitz.max())
        furthest = float(path.moved.max())
        bound = lipschitz * at.gradient_norm * path.learning_rate_sum
        by_displacement = lipschitz * path.parameter_displacement
        rows.append(
            {
                "lm_step": lm_step,
                "to_step": path.to_step,
                "movement_median": float(np.median(path.moved)),
                "movement": furthest,
                "learning_rate_sum": path.learning_rate_sum,
                "bound": bound,
                "over_bound": furthest / max(bound, NO_BOUND),
                "parameter_displacement": path.parameter_displacement,
                "displacement_bound": by_displacement,
                "over_displacement_bound": furthest / max(by_displacement, NO_BOUND),
            }
        )
    return pd.DataFrame(rows)
