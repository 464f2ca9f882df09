"""Whether a track can be made: its text exists, and its LM suits it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saetrack.chain.schedule import Adaptive, describe
from saetrack.data.datasets import require_dataset
from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints.folder_layout import find_lm
from saetrack.lm.hook import KINDS
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from saetrack.chain.config import TrackConfig


def find_suitable_lm(config: TrackConfig) -> ModelSpec:
    """The LM of a track, after everything was checked that needs neither a hub nor work.

    Raises:
        UserError: there is no such text or LM, or the LM does not suit the config.
    """
    require_dataset(config.corpus)
    spec = find_lm(config.model)
    require_compatible(config, spec)
    return spec


def require_compatible(config: TrackConfig, spec: ModelSpec) -> None:
    """Check hooks, residual, context and schedule against what is known of an LM so far.

    Raises:
        UserError: the LM has no such layer, hook, context or checkpoint, its residuals must not be
            centred, or it cannot be loaded at all.
    """
    if spec.folder is not None and not spec.lm_steps:
        return  # its training run has written nothing yet
    if spec.entry is not None and spec.entry.remote_code:
        raise UserError(
            f"model={config.model!r}: loads only with code of its repository, which is never run "
            "here; checkpoints converted to an architecture of transformers can be followed from "
            "a folder"
        )
    _require_hooks(config, spec)
    if config.residual == "centred" and spec.norm == "rms":
        raise UserError(
            f"residual='centred': {config.model} has RMSNorm, which reads the mean that centring "
            "takes away; set residual=raw"
        )
    if 0 < spec.max_context < config.corpus.context_size:
        raise UserError(
            f"corpus.context_size={config.corpus.context_size}: {config.model} takes at most "
            f"{spec.max_context}"
        )
    _require_checkpoints(config, spec)


def _require_hooks(config: TrackConfig, spec: ModelSpec) -> None:
    if not spec.n_layers:
        return
    for hook in config.all_hooks:
        if hook.layer >= spec.n_layers:
            raise UserError(
                f"{config.hooks_text}: {config.model} has layers 0 to {spec.n_layers - 1}"
            )
        if hook.kind == "resid_mid" and not spec.has_resid_mid:
            allowed = ", ".join(kind for kind in KINDS if kind != "resid_mid")
            raise UserError(
                f"hooks=[{hook}]: {config.model} has no residual stream between attention and MLP; "
                f"it has {allowed}"
            )


def _require_checkpoints(config: TrackConfig, spec: ModelSpec) -> None:
    schedule = config.schedule
    if isinstance(schedule, Adaptive) and spec.lm_steps:
        n_candidates = len(schedule.candidates(len(spec.lm_steps)))
        if n_candidates < schedule.adaptive:
            raise UserError(
                f"schedule.adaptive={schedule.adaptive}: {config.model} has {n_candidates} "
                f"checkpoints to choose from at stride={schedule.stride}"
            )
    pieces = config.pieces
    is_beyond_first = not pieces or any(piece.first or piece.last for piece in pieces)
    if spec.entry is not None and spec.entry.has_only_final and is_beyond_first:
        raise UserError(
            f"schedule: {config.model} has no public training checkpoints, only its final weights, "
            "checkpoint 0: a schedule of that one trains a conventional SAE; or name a folder of "
            "your own checkpoints as the model"
        )
    if not spec.is_listed:  # checked once the hub has listed them
        if pieces and pieces[-1].last is None:
            raise UserError(
                f"schedule: last=null: only the hub knows {config.model}'s last checkpoint; name "
                f"one (`saetrack families {config.model}` lists them)"
            )
    elif spec.folder is None and (absent := absent_checkpoints(config, spec)):
        raise UserError(f"schedule: {absent}{_hint_at_newer_checkpoints(spec)}")


def absent_checkpoints(config: TrackConfig, spec: ModelSpec) -> str:
    """What a schedule names and an LM does not have, in a sentence; empty if it has all."""
    absent = [at for piece in config.pieces for at in piece.absent(spec.lm_steps)]
    if not absent:
        return ""
    counts_steps = config.pieces[0].every is not None
    unit = "LM step" if counts_steps else "checkpoint"
    more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
    hint = ""
    if not counts_steps and set(absent) & set(spec.lm_steps):
        hint = "; to count by LM step, write `every: N` in place of stride"
    has = describe(spec.lm_steps)
    return f"{config.model} has no {unit} {absent[0]}{more}; it has {has}{hint}"


def _hint_at_newer_checkpoints(spec: ModelSpec) -> str:
    if spec.entry is None or not spec.entry.is_listed_by_the_hub:
        return ""
    return f" (`saetrack families {spec.name}` asks the hub for newer ones)"
