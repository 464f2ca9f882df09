"""What one machine's services hand on to the runs that they start, and whom its servers let in."""

from __future__ import annotations

import re
import runpy
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows import serve, worker
from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings, load_settings

DEPLOYMENTS = Path(__file__).parent.parent.parent / "deployments"
KNOWN = {"MLFLOW_TRACKING_USERNAME": "reader", "MLFLOW_TRACKING_PASSWORD": "twelve letters"}


def services_script() -> dict[str, Any]:
    return runpy.run_path(str(DEPLOYMENTS / "services.py"))


def service_environment(settings: Settings) -> dict[str, str]:
    services = services_script()
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


def test_services_set_prefects_settings_before_it_reads_them() -> None:
    code = "import flows.gpus, flows.logs, flows.serve, sys; sys.exit('prefect' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=DEPLOYMENTS.parent, check=True)


@pytest.mark.parametrize("listen", ["127.0.0.1", "localhost", "::1"])
def test_servers_that_only_this_machine_reaches_ask_for_nothing(
    settings: Settings, listen: str
) -> None:
    here = settings.model_copy(update={"listen": listen})
    assert serve.credentials(here, {}) is None
    command, environment = serve.mlflow_server(here, "5000")
    assert command[command.index("--host") + 1] == listen
    assert "--no-serve-artifacts" in command
    assert "basic-auth" not in command
    assert "PREFECT_SERVER_API_AUTH_STRING" not in serve.prefect_server(here, "4200")[1]
    assert environment["MLFLOW_BACKEND_STORE_URI"] == settings.tracking_uri


@pytest.mark.parametrize(
    ("listen", "given", "line"),
    [
        ("0.0.0.0", {}, r"SAETRACK_LISTEN='0.0.0.0': others can reach the servers"),
        ("192.168.1.7", {}, r"SAETRACK_LISTEN='192.168.1.7'"),
        ("somewhere", {}, r"SAETRACK_LISTEN='somewhere'"),
        ("0.0.0.0", {**KNOWN, "MLFLOW_TRACKING_USERNAME": ""}, "MLFLOW_TRACKING_USERNAME=''"),
        ("0.0.0.0", {**KNOWN, "MLFLOW_TRACKING_USERNAME": "a:b"}, "without a colon"),
        ("0.0.0.0", {**KNOWN, "MLFLOW_TRACKING_PASSWORD": "short"}, "12 characters or more"),
        ("127.0.0.1", {**KNOWN, "MLFLOW_TRACKING_PASSWORD": ""}, "12 characters or more"),
    ],
)
def test_servers_that_others_reach_do_not_start_without_a_password(
    settings: Settings, listen: str, given: dict[str, str], line: str
) -> None:
    with pytest.raises(UserError, match=line) as caught:
        serve.credentials(settings.model_copy(update={"listen": listen}), given)
    assert "\n" not in str(caught.value)
    assert "short" not in str(caught.value), "a password is not for the screen"


def test_servers_that_others_reach_ask_who_they_are(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KNOWN.items():
        monkeypatch.setenv(name, value)
    changes = {"listen": "0.0.0.0", "tracking_uri": "postgresql://saetrack:secret%21@db/mlflow"}
    open_to_all = settings.model_copy(update=changes)
    command, environment = serve.mlflow_server(open_to_all, "5000")
    assert command[command.index("--app-name") + 1] == "basic-auth"
    assert "--serve-artifacts" in command
    assert not any("secret" in word or "twelve" in word for word in command), "seen by `ps`"
    assert environment["MLFLOW_AUTH_ADMIN_PASSWORD"] == "twelve letters"
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", environment["MLFLOW_AUTH_CONFIG_PATH"])
    from mlflow.server.auth.config import read_auth_config

    assert read_auth_config().database_uri == open_to_all.tracking_uri
    assert stat.S_IMODE(Path(environment["MLFLOW_AUTH_CONFIG_PATH"]).stat().st_mode) == 0o600
    _, environment = serve.prefect_server(open_to_all, "4200")
    assert environment["PREFECT_SERVER_API_AUTH_STRING"] == "reader:twelve letters"


def test_each_gpu_has_a_worker_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    (name, environment, options), (other, elsewhere, _) = worker.identity(0), worker.identity(1)
    assert name != other
    assert [e["CUDA_VISIBLE_DEVICES"] for e in (environment, elsewhere)] == ["2", "5"]
    assert options == ["--limit", "1"]
    with pytest.raises(UserError, match="worker=2: this machine has GPUs"):
        worker.identity(2)
    monkeypatch.setenv("SAETRACK_DEVICE", "cpu")
    assert worker.identity(0)[1:] == ({}, [])


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text())
    return found


def test_compose_starts_what_the_tests_start() -> None:
    services = compose()["services"]
    commands = {name: one.get("command") for name, one in services.items()}
    assert commands["mlflow"] == ["python", "-m", "flows.serve", "mlflow"]
    assert commands["prefect"] == ["python", "-m", "flows.serve", "prefect"]
    assert commands["explorer"] == ["python", "-m", "flows.serve", "explorer"]
    workers = [name for name in services if name.startswith("worker")]
    assert all(commands[name] == ["python", "-m", "flows.worker"] for name in workers)
    known = {f"SAETRACK_{name.upper()}" for name in Settings.model_fields}
    for one in services.values():
        given = {name for name in one.get("environment", {}) if name.startswith("SAETRACK_")}
        assert given <= known


def test_compose_has_no_secret_of_its_own_and_shows_nothing_to_others() -> None:
    text = (DEPLOYMENTS / "compose.yaml").read_text()
    for name in ("SAETRACK_USER", "SAETRACK_PASSWORD", "POSTGRES_PASSWORD"):
        assert f"${{{name}:?" in text, "refused, not defaulted"
        assert f"${{{name}:-" not in text
    for name, service in compose()["services"].items():
        for variable, value in service.get("environment", {}).items():
            if any(word in variable for word in ("PASSWORD", "SECRET", "AUTH_STRING")):
                assert value.startswith("${"), f"{name}: {variable}"
        for port in service.get("ports", []):
            assert port.startswith("${BIND:-127.0.0.1}:"), name


def test_the_explorer_leads_to_the_other_servers(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, _ = serve.explorer_server(settings, "8400")
    assert command[command.index("--port") + 1] == "8400"
    assert command[command.index("--mlflow") + 1] == "5000"
    assert command[command.index("--prefect") + 1] == "4200"
    elsewhere = settings.model_copy(update={"tracking_uri": "https://mlflow.example"})
    assert "--mlflow" not in serve.explorer_server(elsewhere, "8400")[0], "its address is known"
    monkeypatch.setenv(serve.MLFLOW_PAGES, "https://pages.example")
    command, _ = serve.explorer_server(elsewhere, "8400")
    assert command[command.index("--mlflow") + 1] == "https://pages.example"
    known = [server.name for server in services_script()["_servers"](settings)]
    assert known == ["prefect", "mlflow", "explorer"], "the explorer asks the others"
