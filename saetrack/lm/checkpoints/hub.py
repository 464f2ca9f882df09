"""The model hub: which commits its revisions are, and their files on this machine."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from huggingface_hub import HfApi, constants

from saetrack.lm.checkpoints import files, store
from saetrack.lm.checkpoints.checkpoint_files import NotWholeError, present_files
from saetrack.lm.checkpoints.download import download, list_files, reason
from saetrack.lm.checkpoints.eviction import alone, hold, make_room
from saetrack.lm.checkpoints.files import CHECKPOINT, Part, is_digest, matches
from saetrack.utils.errors import UserError

log = logging.getLogger(__name__)


def commits(repo: str, revisions: list[str], cache: Path) -> dict[str, str]:
    """The commit behind each revision, from this machine where it knows, else from the hub.

    Raises:
        UserError: the hub is needed and does not answer, or lacks a revision.
    """
    known = {name: store.commit_of(cache, repo, name) for name in revisions}
    found = {name: commit for name, commit in known.items() if commit}
    missing = [name for name in revisions if name not in found]
    if missing:
        named = missing[0] + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
        problem = f"{repo} at {named} is not on this machine and the hub cannot be asked"
        offered = _offered(repo, problem)
        for name in missing:
            if name not in offered:
                raise UserError(f"model: {repo} has no revision {name!r} on the hub")
            found[name] = offered[name]
    for name, commit in found.items():
        if not is_digest(commit):  # it will name a folder
            raise UserError(f"model: {repo} at {name}: {commit[:80]!r} is no commit")
    return found


def list_revisions(repo: str) -> list[str]:
    """The names of a repository's branches and tags.

    Raises:
        UserError: the hub does not answer, or knows no such repository.
    """
    return list(_offered(repo, f"the hub cannot be asked for the revisions of {repo}"))


def revisions_on_disk(repo: str, cache: Path) -> list[str]:
    """The names of a repository's revisions whose weights are on this machine, sorted."""
    commits = {
        name: store.commit_of(cache, repo, name) for name in store.named_revisions(cache, repo)
    }
    return [
        name
        for name, commit in commits.items()
        if commit
        and (
            store.commit_folder(cache, CHECKPOINT, repo, commit).exists()
            or _lacks(_snapshot(repo, commit), CHECKPOINT) is None
        )
    ]


def weight_digests(repo: str, commit: str, cache: Path) -> dict[str, str]:
    """The hashes that the hub lists for a commit's files of weights, by name.

    Empty for a commit whose weights are not on this machine, or whose hashes are not known.
    """
    digests = store.listed_digests(store.commit_folder(cache, CHECKPOINT, repo, commit))
    digests = digests or store.listed_digests(_snapshot(repo, commit))
    return files.weight_digests(digests)


def fetch(
    repo: str, revision: str, commit: str, part: Part, cache: Path, limit_bytes: int | None = None
) -> Path:
    """The folder with some files of a commit, downloaded unless this machine has them.

    Every file has been checked against the hash that the hub lists. Hold the folder
    (`eviction.hold`) while it is read: only held ones are safe from another track's need for room.

    Args:
        repo: the hub's repository.
        revision: the name of `commit`, for messages.
        commit: what is fetched.
        part: which of its files; weights as safetensors where the hub has them.
        cache: where saetrack keeps what it fetched. What the user's own cache of the hub has whole
            is used there.
        limit_bytes: what all that saetrack fetched may take, this one included; None for no limit.

    Raises:
        TemporaryError: the hub does not answer, or not to the end; or other tracks hold the room.
        UserError: neither this machine nor the hub can give the files, or they do not fit.
    """
    label = f"{repo} at {revision}"
    folder = store.commit_folder(cache, part, repo, commit)
    with hold(folder):
        if folder.exists() and _is_right(folder, part, label):
            return folder
    snapshot = _snapshot(repo, commit)
    if _lacks(snapshot, part) is None and _is_right(snapshot, part, label):
        return snapshot
    listed = list_files(repo, revision, commit, part)  # before anything is written
    with alone(folder, label):
        if not folder.exists() or store.damaged_files(
            folder, part
        ):  # not fetched by another meanwhile
            if limit_bytes is not None:
                make_room(folder, listed, limit_bytes, label)
            draft = store.reopen(folder)
            store.write_manifest(draft, listed)
            download(repo, revision, commit, listed, draft)
            if (problem := _lacks(draft, part)) is not None:
                shutil.rmtree(draft)
                raise UserError(f"model: {label} on the hub {problem}")
            draft.rename(folder)
        store.name_commit(cache, repo, revision, commit)
    return folder


def _snapshot(repo: str, commit: str) -> Path:
    return store.user_cache(repo) / "snapshots" / commit


def _lacks(folder: Path, part: Part) -> str | None:
    """What a folder lacks of a part, in words that go on from its name."""
    try:
        if part is CHECKPOINT:
            present_files(folder)
        elif not any(matches(path.name, part.kinds[0][:1]) for path in folder.glob("*")):
            return f"has no {part.kinds[0][0]}"
    except (NotWholeError, UserError) as error:
        return str(error)
    return None


def _is_right(folder: Path, part: Part, label: str) -> bool:
    damaged = store.damaged_files(folder, part)
    if damaged:
        log.warning("%s: %s is damaged in %s", label, ", ".join(damaged), folder)
    return not damaged


def _offered(repo: str, problem: str) -> dict[str, str]:
    """The commits behind the branches and tags of a repository; else a line with the problem."""
    try:
        if constants.is_offline_mode():
            raise ConnectionError("offline mode is on (HF_HUB_OFFLINE)")
        refs = HfApi().list_repo_refs(repo)
    except Exception as error:
        raise UserError(f"model: {problem}: {reason(error)}") from None
    return {ref.name: ref.target_commit for ref in [*refs.branches, *refs.tags]}
