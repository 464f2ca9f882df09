"""Pydantic models as the house uses them: immutable, strict, one line for each mistake."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from saetrack.utils.errors import UserError, one_line

Tokens = Annotated[int, Field(gt=0)]
Index = Annotated[int, Field(ge=0)]


class Frozen(BaseModel):
    """Immutable, and strict about names that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)


def validated(kind: type[Model], values: dict[str, Any]) -> Model:
    """A model made of values.

    Raises:
        UserError: the first problem, in one line that names the field and the value.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(one_line(error)) from None
