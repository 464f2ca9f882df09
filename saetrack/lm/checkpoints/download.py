"""Downloads from the model hub: each ends with the bytes that the hub lists, or in one line."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils.tqdm import disable_progress_bars

from saetrack.lm.checkpoints import layout
from saetrack.utils.errors import UserError
from saetrack.utils.progress import duration

log = logging.getLogger(__name__)

# Bars that a background thread redraws would garble the log lines of the training.
disable_progress_bars("huggingface_hub.http_get")
disable_progress_bars("huggingface_hub.xet_get")

# The hub's client tries again by itself within each of these, and resumes in the middle of a file.
TRIES = 4
BACK_OFF_S = 2.0  # before the second try; doubled before each further one

T = TypeVar("T")


class TemporaryError(UserError):
    """A failure that may be over when the same is asked again later."""


class _DamagedError(Exception):
    """A downloaded file is not the one that the hub lists."""


@dataclass(frozen=True)
class HubFile:
    """What the hub says about one file.

    Attributes:
        name: in its repository.
        size_bytes: its size.
        blob: the name of its blob in the cache: SHA-256 or git's SHA-1, in hex digits.
    """

    name: str
    size_bytes: int
    blob: str


def list_files(
    repo: str, revision: str, commit: str, kinds: tuple[list[str], ...]
) -> list[HubFile]:
    """The files of the first of `kinds` that the hub has at a commit.

    Args:
        repo: the repository.
        revision: the commit's name, for messages.
        commit: what is asked for.
        kinds: lists of patterns; a kind is there if a file matches its first pattern.

    Raises:
        TemporaryError: the hub does not answer.
        UserError: the hub is not to be asked, or has no such files.
    """
    what = f"model: {repo} at {revision}"
    if constants.is_offline_mode():
        raise UserError(f"{what} cannot be had: offline mode is on (HF_HUB_OFFLINE)")
    info = _persist(what, lambda: HfApi().model_info(repo, revision=commit, files_metadata=True))
    offered = {file.rfilename: file for file in info.siblings or []}
    for kind in kinds:
        if any(layout.matches(name, kind[:1]) for name in offered):
            break
    else:
        raise UserError(f"{what} has no {' or '.join(kind[0] for kind in kinds)} on the hub")
    files = []
    for name, file in offered.items():
        if layout.matches(name, kind):
            blob = file.lfs.sha256 if file.lfs else file.blob_id
            if file.size is None or blob is None or not layout.is_hash(blob):
                raise UserError(f"{what} cannot be checked: the hub lists no hash of {name}")
            files.append(HubFile(name, file.size, blob))
    return files


def download(repo: str, revision: str, commit: str, files: list[HubFile], cache: Path) -> None:
    """Bring files of a commit into the cache, and check all of them, those already there too.

    Raises:
        TemporaryError: the hub does not answer, or not to the end.
        UserError: the hub refuses, the disk is full, or what comes is not what the hub lists.
    """
    label = f"{repo} at {revision}"
    began_s = time.monotonic()
    log.info("%s: fetching %.2f GB", label, sum(file.size_bytes for file in files) / 1e9)
    # One after the other: a pool of threads would keep the process alive until the last one ends.
    for file in files:
        attempt = partial(_download_file, repo, commit, file, cache)
        _persist(f"model: {label}: {file.name}", attempt)
    log.info("%s: fetched and verified in %s", label, duration(time.monotonic() - began_s))


def _download_file(repo: str, commit: str, file: HubFile, cache: Path) -> None:
    path = Path(hf_hub_download(repo, file.name, revision=commit, cache_dir=cache))
    problem = _problem(path, file)
    if problem is not None:
        _remove(path)
        raise _DamagedError(f"is not what the hub lists ({problem})")


def _problem(path: Path, file: HubFile) -> str | None:
    try:
        size_bytes = path.stat().st_size
        if size_bytes != file.size_bytes:
            return f"{size_bytes:,} of {file.size_bytes:,} bytes"
        if not layout.has_hash(path, file.blob):
            return "SHA-256 differs" if len(file.blob) == 64 else "git's hash differs"
    except FileNotFoundError:  # another process found the same blob damaged and removed it
        return "gone"
    return None


def _remove(file: Path) -> None:
    content = file.resolve()
    blob = layout.blob_path(file)
    file.unlink(missing_ok=True)
    if blob is not None:
        blob.unlink(missing_ok=True)
    content.unlink(
        missing_ok=True
    )  # where the blob is a link into the store that repositories share


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
