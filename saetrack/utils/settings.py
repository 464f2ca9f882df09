"""WHERE things live: addresses, folders, the device. Nothing here changes what is computed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlparse

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from saetrack.utils.errors import (
    UserError,
    first_problem,
    known_names,
    one_line,
    shown,
)

PREFIX = "SAETRACK_"
SQLITE = "sqlite:///"
TRACKING_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")


class Settings(BaseSettings):
    """Read from `SAETRACK_*` environment variables and `.env`; see `load_settings`.

    Example:
        >>> Settings(device="cpu").device
        'cpu'
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="forbid", frozen=True, hide_input_in_errors=False
    )

    tracking_uri: str = Field(
        default="sqlite:///mlruns/mlflow.db",
        description="MLflow tracking server and model registry.",
    )
    artifact_dir: Path = Field(
        default=Path("mlruns/artifacts"),
        description="Where artifacts of new experiments go: beside a registry in a SQLite file, "
        "in its folder `artifacts`; a server decides for itself.",
    )
    cache_dir: Path = Field(
        default=Path("~/.cache/saetrack"),
        description="The mini-LM and tokenised corpora. Safe to delete: it is made again.",
    )
    fetched_bytes: int = Field(
        default=100 * 10**9,
        gt=0,
        description="Disk that downloaded checkpoints may take, and downloaded links as much. "
        "Those longest unused go first, and only those that a track fetched.",
    )
    runner: Literal["here", "workers", "dask", "ray"] = Field(
        default="here",
        description="What a sweep's tracks run on: its own process, one after another; the workers "
        "of the pool; a Dask or a Ray cluster.",
    )
    runner_address: str | None = Field(
        default=None,
        description="Of the Dask scheduler or the Ray head; without, each starts one here.",
    )
    listen: str = Field(
        default="127.0.0.1",
        description="Address that this machine's servers listen on. Any but a loopback needs a "
        "user and a password, in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto takes a GPU where torch sees one."
    )
    models_file: Path | None = Field(
        default=None,
        description="YAML with LMs of your own, in the form of the catalogue.",
    )

    explainer_url: str | None = Field(
        default=None,
        description="Of an endpoint that speaks as OpenAI's does, without `/chat/completions`: "
        "`saetrack explain` asks it. Without, rules explain.",
    )
    explainer_model: str | None = Field(default=None, description="As that endpoint names it.")
    explainer_api_key: SecretStr | None = Field(
        default=None, description="Lets us in there. It is shown and kept nowhere."
    )

    @field_validator("explainer_url")
    @classmethod
    def _without_secrets(cls, value: str | None) -> str | None:
        if value is not None:
            address = urlparse(value)
            if address.scheme not in {"http", "https"} or not address.hostname:
                raise ValueError("must be an address such as https://example.com/v1")
            if address.username or address.password:
                raise ValueError("must be without a user; the key is SAETRACK_EXPLAINER_API_KEY")
        return value

    @field_validator("tracking_uri")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        address = urlparse(value)
        if address.scheme.split("+")[0] not in TRACKING_SCHEMES:
            raise ValueError(f"must be an address that begins with {', '.join(TRACKING_SCHEMES)}")
        if address.scheme.startswith("http") and not address.hostname:
            raise ValueError("names no host; for example http://127.0.0.1:5000")
        return value

    @model_validator(mode="before")
    @classmethod
    def _beside_the_registry(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Files never go to whichever folder a command happens to run in."""
        uri = str(values.get("tracking_uri", ""))
        if "artifact_dir" not in values and uri.startswith(SQLITE):
            values["artifact_dir"] = Path(uri.removeprefix(SQLITE)).parent / "artifacts"
        return values

    @field_validator("artifact_dir", "cache_dir")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @model_validator(mode="after")
    def _with_cache(self) -> Self:
        _make(self.cache_dir)
        return self

    def require_writable(self) -> None:
        """Check that a registry of this machine can be written; whoever only reads need not ask.

        Raises:
            UserError: its files, or its database, are in a folder that cannot be written, or the
                database's file cannot be.
        """
        if self.tracking_uri.startswith(SQLITE):
            database = Path(self.tracking_uri.removeprefix(SQLITE)).absolute()
            own = f"to write, name a registry of your own, such as {SQLITE}my-runs/mlflow.db"
            _require_writable("tracking_uri", database.parent, own)
            _require_writable_file(database)
        if not self.tracking_uri.startswith("http"):
            _require_writable("artifact_dir", self.artifact_dir)


class _ModelsFile(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore")

    models_file: Path | None = None


def models_file() -> Path | None:
    """The file with the user's own LMs.

    Read apart from the rest: the name of an LM is checked before any folder is made.
    """
    own = _ModelsFile().models_file
    return None if own is None else own.expanduser().absolute()


def _make(cache_dir: Path) -> None:
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{PREFIX}CACHE_DIR={cache_dir}: cannot be made ({error.strerror}); "
            "name a folder that can be written"
        ) from None
    _require_writable("cache_dir", cache_dir)


def _require_writable(
    field: str, folder: Path, remedy: str = "name a folder that can be written"
) -> None:
    """Refuse a folder that cannot be written, or made; who writes makes it, who reads does not."""
    known = folder
    while not known.exists() and known != known.parent:
        known = known.parent
    if not known.is_dir() or not os.access(known, os.W_OK):
        wrong = "not writable" if known == folder else f"not there, nor can it be made in {known}"
        raise UserError(f"{PREFIX}{field.upper()}: {folder} is {wrong}; {remedy}")


def _require_writable_file(database: Path) -> None:
    """Refuse a database that can be read only, in a folder that can be written."""
    if database.exists() and not os.access(database, os.W_OK):
        raise UserError(
            f"{PREFIX}TRACKING_URI={SQLITE}{database}: its file is not writable; make it so (chmod "
            "u+w), or name a registry that can be written"
        )


def load_settings() -> Settings:
    """The settings of this process.

    Raises:
        UserError: an unknown or impossible setting.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in os.environ:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = known_names(name.upper(), known)
            value = "" if _is_secret(name) else f"={os.environ[name]!r}"
            raise UserError(f"{name}{value}: unknown setting; {near}")
    try:
        return Settings()
    except ValidationError as error:
        field, _, rest = one_line(error, known).partition("=")
        variable = PREFIX + field.upper().removeprefix(PREFIX)
        if _is_secret(variable):
            rest = rest.removeprefix(shown(first_problem(error)["input"]))
            raise UserError(f"{variable}{rest}") from None
        raise UserError(f"{variable}={rest}") from None


def _is_secret(name: str) -> bool:
    """Whether a variable's value is never shown; an address may hold a password."""
    return any(word in name.upper() for word in ("KEY", "TOKEN", "SECRET", "PASSWORD", "_URL"))
