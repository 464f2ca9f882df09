"""How many tokens a link trains on: a number, or as many as it takes to reach a plateau."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from saetrack.utils.errors import UserError, message_of
from saetrack.utils.validation import Frozen, Tokens, validated

# From one check to the next, training tokens grow by this factor.
GROWTH = 1.5
CHECKS = 7
# Share of `max` that the loss is judged on; the checks of a whole link then cost about 3 % of its
# training steps.
VALIDATION_SHARE, MAX_VALIDATION_TOKENS = 1 / 128, 16_384


class Plateau(Frozen):
    """Train until half as many tokens again would hardly lower the loss.

    The loss is measured after max/1.5^7, ..., max/1.5^2 and max/1.5 tokens, on validation tokens
    that no link of this budget trains on: the last rows of the corpus' train split. The link ends
    at the first check that finds it less than `within` of itself below what the check before found,
    and after `max` tokens at the latest.

    Example:
        >>> budget = Plateau(max=60_000, until="plateau")
        >>> [round(tokens) for tokens in budget.checks], budget.validation_tokens
        ([3512, 5267, 7901, 11852, 17778, 26667, 40000], 468)
    """

    max: Tokens = Field(description="tokens after which a link ends at the latest")
    until: Literal["plateau"] = Field(
        description="plateau: a link ends once training half as long again would lower its loss "
        "by less than `within`, as the last such interval shows"
    )
    within: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.01, description="share of the loss"
    )

    @property
    def checks(self) -> list[float]:
        """Training tokens after which the loss is measured, ascending."""
        return [self.max / GROWTH**number for number in range(CHECKS, 0, -1)]

    @property
    def validation_tokens(self) -> int:
        """How many tokens the loss is measured on; they come in whole rows."""
        return min(max(1, int(self.max * VALIDATION_SHARE)), MAX_VALIDATION_TOKENS)

    def identity(self) -> dict[str, Any]:
        """Everything that decides where a link ends."""
        return {**self.model_dump(), "checks": self.checks, "validation": self.validation_tokens}


_TOKENS = TypeAdapter(Tokens)


def _valid(value: Any) -> Any:
    """A budget of either kind; a union of pydantic would name its members in each message."""
    try:
        if isinstance(value, dict):
            return validated(Plateau, value)
        return value if isinstance(value, Plateau) else _TOKENS.validate_python(value)
    except UserError as error:
        raise ValueError(str(error)) from None
    except ValidationError as error:
        raise ValueError(message_of(error.errors()[0])) from None


Budget = Annotated[int | Plateau, BeforeValidator(_valid)]


def most_tokens(budget: int | Plateau) -> int:
    """Tokens that a link trains on at most."""
    return budget.max if isinstance(budget, Plateau) else budget
