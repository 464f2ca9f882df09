"""One checkpoint of an LM in training, written so that a track can follow: whole, or not at all."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "checkpoint-{lm_step}"


def save_checkpoint(
    model: PreTrainedModel | torch.nn.Module,
    tokenizer: Any,
    folder: str | Path,
    lm_step: int,
    *,
    dtype: torch.dtype | None = None,
) -> Path:
    """Save config, weights and tokenizer as `folder/checkpoint-N`; no optimiser, no random state.

    The checkpoint appears under its name when it is complete, in place of one that had the name.

    Args:
        model: of `transformers`; also compiled (`torch.compile`) or wrapped (`DataParallel`,
            `DistributedDataParallel`).
        tokenizer: of the LM, saved with every checkpoint; None if the folder itself holds one.
        folder: that the track names as its `model`.
        lm_step: how many training steps the LM has had.
        dtype: of the saved weights; None: as they are. `torch.bfloat16` halves a float32 LM, and
            the SAEs are then trained on the rounded weights.

    Returns:
        The checkpoint's folder.

    Raises:
        TypeError: the model has no `save_pretrained`.

    Example:
        >>> for lm_step in range(0, 1001):  # doctest: +SKIP
        ...     if lm_step % 100 == 0:
        ...         save_checkpoint(model, tokenizer, "my-lm", lm_step)
        ...     train_one_step(model)
    """
    inner = unwrapped(model)
    path = Path(folder) / NAME.format(lm_step=lm_step)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the checkpoints, so that a rename is atomic; hidden, so that no track looks at it.
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=path.parent) as hidden:
        unfinished = Path(hidden) / path.name
        inner.save_pretrained(unfinished, state_dict=_weights(inner, dtype))
        if tokenizer is not None:
            tokenizer.save_pretrained(unfinished)
        if path.exists():
            path.rename(Path(hidden) / "replaced")
        unfinished.rename(path)
    return path


def unwrapped(model: Any) -> Any:
    """The LM itself, without what `torch.compile` and data parallelism put around it.

    Raises:
        TypeError: it has no `save_pretrained`.
    """
    while (inner := getattr(model, "_orig_mod", getattr(model, "module", None))) is not None:
        model = inner
    if not hasattr(model, "save_pretrained"):
        raise TypeError(
            f"model={type(model).__name__}: must be a model of transformers (save_pretrained)"
        )
    return model


def _weights(model: Any, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """The weights by their names; floating ones in `dtype`. Tied weights stay one tensor."""
    weights = model.state_dict()
    converted: dict[tuple[int, torch.Size], torch.Tensor] = {}
    for tensor in weights.values():
        is_kept = dtype is None or not tensor.is_floating_point()
        key = (tensor.data_ptr(), tensor.shape)
        converted.setdefault(key, tensor if is_kept else tensor.to(dtype))
    return {name: converted[tensor.data_ptr(), tensor.shape] for name, tensor in weights.items()}
