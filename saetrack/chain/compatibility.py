"""Whether a track can be made of an LM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saetrack.lm.catalog.models import ModelSpec
from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from saetrack.chain.config import TrackConfig


def require_compatible(config: TrackConfig, spec: ModelSpec) -> None:
    """Check layers, convention, context and schedule against what is known of an LM by now.

    Raises:
        UserError: the LM has no such layer, context or checkpoint, does not go with the
            convention, or cannot be loaded at all.
    """
    if spec.folder is not None and not spec.lm_steps:
        return  # nothing is known of it yet
    if spec.entry is not None and spec.entry.remote_code:
        raise UserError(
            f"model={config.model!r}: loads only with code of its repository, which is never run "
            "here; checkpoints converted to an architecture of transformers can be followed from "
            "a folder"
        )
    _require_layers(config, spec)
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


def _require_layers(config: TrackConfig, spec: ModelSpec) -> None:
    for layer in config.layers if spec.n_layers else ():
        if layer >= spec.n_layers:
            raise UserError(
                f"layers={list(config.layers)}: {config.model} has layers 0 to {spec.n_layers - 1}"
            )


def _require_checkpoints(config: TrackConfig, spec: ModelSpec) -> None:
    last = max(max(piece.first, piece.last or 0) for piece in config.schedule)
    if spec.entry is not None and spec.entry.has_only_final and last > 0:
        raise UserError(
            f"schedule: {config.model} has no public training checkpoints, only its final weights, "
            "checkpoint 0: a schedule of that one trains a conventional SAE; or name a folder of "
            "your own checkpoints as the model"
        )
    if not spec.is_listed:  # looked at again with the list
        if config.schedule[-1].last is None:
            raise UserError(
                f"schedule: last=null: only the hub knows {config.model}'s last checkpoint; name "
                f"one (`saetrack families {config.model}` lists them)"
            )
    elif last >= len(spec.lm_steps) and spec.folder is None:
        raise UserError(
            f"schedule: checkpoint {last} is beyond {config.model}'s last, "
            f"{len(spec.lm_steps) - 1}{_where_more_may_be(spec)}"
        )


def _where_more_may_be(spec: ModelSpec) -> str:
    if spec.entry is None or not spec.entry.is_listed_by_the_hub:
        return ""
    return f" (`saetrack families {spec.name}` asks the hub for newer ones)"
