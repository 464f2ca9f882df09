"""A checkpoint's files to a model: only the blocks that are needed, and only sound weights."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from pickle import UnpicklingError  # torch's name for what it refuses to run
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from saetrack.lm import stream
from saetrack.lm.bridged import BridgedLM
from saetrack.lm.catalog.architectures import ARCHITECTURES
from saetrack.lm.stream import StreamLM
from saetrack.lm.weight_types import require_unquantised
from saetrack.lm.weights import prefix_of_names, require_finite, require_present
from saetrack.utils.errors import UserError, first_line

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def load_lm(
    folder: Path,
    top_layer: int | None,
    kinds: Collection[str],
    dtype: torch.dtype,
    device: torch.device,
    label: str,
) -> StreamLM | BridgedLM:
    """Load a checkpoint.

    Args:
        folder: holds `config.json` and weights.
        top_layer: the block that need not run, nor any above it; None for the whole LM.
        kinds: of the hooks that are to be read.
        dtype: of the weights.
        device: where to run.
        label: of the checkpoint, for messages.

    Raises:
        UserError: the architecture is unknown, there is no such block, or weights that are needed
            are missing, of another shape or not finite.
    """
    from transformers import AutoConfig
    from transformers.utils import logging as transformers_logging

    # The layers above the hook are left out on purpose; their report would drown our own lines.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        architecture = ARCHITECTURES.get(config.model_type)
        if not set(kinds) <= set(stream.KINDS):
            architecture = None
        fast = architecture is not None and architecture.sdpa and not _has_own_scale(config)
        # The others are refused by some architectures. TransformerLens' hooks need eager attention.
        config._attn_implementation = "sdpa" if fast else "eager"  # noqa: SLF001  (its only way in)
        model: Any = _load_truncated(folder, config, top_layer, dtype, label)
        model.to(device)
        if architecture is not None:
            is_rms = architecture.norm == "rms"
            return StreamLM(model, architecture.blocks, architecture.final_norm, is_rms=is_rms)
        return BridgedLM(model)
    except CANNOT_LOAD as error:
        raise UserError(f"model: {label} cannot be loaded: {first_line(error)}") from None


def _has_own_scale(config: PretrainedConfig) -> bool:
    """Whether scores are scaled by the layer, as in Stanford's GPT-2, which sdpa has ignored."""
    return bool(
        getattr(config, "scale_attn_by_inverse_layer_idx", False)
        or getattr(config, "reorder_and_upcast_attn", False)
    )


# Of transformers, TransformerLens or torch: an architecture that they do not know, one whose code
# lies in its own repository, which is never run here, nor is a pickle's; or a damaged file.
CANNOT_LOAD = (ValueError, ImportError, OSError, EOFError, SafetensorError, UnpicklingError)


def _load_truncated(
    folder: Path,
    config: PretrainedConfig,
    top_layer: int | None,
    dtype: torch.dtype,
    label: str,
) -> PreTrainedModel:
    if top_layer is not None:
        n_blocks = config.num_hidden_layers
        if top_layer >= n_blocks:
            raise UserError(f"model: {label} has layers 0 to {n_blocks - 1}, and no {top_layer}")
        # A pass stops in front of a block, so that one must exist.
        config.num_hidden_layers = top_layer + 1
    model, loading = _from_pretrained(folder, config, dtype)
    if prefix := prefix_of_names(model, loading):
        # As torch.compile and DistributedDataParallel wrap a model before it is saved.
        model, loading = _from_pretrained(folder, config, dtype, {f"^{prefix}": ""})
    require_present(model, loading, label, needs_head=top_layer is None)
    if getattr(config, "quantization_config", None) is None:
        require_unquantised(model, folder, label)
    require_finite(model, label)
    model.eval()
    return model


def _from_pretrained(
    folder: Path,
    config: PretrainedConfig,
    dtype: torch.dtype,
    key_mapping: dict[str, str] | None = None,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            key_mapping=key_mapping,
            ignore_mismatched_sizes=True,  # they are refused by name
            output_loading_info=True,
            trust_remote_code=False,
        )
    except RuntimeError as error:  # torch's for a file of pickled weights that is damaged
        raise OSError(str(error)) from None
    return loaded[0], loaded[1]
