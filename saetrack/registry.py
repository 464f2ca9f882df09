"""Where links are kept: MLflow runs, metrics and model versions. The only importer of mlflow."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import pandas as pd
import requests
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from saetrack.errors import UserError
from saetrack.figures import chain_figure
from saetrack.files import digest, file_sha256
from saetrack.link import TrainedLink
from saetrack.plan import Chain, Link
from saetrack.sae.files import (
    ADAM_FILE,
    DENSITY_FILE,
    load_sae,
    load_tensors,
    save_sae,
    save_tensors,
)
from saetrack.settings import Settings

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from torch import Tensor

    from saetrack.sae.model import SAE

SAE_FOLDER = "sae"
TABLE_METRICS = ("loss", "mse", "explained_variance", "l0", "dead", "tokens_per_s")
FIRST, FINAL = "first", "final"
CHAIN_NOTE = (
    "A chain of SAEs over an LM's training checkpoints. Charts run over the chain's training "
    "tokens (MLflow calls them Step), one point a link. `chain.png`, `links.csv`: under Artifacts."
)


@dataclass(frozen=True)
class PulledLink:
    """A registered link, verified against its hash.

    Attributes:
        sae: the weights.
        cfg: all that is known about them (`cfg.json`).
        feature_density: share of held-out tokens on which each feature fires, (d_sae,).
        version: in its chain's registered model.
    """

    sae: SAE
    cfg: dict[str, Any]
    feature_density: Tensor
    version: int


class Registry:
    """One registered model per chain, one version per link; safetensors and JSON only.

    A link counts from the moment its version exists: the version, with the hash of its files among
    its tags, is created in one transaction after the files are in place.
    """

    def __init__(self, settings: Settings) -> None:
        """Connect.

        Raises:
            UserError: nothing answers at the tracking address.
        """
        self._settings = settings
        self._client = _connect(settings.tracking_uri)

    # What the chain needs (saetrack.link.LinkStore)

    def versions(self, chain: Chain) -> dict[str, int]:
        """Version of each registered link of a chain, by identity."""
        return {
            version.tags["identity"]: int(version.version)
            for version in self._model_versions(chain.name)
        }

    def weights(self, chain: Chain, version: int) -> tuple[SAE, dict[str, Tensor] | None]:
        """The SAE of a version, and Adam's moments if they were kept."""
        folder = self._download(self._client.get_model_version(chain.name, str(version)))
        moments = folder / ADAM_FILE
        sae, _ = load_sae(folder)
        return sae, load_tensors(moments) if moments.exists() else None

    def record(self, chain: Chain, link: Link) -> LinkRun:
        """Begin the MLflow run of a link; a broken attempt's run is deleted first."""
        chain_run = self._chain_run(chain)
        tags = {"kind": "link", "chain": chain.name, "identity": link.identity}
        for broken in self._runs(chain_run.info.experiment_id, **tags):
            self._client.delete_run(broken.info.run_id)
        parent_version = self.versions(chain).get(link.parent_identity or "")
        return LinkRun(self._client, chain, link, chain_run, parent_version)

    # What people and analyses need

    def pull(
        self,
        chain_name: str,
        *,
        version: int | None = None,
        alias: str | None = None,
        lm_step: int | None = None,
    ) -> PulledLink:
        """One link of a chain, by exactly one of version, alias (`first`, `final`) or LM step.

        Raises:
            UserError: there is no such link, or its files are not what was registered.
        """
        found = self._find(chain_name, version, alias, lm_step)
        folder = self._download(found)
        try:
            sae, cfg = load_sae(folder)
            density = load_tensors(folder / DENSITY_FILE)["feature_density"]
        except (ValueError, KeyError, OSError) as error:
            raise UserError(f"{chain_name} version {found.version}: {error}") from None
        return PulledLink(sae, cfg, density, int(found.version))

    def table(self, chain: Chain) -> pd.DataFrame:
        """One row per registered link of a chain, in chain order, with its final metrics."""
        by_identity = {v.tags["identity"]: v for v in self._model_versions(chain.name)}
        rows = []
        for link in chain.links:
            if version := by_identity.get(link.identity):
                metrics = self._client.get_run(str(version.run_id)).data.metrics
                rows.append(
                    {
                        "link": link.number,
                        "checkpoint_index": link.checkpoint.checkpoint_index,
                        "lm_step": link.checkpoint.lm_step,
                        "tokens": link.tokens,
                        **{name: metrics[name] for name in TABLE_METRICS},
                        "version": int(version.version),
                    }
                )
        return pd.DataFrame(rows)

    def finish(self, chain: Chain) -> None:
        """Bring a chain's run up to date: aliases, curves, table, figure.

        All of it is derived from the links, so it may be repeated at will, and repairs what a
        crash between a link's registration and this left behind.
        """
        run = self._chain_run(chain)
        versions = self.versions(chain)
        for alias, link in ((FIRST, chain.links[0]), (FINAL, chain.links[-1])):
            if link.identity in versions:
                version = str(versions[link.identity])
                self._client.set_registered_model_alias(chain.name, alias, version)
        for link_run in self._runs(run.info.experiment_id, kind="link", chain=chain.name):
            if link_run.info.status == "RUNNING" and link_run.data.tags["identity"] in versions:
                self._client.set_terminated(link_run.info.run_id)
        self._log_chain(run, chain, self.table(chain))
        if all(link.identity in versions for link in chain.links):
            self._client.set_terminated(run.info.run_id)

    def is_finished(self, chain: Chain) -> bool:
        """Whether `finish` has seen the whole chain."""
        return bool(self._chain_run(chain).info.status == "FINISHED")

    # Inside

    def _log_chain(self, run: Run, chain: Chain, table: pd.DataFrame) -> None:
        """Curves over the chain's cumulative training tokens, `links.csv`, and the figure."""
        chain_tokens = table["tokens"].cumsum()
        history = self._client.get_metric_history(run.info.run_id, "lm_step")
        logged = {point.step for point in history}
        now_ms = _now_ms()
        for tokens, (_, row) in zip(chain_tokens, table.iterrows(), strict=True):
            if tokens not in logged:
                points = [
                    Metric(name, float(row[name]), now_ms, int(tokens))
                    for name in ("lm_step", *TABLE_METRICS)
                ]
                self._client.log_batch(run.info.run_id, metrics=points)
        with tempfile.TemporaryDirectory() as folder:
            table.to_csv(Path(folder) / "links.csv", index=False)
            chain_figure(table, chain.name, Path(folder) / "chain")
            self._client.log_artifacts(run.info.run_id, folder)

    def _find(
        self, chain_name: str, version: int | None, alias: str | None, lm_step: int | None
    ) -> ModelVersion:
        wanted = {"version": version, "alias": alias, "lm_step": lm_step}
        given = {name: value for name, value in wanted.items() if value is not None}
        if len(given) != 1:
            raise UserError(f"pull: give exactly one of {', '.join(wanted)}; got {given or 'none'}")
        try:
            if version is not None:
                return self._client.get_model_version(chain_name, str(version))
            if alias is not None:
                return self._client.get_model_version_by_alias(chain_name, alias)
        except MlflowException as error:
            raise UserError(f"pull: {chain_name} has no {given}: {_first_line(error)}") from None
        versions = self._model_versions(chain_name)
        matching = [v for v in versions if v.tags.get("lm_step") == str(lm_step)]
        if not matching:
            steps = sorted({int(v.tags["lm_step"]) for v in versions})
            raise UserError(f"pull: {chain_name} has no lm_step={lm_step}; it has {steps}")
        return max(matching, key=_number)

    def _download(self, version: ModelVersion) -> Path:
        """A version's verified local folder; in place where the artifact store is this machine's.

        Raises:
            UserError: the files are missing or are not those that were registered.
        """
        name = f"{version.name} version {version.version}"
        try:
            folder = Path(self._client.download_artifacts(str(version.run_id), SAE_FOLDER))
        except (MlflowException, OSError) as error:
            raise UserError(f"{name}: its files cannot be had: {_first_line(error)}") from None
        if _folder_sha256(folder) != version.tags["sha256"]:
            raise UserError(f"{name}: its files are not those that were registered (wrong hash)")
        return folder

    def _model_versions(self, chain_name: str) -> list[ModelVersion]:
        """All whole versions of a chain's model, newest first."""
        found: list[ModelVersion] = []
        token = None
        while True:
            page = self._client.search_model_versions(
                f"name = '{chain_name}'", max_results=1000, page_token=token
            )
            found += [version for version in page if "identity" in version.tags]
            token = page.token
            if not token:
                return sorted(found, key=_number, reverse=True)

    def _runs(self, experiment_id: str, **tags: str) -> list[Run]:
        terms = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
        return list(self._client.search_runs([experiment_id], terms, max_results=5000))

    def _chain_run(self, chain: Chain) -> Run:
        experiment_id = self._experiment(chain.config.model)
        found = self._runs(experiment_id, kind="chain", chain=chain.name)
        if found:
            return found[0]
        tags = {
            "kind": "chain",
            "chain": chain.name,
            "mlflow.note.content": CHAIN_NOTE,
            **_as_tags(_common_facts(chain)),
        }
        run = self._client.create_run(experiment_id, run_name=chain.name, tags=tags)
        self._client.log_batch(
            run.info.run_id, params=_params(chain.config.model_dump(mode="json"))
        )
        return run

    def _experiment(self, name: str) -> str:
        if found := self._client.get_experiment_by_name(name):
            return str(found.experiment_id)
        local = self._settings.tracking_uri.startswith("sqlite")
        location = self._settings.artifact_dir.as_uri() if local else None
        return str(self._client.create_experiment(name, artifact_location=location))


