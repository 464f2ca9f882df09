"""A repository of the hub, or of an embedded LM, as a source of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saetrack.lm.catalog.models import UNKNOWN, Checkpoint, ModelSpec
from saetrack.lm.checkpoints import hub
from saetrack.lm.checkpoints.checkpoint_files import NotWholeError
from saetrack.lm.checkpoints.files import CHECKPOINT, CONFIG, TOKENIZER
from saetrack.lm.checkpoints.revisions import listed
from saetrack.lm.checkpoints.shape import Shape, shape_of
from saetrack.lm.checkpoints.store import TOKENIZER_REVISION, commit_of
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class HubSource:
    """The repository of one LM, and where its files are kept on this machine.

    Attributes:
        spec: the LM.
        repo: name of the repository.
        cache: the folder in which fetched and embedded checkpoints lie.
        limit_bytes: what all fetched checkpoints may take on disk.
    """

    spec: ModelSpec
    repo: str
    cache: Path
    limit_bytes: int

    @property
    def lm_identity(self) -> str:
        """The repository."""
        return self.repo

    def weight_digests(self, checkpoint: Checkpoint) -> Mapping[str, str]:
        """Hashes of the files that hold its weights, by name; none for one not on this machine."""
        return hub.weight_digests(checkpoint.repo, checkpoint.commit, self.cache)

    def resolve(self, checkpoint_indices: list[int]) -> list[Checkpoint]:
        """Pin checkpoints to commits; downloads nothing.

        Raises:
            UserError: a revision is neither on this machine nor on the hub.
        """
        revisions = {index: self._revision(index) for index in checkpoint_indices}
        wanted: dict[str, list[str]] = {}
        # The tokenizer is needed too: find out now rather than after an hour.
        for repo, revision in [*revisions.values(), (self._tokenizer_repo, TOKENIZER_REVISION)]:
            wanted.setdefault(repo, []).append(revision)
        commits = {repo: hub.commits(repo, names, self.cache) for repo, names in wanted.items()}
        return [
            Checkpoint(index, self.spec.lm_steps[index], repo, name, commits[repo][name])
            for index, (repo, name) in revisions.items()
        ]

    def resolve_here(self, checkpoint_indices: list[int]) -> list[Checkpoint]:
        """The same without a hub: the commit is UNKNOWN where this machine does not know it."""
        named = [(index, *self._revision(index)) for index in checkpoint_indices]
        return [
            Checkpoint(
                *(index, self.spec.lm_steps[index], repo, name),
                commit_of(self.cache, repo, name) or UNKNOWN,
            )
            for index, repo, name in named
        ]

    def fetch(self, checkpoint: Checkpoint) -> Path:
        """The local folder of a checkpoint, downloaded if need be."""
        of = (checkpoint.repo, checkpoint.revision, checkpoint.commit)
        return hub.fetch(*of, CHECKPOINT, self.cache, self.limit_bytes)

    def tokenizer(self) -> tuple[PreTrainedTokenizerFast, str]:
        """The LM's tokenizer, and the commit that names its exact content."""
        from transformers import AutoTokenizer

        repo = self._tokenizer_repo
        commit = hub.commits(repo, [TOKENIZER_REVISION], self.cache)[TOKENIZER_REVISION]
        folder = hub.fetch(repo, TOKENIZER_REVISION, commit, TOKENIZER, self.cache)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return tokenizer, f"{repo}@{commit}"

    def shape(self) -> Shape:
        """The LM's shape, from the config.json of its last checkpoint, downloaded if need be."""
        repo, revision = self._revision(len(self.spec.lm_steps) - 1)
        commit = hub.commits(repo, [revision], self.cache)[revision]
        try:
            return shape_of(hub.fetch(repo, revision, commit, CONFIG, self.cache))
        except NotWholeError as error:
            raise UserError(f"model: {repo} at {revision} {error}") from None

    @property
    def _tokenizer_repo(self) -> str:
        entry = self.spec.entry
        return entry.tokenizer if entry is not None and entry.tokenizer else self.repo

    def _revision(self, checkpoint_index: int) -> tuple[str, str]:
        if self.spec.places:
            return self.spec.places[checkpoint_index]
        return self.repo, self.spec.revision(checkpoint_index)


def open_repo(spec: ModelSpec, repo: str, cache_dir: Path, limit_bytes: int) -> HubSource:
    """A repository, with the list of checkpoints and the LM's shape where the hub has to say."""
    if not spec.is_listed:
        spec = listed(spec, cache_dir)
    source = HubSource(spec, repo, cache_dir, limit_bytes)
    if not spec.n_layers:
        source = replace(source, spec=replace(spec, **asdict(source.shape())))
    return source
