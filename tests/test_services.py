"""What one machine's services hand on to the runs that they start."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from saetrack.settings import Settings, load_settings

DEPLOYMENTS = Path(__file__).parent.parent / "deployments"


def service_environment(settings: Settings) -> dict[str, str]:
    services = runpy.run_path(str(DEPLOYMENTS / "services.py"))
    environment: dict[str, str] = services["service_environment"](settings)
    return environment


def test_runs_accept_the_environment_of_the_services(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in service_environment(settings).items():
        monkeypatch.setenv(name, value)
    load_settings()


def test_the_services_are_given_all_that_their_configuration_reads(settings: Settings) -> None:
    read = set(re.findall(r"%\(ENV_(\w+)\)s", (DEPLOYMENTS / "supervisord.conf").read_text()))
    assert read == set(service_environment(settings))
