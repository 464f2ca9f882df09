"""A flow's parameters: the name of a preset, and the fields of a config that are other than its."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel

from saetrack.chain.presets import Kind, load_preset

Function = TypeVar("Function", bound=Callable[..., Any])


def takes_fields_of(
    config: type[BaseModel], *, with_preset: bool = True
) -> Callable[[Function], Function]:
    """Give a function of `**parameters` the fields of a config as its signature, `preset` first.

    The library's config and the orchestrator's form are then one list. Every field may be left
    out, since a preset may give it: None stands for "as the preset has it".
    """

    def optional(name: str, annotation: Any) -> inspect.Parameter:
        # A track within a comparison or an analysis may be the name of a track's preset.
        named = (annotation | str) if name == "track" else annotation
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=named | None
        )

    def decorate(function: Function) -> Function:
        fields = inspect.signature(config).parameters.values()
        first = [optional("preset", str)] if with_preset else []
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [*first, *(optional(one.name, one.annotation) for one in fields)]
        )
        return function

    return decorate


def parameters_of(kind: Kind, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run: its preset's, with the fields that were given beside it.

    Raises:
        UserError: there is no such preset.
    """
    changes = {name: value for name, value in given.items() if value is not None}
    return load_preset(kind, changes.pop("preset", None), changes)