class LinkRun:
    """Records one link as an MLflow run under its chain's run (saetrack.link.Recorder)."""

    def __init__(
        self,
        client: MlflowClient,
        chain: Chain,
        link: Link,
        chain_run: Run,
        parent_version: int | None,
    ) -> None:
        self._client = client
        self._chain = chain
        self._link = link
        # In this order: MLflow's pages cut a long list of tags short.
        self._facts = {**_link_facts(chain, link, parent_version), **_common_facts(chain)}
        self._tags = _as_tags(self._facts)
        run = client.create_run(
            chain_run.info.experiment_id,
            run_name=chain.label(link),
            tags={"kind": "link", "mlflow.parentRunId": chain_run.info.run_id, **self._tags},
        )
        self._run_id = run.info.run_id
        params = {**chain.config.model_dump(mode="json"), "optimiser": asdict(link.optimiser)}
        client.log_batch(self._run_id, params=_params({**params, "tokens": link.tokens}))

    def log(self, metrics: dict[str, float], done_tokens: int) -> None:
        """Keep metrics measured after `done_tokens` training tokens."""
        now_ms = _now_ms()
        points = [Metric(name, value, now_ms, done_tokens) for name, value in metrics.items()]
        self._client.log_batch(self._run_id, metrics=points)

    def register(self, trained: TrainedLink) -> int:
        """Upload the link's files, then create its version in one transaction."""
        self.log(
            {
                "duration_s": trained.duration_s,
                "tokens_per_s": self._link.tokens / trained.duration_s,
                "revived": float(len(trained.revived)),
            },
            self._link.tokens,
        )
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            self._write(folder, trained)
            sha256 = _folder_sha256(folder)
            self._client.log_artifacts(self._run_id, name, SAE_FOLDER)
        with contextlib.suppress(MlflowException):  # it exists from the second link on
            self._client.create_registered_model(
                self._chain.name, tags=_as_tags(_common_facts(self._chain))
            )
        version = self._client.create_model_version(
            self._chain.name,
            source=f"runs:/{self._run_id}/{SAE_FOLDER}",
            run_id=self._run_id,
            tags={**self._tags, "sha256": sha256},
            description=self._chain.label(self._link),
        )
        self._client.set_terminated(self._run_id)
        return int(version.version)

    def _write(self, folder: Path, trained: TrainedLink) -> None:
        cfg = {
            "architecture": "standard",
            "d_in": trained.sae.d_in,
            "d_sae": trained.sae.d_sae,
            "dtype": "float32",
            "apply_b_dec_to_input": True,
            **self._facts,
            "track": self._chain.config.model_dump(mode="json"),
            "metrics": trained.evaluation.scalars(),
            "revived": trained.revived,
        }
        save_sae(folder, trained.sae, cfg)
        density = {"feature_density": trained.evaluation.feature_density}
        save_tensors(folder / DENSITY_FILE, density)
        if trained.adam is not None:
            save_tensors(folder / ADAM_FILE, trained.adam)


