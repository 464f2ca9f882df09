"""Which checkpoints a repository has, where its entry names a pattern only.

The hub lists them once. From then on the list is a file on this machine, which can grow at its end
and never changes otherwise: a `checkpoint_index` must always mean the same checkpoint.
"""

from __future__ import annotations

import logging
from pathlib import Path

from huggingface_hub import constants
from pydantic import BaseModel, ConfigDict, ValidationError

from saetrack.lm.catalog.entry import Entry
from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints import hub
from saetrack.utils.errors import UserError
from saetrack.utils.files import content_hash, write_atomically

log = logging.getLogger(__name__)

Revisions = dict[int, str]  # by training step


class _Listed(BaseModel):
    """A list on disk, by ascending step."""

    model_config = ConfigDict(frozen=True)

    repo: str
    patterns: tuple[str, ...]
    revisions: Revisions


def listed(spec: ModelSpec, cache_dir: Path, *, renew: bool = False) -> ModelSpec:
    """An LM with all of its checkpoints.

    Args:
        spec: of an entry that names a pattern.
        cache_dir: where lists and fetched checkpoints are kept. Where the hub is not to be asked,
            the revisions on this machine count as all that there are.
        renew: ask the hub again, and take what came after the last one.

    Raises:
        UserError: there is no list, and the hub cannot be asked or has no such revisions.
    """
    entry = spec.entry
    assert entry is not None
    path = _path(entry, cache_dir)
    known = _read(path)
    if known and not renew:
        return _with(spec, entry, known)
    offered = _offered(entry, cache_dir)
    after = {step: name for step, name in offered.items() if not known or step > max(known)}
    between = offered.keys() - known.keys() - after.keys()
    if between:
        log.warning(
            "%s: %d revisions that came between listed ones are left out, such as %s; a chain's "
            "indices would change their meaning. Delete %s to take them in",
            *(entry.repo, len(between), offered[min(between)], path),
        )
    if after:
        known |= dict(sorted(after.items()))
        whole = _Listed(repo=entry.repo, patterns=entry.patterns, revisions=known)
        write_atomically(path, whole.model_dump_json(indent=1).encode())
    return _with(spec, entry, known)


def known_by_now(spec: ModelSpec, cache_dir: Path) -> ModelSpec:
    """An LM with the checkpoints that were listed before, if they were; asks nobody."""
    entry = spec.entry
    if entry is None or not entry.is_listed_by_the_hub:
        return spec
    return _with(spec, entry, _read(_path(entry, cache_dir)))


def _with(spec: ModelSpec, entry: Entry, known: Revisions) -> ModelSpec:
    return spec.with_places(tuple((step, entry.repo, name) for step, name in known.items()))


def _offered(entry: Entry, cache_dir: Path) -> Revisions:
    what = f"model: {entry.repo}"
    named = " or ".join(entry.patterns)
    if constants.is_offline_mode():
        names = hub.revisions_on_disk(entry.repo, cache_dir)
        found = _matching(entry, names)
        if not found:
            raise UserError(
                f"{what}: which checkpoints it has is not known here, offline mode is on "
                f"(HF_HUB_OFFLINE), and this machine holds none named {named}"
            )
        log.warning("%s: offline, so its %d cached checkpoints count as all", what, len(found))
        return found
    found = _matching(entry, hub.list_revisions(entry.repo))
    if not found:
        raise UserError(f"{what} has no revision named {named} on the hub")
    return found


def _matching(entry: Entry, names: list[str]) -> Revisions:
    """By ascending step; of several names for a step, the first in the alphabet."""
    found: Revisions = {}
    for name in sorted(names):
        lm_step = entry.lm_step_of(name)
        if lm_step is not None:
            found.setdefault(lm_step, name)
    found |= {lm_step: revision for lm_step, _, revision in entry.final_place}
    return dict(sorted(found.items()))


def _path(entry: Entry, cache_dir: Path) -> Path:
    key = content_hash(entry.patterns)[:8]  # another pattern is another list
    return cache_dir / "revisions" / f"{entry.repo.replace('/', '--')}-{key}.json"


def _read(path: Path) -> Revisions:
    try:
        return _Listed.model_validate_json(path.read_bytes()).revisions
    except FileNotFoundError:
        return {}
    except ValidationError:
        raise UserError(f"model: {path} is no list of revisions; delete it") from None
