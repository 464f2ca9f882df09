"""Explanations of features: runs of their own beside the analysis that they stand on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from saetrack.utils.errors import UserError, first_line

# Tag `kind` of their runs, whose tag `analysis_run` names the analysis.
KIND = "explanations"
TABLES = "tables"  # folder of such a run


class ExplanationRuns:
    """The runs that explain features of a chain."""

    def __init__(self, client: MlflowClient) -> None:
        """Of a registry."""
        self._client = client

    def of_chain(self, chain_name: str) -> list[str]:
        """Ids of the whole ones, the newest first."""
        experiments = [found.experiment_id for found in self._client.search_experiments()]
        runs: list[Run] = self._client.search_runs(
            experiments,
            f"tags.kind = '{KIND}' and tags.chain = '{chain_name}' "
            "and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
        )
        return [str(run.info.run_id) for run in runs]

    @contextmanager
    def tables(self, run_id: str) -> Iterator[Path]:
        """The folder of a run's tables, for as long as the block lasts.

        Raises:
            UserError: they cannot be had.
        """
        with tempfile.TemporaryDirectory() as folder:
            try:
                self._client.download_artifacts(run_id, TABLES, dst_path=folder)
            except (MlflowException, OSError) as error:
                raise UserError(
                    f"run {run_id}: its tables cannot be had: {first_line(error)}"
                ) from None
            yield Path(folder) / TABLES
