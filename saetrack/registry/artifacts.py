"""A link's files: read where they are on this machine, or downloaded and kept under their hash."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from pathlib import Path
from urllib.parse import unquote, urlparse

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from saetrack.registry.connection import file_of, named
from saetrack.sae.files import FILES
from saetrack.utils.errors import UserError, first_line
from saetrack.utils.files import content_hash, file_sha256, whole_folder
from saetrack.utils.settings import Settings

SAE_FOLDER = "sae"
IN_USE_S = 3600.0  # a folder is read right after it was asked for


class Artifacts:
    """Files of links. What was downloaded is kept, and the longest unused goes first."""

    def __init__(self, client: MlflowClient, settings: Settings) -> None:
        self._client = client
        self._cache = settings.cache_dir / "links"
        self._limit_bytes = settings.fetched_bytes

    def folder(self, run_id: str, sha256: str, name: str) -> Path:
        """The verified folder of a link.

        Args:
            run_id: of the link.
            sha256: of its files.
            name: of the link, for messages.

        Raises:
            UserError: the files are missing or are not those that were registered.
        """
        if not re.fullmatch("[0-9a-f]{64}", sha256):  # it names a folder
            raise UserError(f"{name}: sha256={sha256[:80]!r} is no hash")
        try:
            here = self._in_place(run_id, name)
            if here is None:
                return self._cached(run_id, sha256)
            found = folder_sha256(here)
        except (MlflowException, OSError) as error:
            raise UserError(f"{name}: its files cannot be had: {first_line(error)}") from None
        except ValueError as error:
            raise UserError(f"{name}: {error}") from None
        if found != sha256:
            raise UserError(f"{name}: its files are not those that were registered (wrong hash)")
        return here

    def _in_place(self, run_id: str, name: str) -> Path | None:
        """Not by MLflow, which copies what lies here, and leaves the copies behind."""
        uri = self._client.get_run(run_id).info.artifact_uri
        folder = folder_here(uri, f"{name}: its files")
        return None if folder is None else folder / SAE_FOLDER

    def _cached(self, run_id: str, sha256: str) -> Path:
        """Verified where it lies, or as it comes."""
        kept = self._cache / sha256
        if kept.exists() and not _has_hash(kept / SAE_FOLDER, sha256):
            shutil.rmtree(kept)
        if not kept.exists():
            with whole_folder(kept) as draft:
                self._client.download_artifacts(run_id, SAE_FOLDER, dst_path=str(draft))
                if folder_sha256(draft / SAE_FOLDER) != sha256:
                    raise OSError("what came does not have the hash that was registered")
            self._evict()
        os.utime(kept)
        return kept / SAE_FOLDER

    def _evict(self) -> None:
        taken_bytes = 0
        newest_first = sorted(self._cache.iterdir(), key=_used_s, reverse=True)
        for folder in newest_first:
            taken_bytes += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            is_old = time.time() - _used_s(folder) > IN_USE_S
            if is_old and (taken_bytes > self._limit_bytes or folder.name.startswith(".")):
                with contextlib.suppress(OSError):  # another process may use or remove it
                    shutil.rmtree(folder)


def folder_of(uri: str | None) -> Path | None:
    """The folder of this machine that an address of artifacts names; None if it names none."""
    if not str(uri).startswith(("/", "file:")):
        return None
    return Path(unquote(urlparse(str(uri)).path))


def folder_here(uri: str | None, whose: str) -> Path | None:
    """The folder of this machine that holds some files; None if a server keeps them.

    A registry in a file names it absolutely, and goes on to name it once it was copied elsewhere.

    Args:
        uri: address of the files.
        whose: what the message calls them.

    Raises:
        UserError: it is to be on this machine, and is not there.
    """
    folder = folder_of(uri)
    if folder is None or folder.is_dir():
        return folder
    raise UserError(
        f"{whose} are kept in {folder}, which is not there; put that folder back, or a link to it "
        "(a copied registry still names the folders of the first one)"
    )


def require_own_folder(uri: str | None, whose: str, settings: Settings) -> None:
    """Check that files would not go to the folder of another registry.

    A copied registry in a file goes on to name the folders of the first one: if they are still
    there, MLflow writes into them. Whoever sets `artifact_dir` to such a folder shares it
    knowingly.

    Args:
        uri: address of the folder.
        whose: what the message calls the files.
        settings: of the registry.

    Raises:
        UserError: beside the folder lies another registry's file of the same name.
    """
    folder, registry = folder_of(uri), file_of(settings.tracking_uri)
    if folder is None or registry is None or folder.resolve() == settings.artifact_dir.resolve():
        return
    other = folder.resolve().parent / registry.name
    if other.exists() and not other.samefile(registry):
        raise UserError(
            f"{named(settings.tracking_uri)}: is a copy of another registry: {whose} would go to "
            f"{folder}, beside the first one; set SAETRACK_TRACKING_URI=sqlite:///{other}, or, to "
            f"write there from both, SAETRACK_ARTIFACT_DIR={folder} (a copy can be read anyway)"
        )


def folder_sha256(folder: Path) -> str:
    """One hash for the names and the content of all files of a link.

    Raises:
        ValueError: something lies there that is no file of a link: a folder, a symbolic link (which
            may point at any file of this machine), another name.
    """
    found = sorted(folder.iterdir())
    for path in found:
        if path.name not in FILES or path.is_symlink() or not path.is_file():
            allowed = ", ".join(sorted(FILES))
            raise ValueError(f"{path.name[:80]!r} is no file of a link; there may be {allowed}")
    return content_hash({path.name: file_sha256(path) for path in found})


def _has_hash(folder: Path, sha256: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return folder_sha256(folder) == sha256
    return False


def _used_s(folder: Path) -> float:
    with contextlib.suppress(OSError):
        return folder.stat().st_mtime
    return 0.0
