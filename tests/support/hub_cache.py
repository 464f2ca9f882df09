"""A hub's cache on disk, as the hub's client writes it: what other programs have fetched."""

from __future__ import annotations

import hashlib
from pathlib import Path


def put_in_hub_cache(cache: Path, repo: str, revision: str, files: dict[str, bytes]) -> str:
    """Write files as a revision of a repository; returns the commit."""
    root = cache / f"models--{repo.replace('/', '--')}"
    blobs = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    listing = "\n".join(f"{name} {blob}" for name, blob in sorted(blobs.items()))
    commit = hashlib.sha256(listing.encode()).hexdigest()[:40]
    snapshot = root / "snapshots" / commit
    for folder in (snapshot, root / "blobs", (root / "refs" / revision).parent):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / "blobs" / blobs[name]).write_bytes(content)
        link = snapshot / name
        if not link.is_symlink():
            link.symlink_to(Path("../../blobs") / blobs[name])
    (root / "refs" / revision).write_text(commit)
    return commit
