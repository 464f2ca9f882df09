"""A checkpoint's files to a model: only the blocks that are needed, and only sound weights."""

from __future__ import annotations

import copy
from pathlib import Path
from pickle import UnpicklingError  # torch's name for what it refuses to run
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from saetrack.lm.weights import prefix_of_names, require_finite, require_present
from saetrack.utils.errors import UserError, first_line

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PretrainedConfig, PreTrainedModel


def load_bridge(
    folder: Path, top_layer: int | None, dtype: torch.dtype, device: torch.device, label: str
) -> TransformerBridge:
    """Load a checkpoint into TransformerLens' bridge.

    Args:
        folder: holds `config.json` and weights.
        top_layer: the block that need not run, nor any above it; None for the whole LM.
        dtype: of the weights.
        device: where to run.
        label: of the checkpoint, for messages.

    Raises:
        UserError: the architecture is unknown, there is no such block, or weights that are needed
            are missing, of another shape or not finite.
    """
    from transformer_lens.model_bridge.sources import build_bridge_from_module
    from transformers.utils import logging as transformers_logging

    # The layers above the hook are left out on purpose; their report would drown our own lines.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        model: Any = _load_truncated(folder, top_layer, dtype, label)
        model.to(device)
        # Not by `boot_transformers`: it wants a tokenizer beside the weights.
        return build_bridge_from_module(
            model,
            type(model).__name__,
            hf_config=copy.deepcopy(model.config),
            dtype=dtype,
            device=device,
        )
    except CANNOT_LOAD as error:
        raise UserError(f"model: {label} cannot be loaded: {first_line(error)}") from None


# Of transformers, TransformerLens or torch: an architecture that they do not know, one whose code
# lies in its own repository, which is never run here, nor is a pickle's; or a damaged file.
CANNOT_LOAD = (ValueError, ImportError, OSError, EOFError, SafetensorError, UnpicklingError)


def _load_truncated(
    folder: Path, top_layer: int | None, dtype: torch.dtype, label: str
) -> PreTrainedModel:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    # The others are refused by some architectures, or have ignored Stanford's attention scale.
    config._attn_implementation = "eager"  # noqa: SLF001  (its only way in)
    if top_layer is not None:
        n_blocks = config.num_hidden_layers
        if top_layer >= n_blocks:
            raise UserError(f"model: {label} has layers 0 to {n_blocks - 1}, and no {top_layer}")
        # TransformerLens stops in front of a block, so that one must exist.
        config.num_hidden_layers = top_layer + 1
    model, loading = _from_pretrained(folder, config, dtype)
    if prefix := prefix_of_names(model, loading):
        # As torch.compile and DistributedDataParallel wrap a model before it is saved.
        model, loading = _from_pretrained(folder, config, dtype, {f"^{prefix}": ""})
    require_present(model, loading, label, needs_head=top_layer is None)
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
