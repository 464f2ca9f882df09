"""Which LMs have public training checkpoints, at which steps, under which names."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from saetrack.errors import UserError

# Pythia: powers of two to 512, then every 1,000 (paper, appendix I; 154 checkpoints).
PYTHIA_LM_STEPS = (0, *(2**i for i in range(10)), *range(1_000, 143_001, 1_000))

# Stanford CRFM: four linear stretches (paper, appendix I; 609 checkpoints).
STANFORD_LM_STEPS = (
    *range(0, 100, 10),
    *range(100, 2_000, 50),
    *range(2_000, 20_000, 100),
    *range(20_000, 400_001, 1_000),
)

# The mini-LM changes most between steps 8 and 512, so it has more checkpoints there than powers of
# two would give: with those alone a chain loses a tenth of its features between 32 and 128.
MINI_LM_STEPS = (
    *(0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512),
    *range(640, 2_049, 128),
)
NANO_LM_STEPS = (0, 1, 2, 4, 8, 16)


@dataclass(frozen=True)
class ModelSpec:
    """An LM with training checkpoints.

    Attributes:
        repo: repository on the hub; embedded LMs have none, they are made on this machine.
        revision_pattern: name of a checkpoint's revision, with `{lm_step}` in it; empty for a live
            folder, whose source knows the names.
        lm_steps: training step of each checkpoint; a checkpoint's place here is its
            `checkpoint_index`.
        max_context: longest row of tokens that the LM takes.
        folder: of a live LM, into which its training run writes checkpoints; such an LM has no
            repo, and as many `lm_steps` as are there so far.
    """

    name: str
    repo: str | None
    revision_pattern: str
    lm_steps: tuple[int, ...]
    n_layers: int
    d_model: int
    max_context: int
    folder: Path | None = None

    def revision(self, checkpoint_index: int) -> str:
        """The revision that holds a checkpoint."""
        return self.revision_pattern.format(lm_step=self.lm_steps[checkpoint_index])


@dataclass(frozen=True)
class Checkpoint:
    """One training checkpoint of an LM, pinned to a commit."""

    checkpoint_index: int
    lm_step: int
    repo: str
    revision: str
    commit: str


def _pythia(size: str, n_layers: int, d_model: int) -> list[ModelSpec]:
    return [
        ModelSpec(
            name=f"pythia-{size}{suffix}",
            repo=f"EleutherAI/pythia-{size}{suffix}",
            revision_pattern="step{lm_step}",
            lm_steps=PYTHIA_LM_STEPS,
            n_layers=n_layers,
            d_model=d_model,
            max_context=2048,
        )
        for suffix in ("", "-deduped")
    ]


def _stanford(size: str, letter: str, repo: str, n_layers: int, d_model: int) -> ModelSpec:
    return ModelSpec(
        name=f"stanford-gpt2-{size}-{letter}",
        repo=f"stanford-crfm/{repo}",
        revision_pattern="checkpoint-{lm_step}",
        lm_steps=STANFORD_LM_STEPS,
        n_layers=n_layers,
        d_model=d_model,
        max_context=1024,
    )


def _embedded(
    name: str, lm_steps: tuple[int, ...], n_layers: int, d_model: int, max_context: int
) -> ModelSpec:
    return ModelSpec(name, None, "step{lm_step}", lm_steps, n_layers, d_model, max_context)


_MODELS = [
    _embedded("mini", MINI_LM_STEPS, n_layers=4, d_model=128, max_context=128),
    _embedded("nano", NANO_LM_STEPS, n_layers=2, d_model=32, max_context=32),
    *_pythia("70m", 6, 512),
    *_pythia("160m", 12, 768),
    *_pythia("410m", 24, 1024),
    *_pythia("1b", 16, 2048),
    *_pythia("1.4b", 24, 2048),
    *_pythia("2.8b", 32, 2560),
    *_pythia("6.9b", 32, 4096),
    *_pythia("12b", 36, 5120),
    _stanford("small", "a", "alias-gpt2-small-x21", 12, 768),
    _stanford("small", "b", "battlestar-gpt2-small-x49", 12, 768),
    _stanford("small", "c", "caprica-gpt2-small-x81", 12, 768),
    _stanford("small", "d", "darkmatter-gpt2-small-x343", 12, 768),
    _stanford("small", "e", "expanse-gpt2-small-x777", 12, 768),
    _stanford("medium", "a", "arwen-gpt2-medium-x21", 24, 1024),
    _stanford("medium", "b", "beren-gpt2-medium-x49", 24, 1024),
    _stanford("medium", "c", "celebrimbor-gpt2-medium-x81", 24, 1024),
    _stanford("medium", "d", "durin-gpt2-medium-x343", 24, 1024),
    _stanford("medium", "e", "eowyn-gpt2-medium-x777", 24, 1024),
]
MODELS = {model.name: model for model in _MODELS}


def find_model(name: str) -> ModelSpec:
    """The catalogue's entry for a name.

    Raises:
        UserError: no such entry; the line names the nearest ones.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=3, cutoff=0.3) or list(MODELS)
        raise UserError(f"model={name!r}: not in the catalogue; did you mean {', '.join(near)}?")
    return MODELS[name]
