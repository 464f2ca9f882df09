"""Settings that hold a secret say what is wrong with them, and not what they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saetrack.utils.errors import UserError
from saetrack.utils.settings import Settings, load_settings

SECRET = "sk-that-nobody-may-see"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_key_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAETRACK_EXPLAINER_API_KEY", SECRET)
    settings = load_settings()
    assert settings.explainer_api_key is not None
    assert settings.explainer_api_key.get_secret_value() == SECRET
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("EXPLAINER_APIKEY", SECRET, "unknown setting; did you mean SAETRACK_EXPLAINER_API_KEY"),
        ("EXPLAINER_TOKEN", SECRET, "unknown setting"),
        ("EXPLAINER_URL", f"https://me:{SECRET}@example.com", "must be without a user"),
        ("EXPLAINER_URL", f"{SECRET}.example.com", "must be an address such as"),
        ("EXPLAINER_URL", "ftp://example.com", "must be an address such as"),
    ],
)
@pytest.mark.parametrize("in_file", [False, True])
def test_a_mistake_does_not_show_it(
    name: str, value: str, said: str, in_file: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_file:
        Path(".env").write_text(f"SAETRACK_{name}={value}\n")
    else:
        monkeypatch.setenv(f"SAETRACK_{name}", value)
    with pytest.raises(UserError) as caught:
        load_settings()
    line = str(caught.value)
    assert line.startswith(f"SAETRACK_{name}") and SECRET not in line and "\n" not in line
    assert said in line or (in_file and "unknown name" in line)


def test_a_database_that_may_only_be_read_is_told_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "mlflow.db"
    settings = Settings(tracking_uri=f"sqlite:///{database}", cache_dir=tmp_path / "cache")
    as_root = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != database and as_root(path, mode))
    settings.require_writable()  # it is not there yet, and can be made
    database.touch()
    with pytest.raises(UserError, match=r"mlflow\.db: its file is not writable; make it so") as e:
        settings.require_writable()
    assert "\n" not in str(e.value)
