"""SAEs from elsewhere: each a registered model of one version, from which chains can start."""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from saetrack.lm.hook import Hook, parse_hook
from saetrack.registry.artifacts import SAE_FOLDER, folder_sha256
from saetrack.registry.chain_run import ChainRuns
from saetrack.registry.claims import take_claim
from saetrack.registry.facts import as_tags, current_names
from saetrack.registry.formats.foreign import ForeignSAE
from saetrack.sae.files import DENSITY_FILE, WEIGHTS_FILE, save_sae, save_tensors
from saetrack.utils.errors import UserError
from saetrack.utils.files import content_hash, file_sha256

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

log = logging.getLogger(__name__)

EXPERIMENT = KIND = "imported"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ImportedSAEs:
    """Registered models `imported.NAME`. What is imported under a name stays as it is."""

    def __init__(self, client: MlflowClient, runs: ChainRuns) -> None:
        self._client = client
        self._runs = runs

    def add(self, name: str, foreign: ForeignSAE) -> bool:
        """Register an SAE under a name; False if it is there already.

        Raises:
            UserError: the name cannot be one, or belongs to another SAE.
        """
        if not NAME.fullmatch(name):
            raise UserError(
                f"name={name!r}: must be made of letters, digits, '.', '_' and '-', and begin with "
                "a letter or digit"
            )
        with tempfile.TemporaryDirectory() as name_of_folder:
            folder = Path(name_of_folder)
            facts = _write(folder, name, foreign)
            if self._is_taken(name, facts["identity"]):
                return False
            experiment_id = self._runs.experiment(EXPERIMENT)
            tags = as_tags(facts)
            run_id = take_claim(self._client, experiment_id, facts["identity"], name, tags)
            if run_id is None:
                raise UserError(f"name={name!r}: another process is importing this SAE just now")
            self._client.log_artifacts(run_id, name_of_folder, SAE_FOLDER)
        with contextlib.suppress(MlflowException):  # left by an attempt that was broken off
            self._client.create_registered_model(_model(name))
        source = f"runs:/{run_id}/{SAE_FOLDER}"
        self._client.create_model_version(_model(name), source=source, run_id=run_id, tags=tags)
        self._client.set_terminated(run_id)
        # Of two processes at the same moment the first one's stands.
        return self._is_taken(name, facts["identity"])

    def identity_of(self, name: str, kind: dict[str, Any], hook: Hook, residual: str) -> str:
        """The identity of an imported SAE that a chain is to start from.

        Args:
            name: under which it was imported.
            kind: `d_sae`, `architecture` and the like that it must have; of `d_in` 0 while that is
                not known.
            hook: that the chain reads; a warning is logged if the SAE is known to read another.
            residual: of the chain, `raw` or `centred`; a warning is logged if the SAE's differ.

        Raises:
            UserError: there is none of that name, or it has another shape.
        """
        found = self._find(name)
        if found is None:
            known = ", ".join(self.table()["name"]) or "none yet"
            raise UserError(
                f"start={name!r}: no such SAE was imported; there are: {known} "
                "(saetrack import FOLDER --name NAME)"
            )
        for field, wanted in kind.items():
            # What earlier releases imported is a ReLU SAE.
            known = found.tags.get(field, "relu")
            if wanted and known != str(wanted):
                raise UserError(
                    f"start={name!r}: has {field}={known}, but the chain has {field}={wanted}"
                )
        theirs = found.tags.get("hook_name", "")
        if theirs and _stream(theirs) != _stream(hook.name):
            log.warning(
                "start=%r: was trained on %s, but the chain reads %s", name, theirs, hook.name
            )
        # What was imported by earlier releases calls them by an earlier name.
        theirs = current_names(found.tags).get("residual", residual)
        if theirs != residual:
            log.warning(
                "start=%r: was trained on %s residuals, but those of the chain are %s",
                name,
                theirs,
                residual,
            )
        return str(found.tags["identity"])

    def version(self, identity: str | None) -> ModelVersion | None:
        """The registered version with an identity."""
        condition = f"tags.identity = '{identity}' and tags.kind = '{KIND}'"
        return next(iter(self._client.search_model_versions(condition)), None)

    def table(self) -> pd.DataFrame:
        """One row per imported SAE: `name`, `d_in`, `d_sae`, `residual`, `lm`, `hook_name`."""
        columns = ["name", "d_in", "d_sae", "residual", "lm", "hook_name"]
        found = self._client.search_model_versions(f"tags.kind = '{KIND}'", max_results=1000)
        tags = [current_names(version.tags) for version in found]
        rows = [{column: known[column] for column in columns} for known in tags]
        return pd.DataFrame(rows, columns=columns).drop_duplicates("name").sort_values("name")

    def _is_taken(self, name: str, identity: str) -> bool:
        found = self._find(name)
        if found is not None and found.tags["identity"] != identity:
            raise UserError(f"name={name!r}: belongs to another imported SAE; choose another name")
        return found is not None

    def _find(self, name: str) -> ModelVersion | None:
        if not NAME.fullmatch(name):
            return None
        versions = self._client.search_model_versions(f"name = '{_model(name)}'")
        whole = [version for version in versions if version.tags.get("kind") == KIND]
        return min(whole, key=lambda version: int(version.version), default=None)


def _stream(hook_name: str) -> str:
    """A hook's name; what leaves a block by the name of what enters the next one."""
    try:
        hook = parse_hook(hook_name)
    except ValueError:  # one that is none of ours
        return hook_name
    return Hook("resid_pre", hook.layer + 1).name if hook.kind == "resid_post" else hook.name


def _model(name: str) -> str:
    return f"{KIND}.{name}"


def _write(folder: Path, name: str, foreign: ForeignSAE) -> dict[str, Any]:
    """The files of an imported SAE, as a link has them; and its tags."""
    sae = foreign.sae
    cfg = {
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "residual": foreign.residual,
        "residual_mean_distance": foreign.residual_mean_distance,
        "imported_from": foreign.metadata,
    }
    save_sae(folder, sae, cfg)
    density_file = folder / DENSITY_FILE
    if foreign.feature_density is not None:
        save_tensors(density_file, {"feature_density": foreign.feature_density})
    # Of all that a link takes from its parent, and of nothing else.
    kind = sae.settings()
    identity = content_hash(
        {
            # As release 0.1 called it: what it imported keeps its identity.
            **({} if sae.architecture == "relu" else {"kind": kind}),
            "weights": file_sha256(folder / WEIGHTS_FILE),
            "density": file_sha256(density_file) if density_file.exists() else None,
            "residual_spread": foreign.residual_mean_distance,
        }
    )
    return {
        "kind": KIND,
        "name": name,
        "identity": identity,
        "sha256": folder_sha256(folder),
        **kind,
        "residual": foreign.residual,
        "lm": foreign.metadata.get("model_name"),
        "hook_name": foreign.metadata.get("hook_name"),
    }
