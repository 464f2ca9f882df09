"""The hub cache that other programs share, as their downloads leave it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from huggingface_hub.file_download import repo_folder_name


def download_into(hub_cache: Path, repo: str, revision: str, files: dict[str, bytes]) -> Path:
    """Leave a revision there: blobs named by their hashes, and a folder of links to them."""
    root = hub_cache / repo_folder_name(repo_id=repo, repo_type="model")
    commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
    snapshot = root / "snapshots" / commit
    for folder in (root / "blobs", snapshot, (root / "refs" / revision).parent):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        blob = hashlib.sha256(content).hexdigest()
        (root / "blobs" / blob).write_bytes(content)
        (snapshot / name).symlink_to(Path("../../blobs") / blob)
    (root / "refs" / revision).write_text(commit)
    return snapshot
