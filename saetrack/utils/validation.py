"""Pydantic models as the house uses them: immutable, strict, one line for each mistake."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, Tag, ValidationError

from saetrack.utils.errors import UserError, first_problem, one_line

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
        raise UserError(one_line(error, _names_at(kind, error), values)) from None


def _names_at(kind: type[BaseModel], error: ValidationError) -> list[str]:
    """The names of the fields that there are where the first problem is."""
    annotation: Any = kind
    for part in map(str, first_problem(error)["loc"][:-1]):
        # Any other part is the number of an item, or the key of a mapping, of what was found last.
        if part.startswith("<"):
            annotation = _tagged(annotation, part)
        elif part in (fields := _fields(annotation)):
            annotation = fields[part]
    return list(_fields(annotation))


def _tagged(annotation: Any, tag: str) -> Any:
    """The member of a union that has a tag; None where there is none."""
    inner = get_args(annotation)
    if Tag(tag) in inner[1:]:
        return inner[0]
    return next((found for of in inner if (found := _tagged(of, tag)) is not None), None)


def _fields(annotation: Any) -> dict[str, Any]:
    """The fields, with their annotations, of the first group of fields in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {name: field.annotation for name, field in annotation.model_fields.items()}
    if isinstance(annotation, type) and is_dataclass(annotation):
        return get_type_hints(annotation)
    return next((found for inner in get_args(annotation) if (found := _fields(inner))), {})
