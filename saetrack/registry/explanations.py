"""Explanations of features: runs of their own beside the analysis that they stand on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from saetrack.registry.artifacts import folder_here
from saetrack.utils.errors import UserError, first_line

# Tag `kind` of their runs, whose tag `analysis_run` names the analysis.
KIND = "explanations"
TABLES = "tables"  # folder of such a run


@dataclass(frozen=True)
class RunFacts:
    """What tells one run of explanations from another.

    Attributes:
        begun_ms: when it was registered, in milliseconds since 1970.
        analysis_run: id of the analysis that it stands on; None where the run does not say it.
    """

    begun_ms: int
    analysis_run: str | None


class ExplanationRuns:
    """The runs that explain features of a chain."""

    def __init__(self, client: MlflowClient) -> None:
        """Of a registry."""
        self._client = client

    def of_chain(self, chain_name: str) -> dict[str, RunFacts]:
        """The whole ones by their ids, the newest first."""
        experiments = [found.experiment_id for found in self._client.search_experiments()]
        runs: list[Run] = self._client.search_runs(
            experiments,
            f"tags.kind = '{KIND}' and tags.chain = '{chain_name}' "
            "and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
        )
        return {
            str(run.info.run_id): RunFacts(run.info.start_time, run.data.tags.get("analysis_run"))
            for run in runs
        }

    @contextmanager
    def tables(self, run_id: str) -> Iterator[Path]:
        """The folder of a run's tables, for as long as the block lasts.

        Raises:
            UserError: they cannot be had.
        """
        with tempfile.TemporaryDirectory() as folder:
            uri = self._client.get_run(run_id).info.artifact_uri
            folder_here(uri, f"run {run_id}: its files")
            try:
                self._client.download_artifacts(run_id, TABLES, dst_path=folder)
            except (MlflowException, OSError) as error:
                raise UserError(
                    f"run {run_id}: its tables cannot be had: {first_line(error)}"
                ) from None
            yield Path(folder) / TABLES
