"""Where checkpoints come from: revisions of a hub repository or of the embedded LM's, or a folder.

`CheckpointSource` is what the rest of the library knows of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from saetrack.catalog import Checkpoint, ModelSpec
from saetrack.errors import UserError
from saetrack.learning_rate import LearningRate
from saetrack.live import NotWholeError, Shape, shape_of
from saetrack.lm import hub
from saetrack.lm.folder import open_folder
from saetrack.lm.revisions import listed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["Checkpoint", "CheckpointSource", "HubSource", "open_source"]

# Tokenizers do not change in training; every repository keeps its own on the main branch.
TOKENIZER_REVISION = "main"


class CheckpointSource(Protocol):
    """The checkpoints of one LM."""

    @property
    def spec(self) -> ModelSpec:
        """The LM; a checkpoint's index is its place in `lm_steps`."""

    @property
    def repo(self) -> str:
        """Names the LM in identities: not where it lies, but what it is."""

    def resolve(self, checkpoint_indices: list[int]) -> list[Checkpoint]:
        """Pin checkpoints to commits; downloads nothing.

        Raises:
            UserError: one is not to be had.
        """

    def fetch(self, checkpoint: Checkpoint) -> Path:
        """The local folder with a checkpoint's config and weights, downloaded if need be.

        Raises:
            UserError: it is not to be had any more.
        """

    def tokenizer(self) -> tuple[PreTrainedTokenizerFast, str]:
        """The LM's tokenizer, and an id that names its exact content.

        Raises:
            UserError: it is not to be had.
        """


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


def open_source(spec: ModelSpec, cache_dir: Path, limit_bytes: int) -> CheckpointSource:
    """The source of an LM's checkpoints; an embedded LM is trained first if this machine lacks it.

    Args:
        spec: from `find_spec`.
        cache_dir: where embedded LMs, lists of revisions and the ledgers of live folders are kept;
            LMs of the hub use the hub's own cache.
        limit_bytes: what may lie in the hub's cache of fetched checkpoints.
    """
    if spec.folder is not None:
        return open_folder(spec, cache_dir)
    if spec.repo is not None:
        return _open_repo(spec, spec.repo, cache_dir, limit_bytes)
    from saetrack.lm.mini import ensure_built  # only embedded LMs are trained here

    cache = cache_dir / "hub"
    return HubSource(spec, ensure_built(spec, cache), cache, limit_bytes)


def _open_repo(spec: ModelSpec, repo: str, cache_dir: Path, limit_bytes: int) -> HubSource:
    """With all that its entry leaves to the hub: the list of its checkpoints, its shape."""
    cache = hub.hub_cache()
    if not spec.is_listed:
        spec = listed(spec, cache, cache_dir)
    source = HubSource(spec, repo, cache, limit_bytes)
    if not spec.n_layers:
        source = replace(source, spec=replace(spec, **asdict(source.shape())))
    return source


def learning_rate(spec: ModelSpec) -> LearningRate | None:
    """Of an LM's own training, where it is known."""
    if spec.entry is not None:
        return spec.entry.learning_rate
    from saetrack.lm import mini

    return mini.learning_rate(spec) if spec.folder is None else None