def _common_facts(chain: Chain) -> dict[str, Any]:
    return {
        "lm": chain.config.model,
        "layer": chain.config.layer,
        "hook_name": chain.config.hook_name,
        "direction": chain.config.direction,
        "dataset": chain.config.corpus.dataset,
        "corpus": chain.corpus.sha256,
        "seed": chain.config.seed,
    }


def _link_facts(chain: Chain, link: Link, parent_version: int | None) -> dict[str, Any]:
    checkpoint = link.checkpoint
    return {
        "lm_step": checkpoint.lm_step,
        "link": link.number,
        "tokens": link.tokens,
        "checkpoint_index": checkpoint.checkpoint_index,
        "repo": checkpoint.repo,
        "revision": checkpoint.revision,
        "commit": checkpoint.commit,
        "chain": chain.name,
        "identity": link.identity,
        "parent_identity": link.parent_identity,
        "parent_version": parent_version,
    }


def _as_tags(facts: dict[str, Any]) -> dict[str, str]:
    return {name: "" if value is None else str(value) for name, value in facts.items()}


def _params(values: dict[str, Any]) -> list[Param]:
    """Nested values as MLflow parameters with dotted names."""
    flat = pd.json_normalize(values).iloc[0]
    return [Param(str(name), str(value)) for name, value in flat.items()]


def _folder_sha256(folder: Path) -> str:
    return digest({file.name: file_sha256(file) for file in sorted(folder.iterdir())})


def _number(version: ModelVersion) -> int:
    return int(version.version)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _connect(tracking_uri: str) -> MlflowClient:
    """A client that has had an answer from the address."""
    if tracking_uri.startswith("http"):
        _require_answer(tracking_uri)
    try:
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        client.search_experiments(max_results=1)
    except Exception as error:  # each database driver has its own
        raise UserError(
            f"SAETRACK_TRACKING_URI={tracking_uri}: cannot be used: {_first_line(error)}"
        ) from None
    return client


def _require_answer(tracking_uri: str) -> None:
    """MLflow's own client retries for minutes; a wrong address should show at once."""
    try:
        requests.get(f"{tracking_uri.rstrip('/')}/health", timeout=10).raise_for_status()
    except requests.RequestException as error:
        raise UserError(
            f"SAETRACK_TRACKING_URI={tracking_uri}: no MLflow server answers there "
            f"({type(error).__name__})"
        ) from None
