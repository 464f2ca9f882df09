"""The model hub's cache on disk: finding, fetching and publishing revisions in it."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

# Read when the libraries are imported. Revisions that hold only .bin files would otherwise start a
# background thread that asks the hub for a conversion.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from huggingface_hub import HfApi, constants

from saetrack.lm.checkpoints import fetched, layout
from saetrack.lm.checkpoints.download import download, list_files, reason
from saetrack.utils.errors import UserError
from saetrack.utils.files import write_atomically

log = logging.getLogger(__name__)

TOKENIZER_FILES = ["tokenizer*", "special_tokens_map.json", "vocab.json", "merges.txt"]


def hub_cache() -> Path:
    """Where this machine keeps what it downloaded (HF_HOME or HF_HUB_CACHE move it)."""
    return Path(constants.HF_HUB_CACHE)


def commits(repo: str, revisions: list[str], cache: Path) -> dict[str, str]:
    """The commit behind each revision, from the cache where it knows, else from the hub.

    Raises:
        UserError: the hub is needed and does not answer, or lacks a revision.
    """
    found = {name: commit for name in revisions if (commit := _cached_commit(repo, name, cache))}
    missing = [name for name in revisions if name not in found]
    if missing:
        offered = _hub_commits(repo, missing, cache)
        for name in missing:
            if name not in offered:
                raise UserError(f"model: {repo} has no revision {name!r} on the hub")
            found[name] = offered[name]
    for name, commit in found.items():
        if not layout.is_hash(commit):  # it names a folder of the cache
            raise UserError(f"model: {repo} at {name}: {commit[:80]!r} is no commit")
    return found


def list_revisions(repo: str) -> list[str]:
    """The names of a repository's branches and tags.

    Raises:
        UserError: the hub does not answer, or knows no such repository.
    """
    try:
        return list(_hub_refs(repo))
    except Exception as error:
        raise UserError(
            f"model: the hub cannot be asked for the revisions of {repo}: {reason(error)}"
        ) from None


def revisions_on_disk(repo: str, cache: Path) -> list[str]:
    """The names of a repository's revisions whose weights the cache holds."""
    refs = layout.repo_folder(cache, repo) / "refs"
    names = sorted(str(path.relative_to(refs)) for path in refs.rglob("*") if path.is_file())
    commits = {name: _cached_commit(repo, name, cache) for name in names}
    return [
        name
        for name, commit in commits.items()
        if commit and layout.has_weights(layout.snapshot_folder(cache, repo, commit))
    ]


def fetch(repo: str, revision: str, commit: str, patterns: list[str], cache: Path) -> Path:
    """The folder of a revision's files that match `patterns`, downloaded unless the cache has them.

    Raises:
        UserError: neither the cache nor the hub can give the revision at that commit.
    """
    folder = layout.snapshot_folder(cache, repo, commit)
    if layout.missing_files(folder, patterns):
        download(repo, revision, commit, list_files(repo, revision, commit, (patterns,)), cache)
        _point(cache, repo, revision, commit)
    return folder


def fetch_checkpoint(repo: str, revision: str, commit: str, cache: Path, limit_bytes: int) -> Path:
    """The folder with a revision's config and weights; safetensors where the hub has them.

    Every file has been checked against the hash that the hub lists. Hold the folder
    (`fetched.hold`) while it is read: only held ones are safe from another track's need for room.

    Args:
        repo: the hub's repository.
        revision: the name of `commit`, for messages and for the cache.
        commit: what is fetched.
        cache: the hub's cache.
        limit_bytes: what all that saetrack fetched into the cache may take, this one included.

    Raises:
        TemporaryError: the hub does not answer, or not to the end; or other tracks hold the room.
        UserError: neither the cache nor the hub can give the files, or they do not fit.
    """
    folder = layout.snapshot_folder(cache, repo, commit)
    label = f"{repo} at {revision}"
    with fetched.hold(folder):
        if layout.has_weights(folder):
            damaged = layout.damaged_files(folder)
            if not damaged:
                return folder
            log.warning("%s: %s is damaged in the cache", label, ", ".join(damaged))
    kinds = (layout.SAFETENSORS_FILES, layout.BIN_FILES)
    files = list_files(repo, revision, commit, kinds)  # before anything is written
    with fetched.alone(folder, label):
        if not layout.is_whole(folder):  # another process may have fetched it meanwhile
            blobs = {file.blob: file.size_bytes for file in files}
            fetched.make_room(folder, blobs, limit_bytes, label)
            download(repo, revision, commit, files, cache)
            if not layout.has_weights(folder):
                lacking = min((layout.missing_files(folder, kind) for kind in kinds), key=len)
                raise UserError(f"model: {label} lacks {', '.join(sorted(lacking))} on the hub")
            _point(cache, repo, revision, commit)
    return folder


def publish(cache: Path, repo: str, revision: str, files: dict[str, bytes]) -> str:
    """Write files as a revision in the hub's cache layout; returns the commit.

    Blobs are named by their SHA-256, the commit by the hash of all names and blobs, and the ref is
    written last: a revision is either there and whole, or not there.
    """
    root = layout.repo_folder(cache, repo)
    blobs = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    listing = "\n".join(f"{name} {blob}" for name, blob in sorted(blobs.items()))
    commit = hashlib.sha256(listing.encode()).hexdigest()[:40]
    snapshot = root / "snapshots" / commit
    snapshot.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if not (root / "blobs" / blobs[name]).exists():
            write_atomically(root / "blobs" / blobs[name], content)
        link = snapshot / name
        if not link.is_symlink():
            link.symlink_to(Path("../../blobs") / blobs[name])
    _point(cache, repo, revision, commit)
    return commit


def is_published(cache: Path, repo: str, revision: str) -> bool:
    """Whether the cache has a revision of a repository."""
    return _cached_commit(repo, revision, cache) is not None


def _point(cache: Path, repo: str, revision: str, commit: str) -> None:
    """Let the cache know a revision's commit, so that no hub is asked for it again."""
    write_atomically(layout.repo_folder(cache, repo) / "refs" / revision, commit.encode())


def _cached_commit(repo: str, revision: str, cache: Path) -> str | None:
    ref = layout.repo_folder(cache, repo) / "refs" / revision
    return ref.read_text().strip() if ref.is_file() else None


def _hub_commits(repo: str, missing: list[str], cache: Path) -> dict[str, str]:
    try:
        return _hub_refs(repo)
    except Exception as error:
        named = missing[0] + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        raise UserError(
            f"model: {repo} at {named} is not in the local cache ({cache}) and the hub cannot be "
            f"asked: {reason(error)}"
        ) from None


def _hub_refs(repo: str) -> dict[str, str]:
    if constants.is_offline_mode():
        raise ConnectionError("offline mode is on (HF_HUB_OFFLINE)")
    refs = HfApi().list_repo_refs(repo)
    return {ref.name: ref.target_commit for ref in [*refs.branches, *refs.tags]}
