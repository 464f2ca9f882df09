"""What is explained, by whom, and what that may cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from saetrack.analysis.explanations.model import Budget, Prices
from saetrack.analysis.life_store.rare_directions import RARE
from saetrack.utils.errors import UserError
from saetrack.utils.validation import Frozen, Index, validated

LAST, FORMED = "last", "formed"
AtLeastOne = Annotated[int, Field(gt=0)]
# What of a config decides the result.
DECIDING = {"features", "feature", "directions", "at", "seed"}
Money = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ExplainConfig(Frozen):
    """How features of an analysed chain are explained."""

    chain: str = Field(description="an analysed chain, or the beginning of its name")
    features: AtLeastOne = Field(
        default=32,
        description="how many: drawn by `seed` from those that are live at the last link",
    )
    feature: tuple[Index, ...] | None = Field(
        default=None, description="features by their numbers, in place of `features`"
    )
    directions: Annotated[int, Field(ge=0, le=RARE)] = Field(
        default=16,
        description="random directions at each place beside them, a control, at most as many as "
        "features; 0: none",
    )
    at: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        default=(LAST,),
        description="LM steps at which they are explained; `last`; `formed`: where each is formed",
    )
    rules: bool = Field(
        default=False, description="rules explain and judge, even where an endpoint is set"
    )
    model_folder: Path | None = Field(
        default=None, description="a folder with an LM that explains and judges on this machine"
    )
    at_once: Annotated[int, Field(gt=0, le=256)] = Field(
        default=8, description="requests at the same time"
    )
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        default=120.0, description="seconds until an answer is given up"
    )
    price_in: Money | None = Field(default=None, description="of a million tokens sent")
    price_out: Money | None = Field(default=None, description="of a million tokens that come back")
    budget_requests: AtLeastOne | None = Field(
        default=10_000, description="requests that a run may send; null: any number"
    )
    budget_tokens: AtLeastOne | None = Field(
        default=None, description="tokens that it may send and receive"
    )
    budget_money: Money | None = Field(
        default=None, description="what it may cost, by the two prices"
    )
    seed: Index = Field(
        default=0, description="of features, of texts and their order, of shuffled explanations"
    )

    @field_validator("at")
    @classmethod
    def _known_place(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if one not in {LAST, FORMED} and not one.isdecimal():
                raise ValueError(f"{one!r} must be an LM step, {LAST} or {FORMED}")
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _has_prices_and_one_model(self) -> Self:
        if self.budget_money is not None and None in (self.price_in, self.price_out):
            raise UserError(
                f"budget_money={self.budget_money:g}: needs price_in and price_out beside it"
            )
        if self.rules and self.model_folder is not None:
            raise UserError(f"model_folder={self.model_folder}: rules and a folder exclude another")
        return self

    @property
    def budget(self) -> Budget:
        """What a run may cost."""
        return Budget(self.budget_requests, self.budget_tokens, self.budget_money)

    @property
    def prices(self) -> Prices:
        """Of tokens."""
        return Prices(self.price_in, self.price_out)

    def choices(self) -> dict[str, Any]:
        """What of it decides the result."""
        return self.model_dump(mode="json", include=DECIDING)


def explain_config(given: Mapping[str, Any]) -> ExplainConfig:
    """A config of what was given; other names are left out, as are None and empty lists.

    Raises:
        UserError: the first mistake, in a line.
    """
    unset = [name for name, value in given.items() if value is None or value == []]
    limits = {"budget_requests"}  # None is no limit
    return validated(
        ExplainConfig,
        {
            name: value
            for name, value in given.items()
            if name in ExplainConfig.model_fields and (name not in unset or name in limits)
        },
    )
