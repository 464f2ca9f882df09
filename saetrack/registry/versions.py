"""Registered links as MLflow's model versions: found by chain, identity, number, alias, LM step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from saetrack.chain.plan import Chain
from saetrack.registry.imported import KIND
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


NAME = re.compile(r"[A-Za-z0-9._-]+")


class LinkVersions:
    """One model version per link; a version without the tag `identity` is not whole."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client
        # By chain and identity: what is registered stays as it is.
        self._seen: dict[tuple[str, str], ModelVersion] = {}

    def of_link(self, chain: Chain, identity: str | None) -> ModelVersion | None:
        """The version of a chain's link; however long the chain, one query at most."""
        if identity is None:
            return None
        if (chain.name, identity) not in self._seen:
            condition = f"name = '{chain.name}' and tags.identity = '{identity}'"
            for version in self.search(condition):
                self._seen[chain.name, identity] = version
        return self._seen.get((chain.name, identity))

    def number_of(self, chain: Chain, identity: str | None) -> int | None:
        """The number of that version."""
        version = self.of_link(chain, identity)
        return None if version is None else number(version)

    def of_chains(self) -> list[ModelVersion]:
        """The versions of all chains; not those of imported SAEs."""
        return [v for v in self.search("") if v.tags.get("kind") != KIND]

    def of_chain(self, chain_name: str) -> list[ModelVersion]:
        """The versions of one chain.

        Raises:
            UserError: no chain can have that name.
        """
        _require_name(chain_name)
        return self.search(f"name = '{chain_name}'")

    def chain_names(self) -> list[str]:
        """Of all registered chains, in the order of the alphabet."""
        return sorted({version.name for version in self.of_chains()})

    def has_chain(self, name: str) -> bool:
        """Whether a chain has that whole name; one query."""
        return bool(NAME.fullmatch(name) and self.of_chain(name))

    def find(
        self, chain_name: str, version: int | None, alias: str | None, lm_step: int | None
    ) -> ModelVersion:
        """The version of a chain's link by exactly one of number, alias and LM step.

        Raises:
            UserError: there is none, or more than one (two LMs of one name in an old registry, or a
                checkpoint that was overwritten), or not exactly one of the three is given.
        """
        wanted = {"version": version, "alias": alias, "lm_step": lm_step}
        given = {name: value for name, value in wanted.items() if value is not None}
        _require_name(chain_name)
        if len(given) != 1:
            raise UserError(f"pull: give exactly one of {', '.join(wanted)}; got {given or 'none'}")
        try:
            if version is not None:
                return self._client.get_model_version(chain_name, str(version))
            if alias is not None:
                return self._client.get_model_version_by_alias(chain_name, alias)
        except MlflowException:
            asked = ", ".join(f"{name}={value!r}" for name, value in given.items())
            there = [number(found) for found in self.of_chain(chain_name)]
            has = "aliases are first, and final once it is complete"
            if version is not None and there:  # none of a name that is a beginning only
                has = f"versions are {min(there)} to {max(there)}"
            raise UserError(f"pull: {chain_name} has no {asked}; its {has}") from None
        versions = self.of_chain(chain_name)
        matching = [v for v in versions if v.tags.get("lm_step") == str(lm_step)]
        if not matching:
            registered = {v.tags.get("lm_step", "") for v in versions}
            lm_steps = sorted(int(text) for text in registered if text.isdecimal())
            raise UserError(f"pull: {chain_name} has no lm_step={lm_step}; it has {lm_steps}")
        newest = max(matching, key=number)
        # A frozen chain has several links at one LM step: the newest is meant.
        of_its_link = [v for v in matching if v.tags.get("link") == newest.tags.get("link")]
        if len({v.tags["identity"] for v in of_its_link}) > 1:
            versions_there = ", ".join(str(number(v)) for v in sorted(of_its_link, key=number))
            raise UserError(
                f"pull: {chain_name} has more than one SAE of lm_step={lm_step}: versions "
                f"{versions_there}, of checkpoints with other content; give version="
            )
        return newest

    def search(self, condition: str) -> list[ModelVersion]:
        """All whole versions that meet a condition of MLflow's, newest first."""
        found: list[ModelVersion] = []
        token = None
        while True:
            page = self._client.search_model_versions(condition, max_results=1000, page_token=token)
            found += [version for version in page if "identity" in version.tags]
            token = page.token
            if not token:
                return sorted(found, key=number, reverse=True)


def number(version: ModelVersion) -> int:
    """A version's number in its chain's registered model."""
    return int(version.version)


def label(version: ModelVersion) -> str:
    """A version as messages name it."""
    return f"{version.name} version {version.version}"


def _require_name(chain_name: str) -> None:
    """Chains' names stand between quotes in MLflow's conditions."""
    if not NAME.fullmatch(chain_name):
        raise UserError(
            f"chain={chain_name!r}: a chain's name is made of letters, digits, '.', '_' and '-'"
        )
