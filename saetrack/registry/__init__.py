"""Where links are kept: MLflow runs, metrics and model versions. Only this package knows MLflow."""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from saetrack.registry.received import PulledLink
from saetrack.registry.store import Registry

__all__ = ["PulledLink", "Registry"]
