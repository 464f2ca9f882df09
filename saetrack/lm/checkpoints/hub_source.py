"""A hub's repository as a source of checkpoints, read through the hub's cache."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saetrack.lm.catalog.models import Checkpoint, ModelSpec
from saetrack.lm.checkpoints import hub
from saetrack.lm.checkpoints.folder_layout import NotWholeError, Shape, shape_of
from saetrack.lm.checkpoints.revisions import listed
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Tokenizers do not change in training; every repository keeps its own on the main branch.
TOKENIZER_REVISION = "main"


@dataclass(frozen=True)
class HubSource:
    """The repository of one LM, and the cache it is read through.

    Attributes:
        spec: the LM.
        repo: name of the repository.
        cache: in the hub's layout.
        limit_bytes: what may lie in the cache of fetched checkpoints.
    """

    spec: ModelSpec
    repo: str
    cache: Path
    limit_bytes: int

    def resolve(self, checkpoint_indices: list[int]) -> list[Checkpoint]:
        """Pin checkpoints to commits; downloads nothing.

        Raises:
            UserError: a revision is neither in the cache nor to be had from the hub.
        """
        places = {index: self._place(index) for index in checkpoint_indices}
        wanted: dict[str, list[str]] = {}
        # The tokenizer is needed too: find out now rather than after an hour.
        for repo, revision in [*places.values(), (self._tokenizer_repo, TOKENIZER_REVISION)]:
            wanted.setdefault(repo, []).append(revision)
        commits = {repo: hub.commits(repo, names, self.cache) for repo, names in wanted.items()}
        return [
            Checkpoint(index, self.spec.lm_steps[index], repo, name, commits[repo][name])
            for index, (repo, name) in places.items()
        ]

    def fetch(self, checkpoint: Checkpoint) -> Path:
        """The local folder of a checkpoint, downloaded if need be."""
        return hub.fetch_checkpoint(
            checkpoint.repo,
            checkpoint.revision,
            checkpoint.commit,
            self.cache,
            self.limit_bytes,
        )

    def tokenizer(self) -> tuple[PreTrainedTokenizerFast, str]:
        """The LM's tokenizer, and the commit that names its exact content."""
        from transformers import AutoTokenizer

        repo = self._tokenizer_repo
        commit = hub.commits(repo, [TOKENIZER_REVISION], self.cache)[TOKENIZER_REVISION]
        folder = hub.fetch(repo, TOKENIZER_REVISION, commit, hub.TOKENIZER_FILES, self.cache)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return tokenizer, f"{repo}@{commit}"

    def shape(self) -> Shape:
        """The LM's shape, from the config.json of its last checkpoint, downloaded if need be."""
        repo, revision = self._place(len(self.spec.lm_steps) - 1)
        commit = hub.commits(repo, [revision], self.cache)[revision]
        try:
            return shape_of(hub.fetch(repo, revision, commit, ["config.json"], self.cache))
        except NotWholeError as error:
            raise UserError(f"model: {repo} at {revision} {error}") from None

    @property
    def _tokenizer_repo(self) -> str:
        entry = self.spec.entry
        return entry.tokenizer if entry is not None and entry.tokenizer else self.repo

    def _place(self, checkpoint_index: int) -> tuple[str, str]:
        if self.spec.places:
            return self.spec.places[checkpoint_index]
        return self.repo, self.spec.revision(checkpoint_index)


def open_repo(spec: ModelSpec, repo: str, cache_dir: Path, limit_bytes: int) -> HubSource:
    """A repository with all that its entry leaves to the hub: the list of its checkpoints, its shape."""
    cache = hub.hub_cache()
    if not spec.is_listed:
        spec = listed(spec, cache, cache_dir)
    source = HubSource(spec, repo, cache, limit_bytes)
    if not spec.n_layers:
        source = replace(source, spec=replace(spec, **asdict(source.shape())))
    return source
