"""Downloads from the model hub: each ends with the bytes that the hub lists, or in one line."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils.tqdm import disable_progress_bars

from saetrack.lm.checkpoints.files import ListedFile, Part, is_digest, matches
from saetrack.utils.errors import UserError
from saetrack.utils.progress import duration

log = logging.getLogger(__name__)

# Bars that a background thread redraws would garble the log lines of the training.
disable_progress_bars("huggingface_hub.http_get")
disable_progress_bars("huggingface_hub.xet_get")

# The hub's client tries again by itself within each of these, and resumes in the middle of a file.
TRIES = 4
BACK_OFF_S = 2.0  # before the second try; doubled before each further one

# Where the hub's client keeps its notes and unfinished files in the folder that it writes to.
CLIENTS_FOLDER = ".cache"

T = TypeVar("T")


class TemporaryError(UserError):
    """A failure that may be over when the same is asked again later."""


class _DamagedError(Exception):
    """A downloaded file is not the one that the hub lists."""


def list_files(repo: str, revision: str, commit: str, part: Part) -> list[ListedFile]:
    """The files of a part of a commit, as the hub lists them.

    Args:
        repo: the repository.
        revision: the commit's name, for messages.
        commit: what is asked for.
        part: its first kind that the hub has is listed.

    Raises:
        TemporaryError: the hub does not answer.
        UserError: the hub is not to be asked, or has no such files.
    """
    what = f"model: {repo} at {revision}"
    if constants.is_offline_mode():
        raise UserError(f"{what} cannot be had: offline mode is on (HF_HUB_OFFLINE)")
    info = _persist(what, lambda: HfApi().model_info(repo, revision=commit, files_metadata=True))
    offered = {file.rfilename: file for file in info.siblings or []}
    for kind in part.kinds:
        if any(matches(name, kind[:1]) for name in offered):
            break
    else:
        raise UserError(f"{what} has no {' or '.join(kind[0] for kind in part.kinds)} on the hub")
    files = []
    for name, file in offered.items():
        if matches(name, kind):
            digest = file.lfs.sha256 if file.lfs else file.blob_id
            if file.size is None or digest is None or not is_digest(digest):
                raise UserError(f"{what} cannot be checked: the hub lists no hash of {name}")
            files.append(ListedFile(name, file.size, digest))
    return files


def download(repo: str, revision: str, commit: str, files: list[ListedFile], draft: Path) -> None:
    """Bring files of a commit into a folder; those that are there and right stay as they are.

    Raises:
        TemporaryError: the hub does not answer, or not to the end.
        UserError: the hub refuses, the disk is full, or what comes is not what the hub lists.
    """
    label = f"{repo} at {revision}"
    began_s = time.monotonic()
    log.info("%s: fetching %.2f GB", label, sum(file.size_bytes for file in files) / 1e9)
    shutil.rmtree(draft / CLIENTS_FOLDER, ignore_errors=True)  # parts of files, after a kill
    # Not by `snapshot_download`: its pool of threads would keep the process alive to the end of
    # the download, and it does not compare hashes.
    for file in files:
        if file.problem(draft) is not None:
            attempt = partial(_download_file, repo, commit, file, draft)
            _persist(f"model: {label}: {file.name}", attempt)
    shutil.rmtree(draft / CLIENTS_FOLDER, ignore_errors=True)
    log.info("%s: fetched and verified in %s", label, duration(time.monotonic() - began_s))


def _download_file(repo: str, commit: str, file: ListedFile, draft: Path) -> None:
    (draft / file.name).unlink(missing_ok=True)
    # With no cache to copy from: a file that is damaged there would come again and again.
    cache = draft / CLIENTS_FOLDER
    hf_hub_download(repo, file.name, revision=commit, local_dir=draft, cache_dir=cache)
    problem = file.problem(draft)
    if problem is not None:
        (draft / file.name).unlink(missing_ok=True)
        raise _DamagedError(f"is not what the hub lists ({problem})")


def _persist(what: str, attempt: Callable[[], T]) -> T:
    """Try until it works, fails for good, or has failed too often."""
    tries = 0
    while True:
        tries += 1
        try:
            return attempt()
        except Exception as error:
            problem = str(error)
            if not isinstance(error, _DamagedError):
                cause = _cause(error)
                problem = f"cannot be had: {reason(cause)}"
                if not _may_pass(cause):
                    raise UserError(f"{what} {problem}") from None
            if tries == TRIES:
                kind = UserError if isinstance(error, _DamagedError) else TemporaryError
                raise kind(f"{what} {problem} after {tries} tries") from None
        wait_s = BACK_OFF_S * 2 ** (tries - 1)
        log.warning("%s %s; try %d of %d in %.0f s", what, problem, tries + 1, TRIES, wait_s)
        time.sleep(wait_s)


def _cause(error: Exception) -> Exception:
    """What is behind the client's statement that it found a file neither here nor there."""
    behind = error.__cause__
    if isinstance(error, LocalEntryNotFoundError) and isinstance(behind, Exception):
        return behind
    return error


def _may_pass(error: Exception) -> bool:
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        return status >= 500 or status in (408, 429)
    # Errors of this machine's disk carry a number; the client's own, of broken transfers, do not.
    network = isinstance(error, ConnectionError | TimeoutError | LocalEntryNotFoundError)
    return network or not (isinstance(error, OSError) and error.errno is not None)


def reason(error: Exception) -> str:
    """The first line of an error's text; its type where it has none."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
