"""A flow's parameters: the fields of a config, and what a deployment sets them to."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from saetrack.utils.errors import UserError

DEPLOYMENTS = Path(__file__).parent.parent / "deployments" / "prefect.yaml"

Function = TypeVar("Function", bound=Callable[..., Any])


def takes_fields_of(config: type[BaseModel]) -> Callable[[Function], Function]:
    """Give a function of `**parameters` the fields of a config as its signature.

    The library's config and the orchestrator's form are then one list.
    """

    def decorate(function: Function) -> Function:
        function.__signature__ = inspect.signature(config)  # type: ignore[attr-defined]
        return function

    return decorate


def deployed_parameters(flow: str, name: str) -> dict[str, Any]:
    """The parameters of a flow's deployment of `deployments/prefect.yaml`.

    Raises:
        UserError: there is no deployment of that name.
    """
    deployments = {
        deployment["name"]: deployment
        for deployment in yaml.safe_load(DEPLOYMENTS.read_text())["deployments"]
        if deployment["entrypoint"].endswith(f":{flow}")
    }
    if name not in deployments:
        raise UserError(f"deployment={name!r}: unknown; there are {', '.join(deployments)}")
    parameters: dict[str, Any] = deployments[name]["parameters"]
    return parameters
