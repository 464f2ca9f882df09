"""Files of repositories on this machine: in plain folders of our own, or in the user's hub cache.

Under the cache's folder, for checkpoints, and likewise for tokenizers and configs:

    checkpoints/<org>--<name>/<commit>/         the files, and files.json: size and hash of each
    checkpoints/<org>--<name>/<commit>.draft/   the same while it is being written
    refs/<org>--<name>/<revision>               the commit that a revision's name stands for

A draft gets its final name when all of it is there: a commit is either there and whole, or absent.
The user's hub cache, which other programs share (HF_HOME), is read and never written. There a
commit's folder holds links to blobs, which are named by their hashes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from saetrack.lm.checkpoints.files import (
    CHECKPOINT,
    TOKENIZER,
    ListedFile,
    Part,
    has_digest,
    is_digest,
)
from saetrack.utils.files import whole_folder, write_atomically

MANIFEST = "files.json"

# Tokenizers do not change in training; every repository keeps its own on the main branch.
TOKENIZER_REVISION = "main"


def commit_folder(cache: Path, part: Part, repo: str, commit: str) -> Path:
    """Where the files of a commit lie, once they are whole."""
    return cache / part.name / _flat(repo) / commit


def draft_of(folder: Path) -> Path:
    """Where they lie until then."""
    return folder.with_name(f"{folder.name}.draft")


def user_cache(repo: str) -> Path:
    """Where the user's hub cache keeps a repository, if it does."""
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")


def reopen(folder: Path) -> Path:
    """The draft of a folder: what is there of it, whole or not."""
    draft = draft_of(folder)
    if folder.exists():
        shutil.rmtree(draft, ignore_errors=True)
        folder.rename(draft)
    draft.mkdir(exist_ok=True)
    return draft


def write_manifest(folder: Path, files: list[ListedFile]) -> None:
    """Say what a folder must hold."""
    content = json.dumps([asdict(file) for file in files], indent=1)
    write_atomically(folder / MANIFEST, content.encode())


def manifest(folder: Path) -> list[ListedFile]:
    """What a folder must hold; nothing if it does not say so."""
    try:
        return [ListedFile(**file) for file in json.loads((folder / MANIFEST).read_text())]
    except (OSError, ValueError, TypeError):
        return []


def damaged_files(folder: Path, part: Part) -> list[str]:
    """Names of a part's files that are not what they must be; reads all of them."""
    if files := manifest(folder):
        return [file.name for file in files if file.problem(folder)]
    blobs = [(path, blob) for path, blob in _blobs(folder) if part.has(path.name)]
    return [path.name for path, blob in blobs if not has_digest(path, blob)]


def listed_digests(folder: Path) -> dict[str, str]:
    """The hashes that a commit's files must have, by name; reads none of the files."""
    listed = {file.name: file.digest for file in manifest(folder)}
    return listed or {path.name: blob for path, blob in _blobs(folder)}


def _blobs(folder: Path) -> list[tuple[Path, str]]:
    """The files in the user's hub cache that are there, each with the hash that it must have."""
    if not folder.is_dir():
        return []
    # Only the first link is followed: a blob may be a link itself, into the store of blobs that
    # repositories share, where names are hashes of another kind.
    links = [path for path in sorted(folder.iterdir()) if path.is_symlink() and path.is_file()]
    blobs = [(path, path.readlink().name) for path in links]
    return [(path, blob) for path, blob in blobs if is_digest(blob)]


def publish(cache: Path, repo: str, revision: str, files: dict[str, bytes]) -> str:
    """Write a checkpoint, and with the main revision the tokenizer; returns the commit.

    The commit is the hash of all names and hashes of files. Its name is written last, so that a
    revision is either there and whole, or not there.
    """
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    listing = "\n".join(f"{name} {digest}" for name, digest in sorted(digests.items()))
    commit = hashlib.sha256(listing.encode()).hexdigest()[:40]
    for part in (CHECKPOINT, TOKENIZER) if revision == TOKENIZER_REVISION else (CHECKPOINT,):
        chosen = [name for name in files if part.has(name)]
        folder = commit_folder(cache, part, repo, commit)
        if chosen and not folder.exists():
            with whole_folder(folder) as draft:
                for name in chosen:
                    write_atomically(draft / name, files[name])
                listed = [ListedFile(name, len(files[name]), digests[name]) for name in chosen]
                write_manifest(draft, listed)
    name_commit(cache, repo, revision, commit)
    return commit


def name_commit(cache: Path, repo: str, revision: str, commit: str) -> None:
    """Keep a revision's commit, so that no hub is asked for it again."""
    write_atomically(_refs(cache, repo)[0] / revision, commit.encode())


def commit_of(cache: Path, repo: str, revision: str) -> str | None:
    """The commit that a revision's name stands for on this machine."""
    refs = [path / revision for path in _refs(cache, repo)]
    return next((ref.read_text().strip() for ref in refs if ref.is_file()), None)


def named_revisions(cache: Path, repo: str) -> list[str]:
    """The names of a repository's revisions whose commits are known on this machine, sorted."""
    found = {
        str(path.relative_to(refs))
        for refs in _refs(cache, repo)
        for path in refs.rglob("*")
        if path.is_file()
    }
    return sorted(found)


def _refs(cache: Path, repo: str) -> tuple[Path, Path]:
    return cache / "refs" / _flat(repo), user_cache(repo) / "refs"


def _flat(repo: str) -> str:
    return repo.replace("/", "--")
