"""What an entry says of an LM: where its checkpoints lie, what they are called, what it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from saetrack.lm.catalog.architectures import ARCHITECTURES
from saetrack.lm.catalog.learning_rate import LearningRate
from saetrack.utils.errors import UserError, one_line

# In C where PyYAML was built so: a tenth of the time.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

PUBLISHED = Path(__file__).parent / "published.yaml"

# Stands for the training step in a revision's name; with a format, as in ckpt_{lm_step:03d}.
LM_STEP = re.compile(r"\{lm_step(:[^{}]*)?\}")

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
Repo = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")]
Size = Annotated[int, Field(gt=0)]
Step = Annotated[int, Field(ge=0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stretch(_Frozen):
    """Training steps at equal distances, `last` included."""

    first: Step
    last: Step
    stride: Size


class Place(_Frozen):
    """Where one checkpoint lies, if not all of them lie in one repository under one pattern."""

    lm_step: Step
    revision: str = "main"
    repo: Repo | None = None


class Entry(_Frozen):
    """One LM, or several that differ in a suffix only.

    Its checkpoints are given in one of four ways: `revision` alone, a pattern by which they are
    listed on the hub; `revision` and `lm_steps`; `checkpoints`, one by one; or `main_lm_step`
    alone, for an LM of which only the final weights are public.
    """

    name: Name
    repo: Repo = Field(description="on the hub; it names the LM in identities")
    family: Name | None = None
    variants: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        default=("",), description="suffixes of name and repo, an LM each"
    )
    revision: str | tuple[str, ...] | None = Field(
        default=None,
        description="{lm_step} stands for the training step, * for anything, ? for one character",
    )
    lm_steps: tuple[Step | Stretch, ...] | None = None
    checkpoints: Annotated[tuple[Place, ...], Field(min_length=1)] | None = None
    main_lm_step: Step | None = Field(
        default=None, description="where the main branch is the last checkpoint: its step"
    )
    counts: str = Field(default="training steps", description="what lm_step counts")
    tokenizer: Repo | None = Field(default=None, description="its repository, if another")
    architecture: str | None = Field(default=None, description="`model_type` of the config.json")
    n_layers: Size | None = None
    d_model: Size | None = None
    d_mlp: Size | None = None
    d_query: Size | None = Field(default=None, description="all heads; d_model if left out")
    d_key: Size | None = Field(default=None, description="all key heads; d_query if left out")
    n_experts: Size = 1
    vocabulary: Size | None = None
    tied: bool | None = Field(
        default=None, description="unembedding and embedding share their weights"
    )
    max_context: Size | None = None
    hook_layer: Step | None = Field(
        default=None, description="of the paper; a third of the layers if left out"
    )
    learning_rate: LearningRate | None = Field(
        default=None, description="of its training: linear warm-up, then a cosine to a floor"
    )
    corpus: str = "unknown"
    licence: str = "unknown"
    documentation: str | None = None
    note: str | None = None
    remote_code: bool = Field(
        default=False, description="loads only with code of its repository, which is never run"
    )

    @field_validator("architecture")
    @classmethod
    def _known_architecture(cls, value: str | None) -> str | None:
        if value is not None and value not in ARCHITECTURES:
            known = ", ".join(sorted(ARCHITECTURES))
            raise ValueError(
                f"must be one of {known}; or leave it out: it is read from the config.json"
            )
        return value

    @model_validator(mode="after")
    def _gives_its_checkpoints_once(self) -> Self:
        for pattern in self.patterns:
            around = LM_STEP.sub("", pattern)
            if len(LM_STEP.findall(pattern)) != 1 or "{" in around or "}" in around:
                raise ValueError(
                    f"revision={pattern!r}: must hold {{lm_step}} once, and no other braces"
                )
            if self.lm_steps is not None and ("*" in pattern or "?" in pattern):
                raise ValueError(f"revision={pattern!r}: no wildcard where lm_steps are given")
        if self.checkpoints is not None and (self.patterns or self.lm_steps):
            raise ValueError("give either checkpoints or revision, not both")
        if self.lm_steps is not None and len(self.patterns) != 1:
            raise ValueError("lm_steps need one revision, such as step{lm_step}")
        if not self.patterns and self.checkpoints is None and self.main_lm_step is None:
            raise ValueError(
                "give revision (such as step{lm_step}) or checkpoints; or main_lm_step, if only "
                "the final weights are public"
            )
        steps = [lm_step for lm_step, *_ in self.places]
        if steps != sorted(set(steps)):
            raise ValueError("the checkpoints' lm_step must ascend, each once")
        return self

    @property
    def patterns(self) -> tuple[str, ...]:
        """Of revisions' names."""
        if self.revision is None:
            return ()
        return (self.revision,) if isinstance(self.revision, str) else self.revision

    @property
    def is_listed_by_the_hub(self) -> bool:
        """Whether only the hub, or its cache, knows the checkpoints."""
        return bool(self.patterns) and self.lm_steps is None

    @property
    def has_only_final(self) -> bool:
        """Whether no checkpoint of its training is public."""
        return not self.patterns and self.checkpoints is None

    @property
    def places(self) -> tuple[tuple[int, str, str], ...]:
        """Training step, repository and revision of each checkpoint; none where the hub lists."""
        if self.is_listed_by_the_hub:
            return ()
        listed = [
            (step, self.repo, self.patterns[0].format(lm_step=step)) for step in self._all_steps()
        ]
        listed += [
            (place.lm_step, place.repo or self.repo, place.revision)
            for place in self.checkpoints or ()
        ]
        return (*listed, *self.final_place)

    @property
    def final_place(self) -> tuple[tuple[int, str, str], ...]:
        """That of the main branch, where it is the last checkpoint."""
        return () if self.main_lm_step is None else ((self.main_lm_step, self.repo, "main"),)

    def lm_step_of(self, revision: str) -> int | None:
        """The training step in a revision's name; None for names of another form."""
        for pattern in self.patterns:
            before, _, after = LM_STEP.split(pattern)
            match = re.fullmatch(f"{_wildcards(before)}([0-9]+){_wildcards(after)}", revision)
            if match is not None:
                return int(match[1])
        return None

    def each(self) -> list[Entry]:
        """An entry for each of the variants."""
        same = {"variants": ("",), "family": self.family or self.name}
        return [
            self.model_copy(update={**same, "name": self.name + end, "repo": self.repo + end})
            for end in self.variants
        ]

    def _all_steps(self) -> list[int]:
        steps: list[int] = []
        for item in self.lm_steps or ():
            if isinstance(item, Stretch):
                steps += range(item.first, item.last + 1, item.stride)
            else:
                steps.append(item)
        return steps


class _File(_Frozen):
    definitions: dict[str, Any] = Field(default={}, description="for YAML's anchors")
    models: tuple[Entry, ...]


def load_entries(path: Path, called: str) -> list[Entry]:
    """The entries of a file; one entry may have several variants.

    Args:
        path: of YAML.
        called: names the file in errors.

    Raises:
        UserError: it cannot be read, or an entry is invalid.
    """
    try:
        content = yaml.load(path.read_text(), _Loader)  # noqa: S506  (a safe one)
        return list(_File.model_validate(content).models)
    except OSError as error:
        raise UserError(f"{called}={path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not text"
        raise UserError(f"{called}={path}: is not YAML{where} ({problem})") from None
    except ValidationError as error:
        raise UserError(f"{called}={path}: {_plain(error)}") from None


def _plain(error: ValidationError) -> str:
    if error.errors()[0]["type"] == "model_type":
        return "must begin with `models:`, a list of entries"
    return one_line(error)


def _wildcards(text: str) -> str:
    return re.escape(text or "").replace(r"\*", ".*").replace(r"\?", ".")
