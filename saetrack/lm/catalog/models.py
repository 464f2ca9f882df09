"""Which LMs have public training checkpoints, at which steps, under which names."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from saetrack.lm.catalog.architectures import ARCHITECTURES, Norm, has_resid_mid
from saetrack.lm.catalog.entry import PUBLISHED, Entry, load_entries
from saetrack.utils.errors import UserError
from saetrack.utils.settings import PREFIX, models_file

# The mini-LM changes most between steps 8 and 512, so it has more checkpoints there than powers of
# two would give: with those alone a chain loses a tenth of its features between 32 and 128.
MINI_LM_STEPS = (
    *(0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512),
    *range(640, 2_049, 128),
)
SMALL_LM_STEPS = (*MINI_LM_STEPS, *range(2_304, 4_097, 256))
NANO_LM_STEPS = (0, 1, 2, 4, 8, 16)


# A checkpoint's commit where nobody has looked for it so far: it is that of no link.
UNKNOWN = "unknown"


class UnknownModelError(UserError):
    """No LM of the catalogue, or of the user's file, has this name."""


@dataclass(frozen=True)
class ModelSpec:
    """An LM with training checkpoints.

    Attributes:
        repo: repository on the hub; embedded LMs have none, they are made on this machine.
        revision_pattern: name of a checkpoint's revision, with `{lm_step}` in it; empty where
            `places` has the names, and for a folder, whose source knows them.
        lm_steps: training step of each checkpoint; indexed by `checkpoint_index`. Empty until the
            hub, or its cache, was asked for the list.
        n_layers: 0 until the LM's config.json was read, like `d_model`.
        max_context: longest row of tokens that the LM takes; 0 if no limit is known.
        folder: of checkpoints on this machine, which may grow while the LM is trained; such an LM
            has no repo, and as many `lm_steps` as are there so far.
        norm: what reads the residual stream.
        has_resid_mid: whether there is a residual stream between attention and MLP.
        entry: what the catalogue says of an LM of the hub.
        places: repository and revision of each checkpoint of such an LM.
        vocabulary: rows of the embedding; 0 if that is not known.
    """

    name: str
    repo: str | None
    revision_pattern: str
    lm_steps: tuple[int, ...]
    n_layers: int
    d_model: int
    max_context: int
    folder: Path | None = None
    norm: Norm = "layer"
    has_resid_mid: bool = True
    entry: Entry | None = None
    places: tuple[tuple[str, str], ...] = ()
    vocabulary: int = 0

    @property
    def is_listed(self) -> bool:
        """Whether it is known by now which checkpoints there are; a folder may still grow."""
        return self.entry is None or bool(self.lm_steps)

    def revision(self, checkpoint_index: int) -> str:
        """The revision that holds a checkpoint."""
        if self.places:
            return self.places[checkpoint_index][1]
        return self.revision_pattern.format(lm_step=self.lm_steps[checkpoint_index])

    def with_places(self, places: tuple[tuple[int, str, str], ...]) -> ModelSpec:
        """This LM with its checkpoints: training step, repository and revision of each."""
        return replace(
            self,
            lm_steps=tuple(lm_step for lm_step, *_ in places),
            places=tuple((repo, revision) for _, repo, revision in places),
        )


@dataclass(frozen=True)
class Checkpoint:
    """One training checkpoint of an LM, pinned to a commit.

    Attributes:
        notes: what looks wrong with it but may be right, a line each: what was left out before it,
            or that it holds the weights of another one. They tell no two checkpoints apart.
    """

    checkpoint_index: int
    lm_step: int
    repo: str
    revision: str
    commit: str
    notes: tuple[str, ...] = field(default=(), compare=False)

    def noted(self, *notes: str) -> Checkpoint:
        """The same with more notes."""
        return replace(self, notes=(*self.notes, *notes))

    @property
    def label(self) -> str:
        """The checkpoint in a message."""
        return f"{self.repo} at {self.revision} (LM step {self.lm_step})"


def _embedded(
    name: str,
    lm_steps: tuple[int, ...],
    shape: tuple[int, int, int],
    *,
    has_resid_mid: bool = False,
) -> ModelSpec:
    """An LM that is made on this machine.

    Args:
        name: of its recipe.
        lm_steps: of its checkpoints.
        shape: blocks, width, longest row of tokens.
        has_resid_mid: False for a GPT-NeoX, whose blocks are parallel.
    """
    return ModelSpec(name, None, "step{lm_step}", lm_steps, *shape, has_resid_mid=has_resid_mid)


MINI_SHAPE = (4, 128, 128)
EMBEDDED = {
    **{
        name: _embedded(name, MINI_LM_STEPS, MINI_SHAPE)
        for name in ("mini", "mini-lm-seed1", "mini-lm-seed2")
    },
    "mini-gpt2": _embedded("mini-gpt2", MINI_LM_STEPS, MINI_SHAPE, has_resid_mid=True),
    "small": _embedded("small", SMALL_LM_STEPS, (8, 256, 256)),
    "nano": _embedded("nano", NANO_LM_STEPS, (2, 32, 32)),
}


def find_model(name: str) -> ModelSpec:
    """The LM of a name: embedded, of the catalogue, or of the user's file.

    Raises:
        UnknownModelError: no such entry; the line names the nearest ones.
        UserError: the user's file cannot be used.
    """
    if name in EMBEDDED:
        return EMBEDDED[name]
    named = {variant.name: variant for entry in entries() for variant in entry.each()}
    if name not in named:
        near = difflib.get_close_matches(name, [*EMBEDDED, *named], n=3, cutoff=0.3)
        raise UnknownModelError(
            f"model={name!r}: not in the catalogue; did you mean {', '.join(near or EMBEDDED)}? "
            "`saetrack families` lists it"
        )
    return spec_of(named[name])


def entries() -> list[Entry]:
    """The entries of the catalogue and of the user's file; one entry may have several variants.

    Raises:
        UserError: the user's file cannot be used.
    """
    own = models_file()
    return [*_published(), *(_own_entries(own) if own is not None else ())]


def spec_of(entry: Entry) -> ModelSpec:
    """The LM of an entry without variants."""
    spec = ModelSpec(
        name=entry.name,
        repo=entry.repo,
        revision_pattern="",
        lm_steps=(),
        n_layers=entry.n_layers or 0,
        d_model=entry.d_model or 0,
        max_context=entry.max_context or 0,
        norm=ARCHITECTURES[entry.architecture].norm if entry.architecture else "layer",
        has_resid_mid=has_resid_mid({"model_type": entry.architecture}),
        entry=entry,
    )
    return spec.with_places(entry.places)


@cache
def _published() -> list[Entry]:
    return load_entries(PUBLISHED, "catalogue")


def _own_entries(path: Path) -> list[Entry]:
    called = f"{PREFIX}MODELS_FILE"
    own = load_entries(path, called)
    published = (variant.name for entry in _published() for variant in entry.each())
    taken = {*EMBEDDED, *published}
    for entry in own:
        for name in (variant.name for variant in entry.each()):
            if name in taken:  # it names an experiment
                raise UserError(f"{called}={path}: the name {name!r} is taken; choose another")
            taken.add(name)
    return own
