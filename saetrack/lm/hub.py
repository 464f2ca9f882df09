"""The model hub's cache on disk: finding, fetching and publishing revisions in it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

# Read when the libraries are imported. Revisions that hold only .bin files would otherwise start a
# background thread that asks the hub for a conversion.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from huggingface_hub import HfApi, constants, snapshot_download

from saetrack.errors import UserError
from saetrack.files import write_atomically

# The first pattern of each list is the kind of file without which the rest is of no use.
SAFETENSORS_FILES = ["model*.safetensors", "model.safetensors.index.json", "config.json"]
BIN_FILES = ["pytorch_model*.bin", "pytorch_model.bin.index.json", "config.json"]
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
    return found


def fetch(repo: str, revision: str, commit: str, patterns: list[str], cache: Path) -> Path:
    """The folder of a revision's files that match `patterns`, downloaded unless the cache has them.

    Raises:
        UserError: neither the cache nor the hub can give the revision at that commit.
    """
    folder = _repo_folder(repo, cache) / "snapshots" / commit
    if _is_complete(folder, patterns):
        return folder
    try:
        path = Path(
            snapshot_download(repo, revision=revision, allow_patterns=patterns, cache_dir=cache)
        )
    except Exception as error:
        raise UserError(f"model: {repo} at {revision} cannot be had: {_reason(error)}") from None
    if path.name != commit:
        raise UserError(
            f"model: {repo} at {revision} moved from commit {commit[:12]} to {path.name[:12]}; "
            "run again to track the new one"
        )
    return path


def fetch_checkpoint(repo: str, revision: str, commit: str, cache: Path) -> Path:
    """The folder with a revision's config and weights; safetensors where the hub has them.

    Raises:
        UserError: neither the cache nor the hub can give them.
    """
    folder = _repo_folder(repo, cache) / "snapshots" / commit
    for patterns in (SAFETENSORS_FILES, BIN_FILES):
        if _is_complete(folder, patterns):
            return folder
    try:
        files = HfApi().list_repo_files(repo, revision=commit)
    except Exception as error:
        raise UserError(f"model: {repo} at {revision} cannot be had: {_reason(error)}") from None
    safe = any(name.endswith(".safetensors") for name in files)
    return fetch(repo, revision, commit, SAFETENSORS_FILES if safe else BIN_FILES, cache)


def _is_complete(folder: Path, patterns: list[str]) -> bool:
    """Whether a snapshot has the leading kind of file, its config, and every shard it names."""
    shards = {
        shard
        for index in folder.glob("*.index.json")
        for shard in json.loads(index.read_text())["weight_map"].values()
        if Path(shard).match(patterns[0])
    }
    needed = shards | ({"config.json"} & set(patterns))
    return any(folder.glob(patterns[0])) and all((folder / name).exists() for name in needed)


def publish(cache: Path, repo: str, revision: str, files: dict[str, bytes]) -> str:
    """Write files as a revision in the hub's cache layout; returns the commit.

    Blobs are named by their SHA-256, the commit by the hash of all names and blobs, and the ref is
    written last: a revision is either there and whole, or not there.
    """
    root = _repo_folder(repo, cache)
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
    write_atomically(root / "refs" / revision, commit.encode())
    return commit


def is_published(cache: Path, repo: str, revision: str) -> bool:
    """Whether the cache has a revision of a repository."""
    return _cached_commit(repo, revision, cache) is not None


def _repo_folder(repo: str, cache: Path) -> Path:
    return cache / f"models--{repo.replace('/', '--')}"


def _cached_commit(repo: str, revision: str, cache: Path) -> str | None:
    ref = _repo_folder(repo, cache) / "refs" / revision
    return ref.read_text().strip() if ref.is_file() else None


def _hub_commits(repo: str, missing: list[str], cache: Path) -> dict[str, str]:
    try:
        if constants.is_offline_mode():
            raise ConnectionError("offline mode is on (HF_HUB_OFFLINE)")
        refs = HfApi().list_repo_refs(repo)
    except Exception as error:
        named = missing[0] + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        raise UserError(
            f"model: {repo} at {named} is not in the local cache ({cache}) and the hub cannot be "
            f"asked: {_reason(error)}"
        ) from None
    return {ref.name: ref.target_commit for ref in [*refs.branches, *refs.tags]}


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
