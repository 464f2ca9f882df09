"""Whether what was loaded is sound: all weights there and finite, and so what they compute."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from saetrack.utils.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformers import PreTrainedModel

    from saetrack.lm.hook import Hook

WAY_ON = (
    "replace the checkpoint, delete it from its folder, or leave it out of the schedule; then run "
    "again"
)


def require_finite(model: PreTrainedModel, label: str) -> None:
    """Refuse weights with a NaN or an infinity; every SAE trained on them would be worthless.

    Args:
        model: with its weights loaded, in the precision that it will run in.
        label: of the checkpoint.

    Raises:
        UserError: names the first such tensor.
    """
    broken = [(name, weight) for name, weight in model.named_parameters() if not _is_finite(weight)]
    if broken:
        name, weight = broken[0]
        count = int((~torch.isfinite(weight)).sum())
        more = f", and {len(broken) - 1} more tensors hold such" if len(broken) > 1 else ""
        raise UserError(
            f"model: {label}: {count:,} of {weight.numel():,} values of {name} are not finite (NaN "
            f"or infinity{more}); nothing is trained on it: {WAY_ON}"
        )


def _is_finite(weight: Tensor) -> bool:
    """Whether all values are finite; reads them once and needs no memory.

    A NaN or an infinity makes the sum one too. So may large values, and only then each is looked
    at.
    """
    total = weight.detach().sum(dtype=torch.float32)
    return bool(torch.isfinite(total)) or bool(torch.isfinite(weight).all())


def require_finite_activations(
    x: Float[Tensor, "hooks rows context d_in"], hooks: Sequence[Hook], label: str
) -> None:
    """Refuse activations with a NaN or an infinity, as sound weights give when they overflow.

    Raises:
        UserError: names the first such hook.
    """
    for hook, one in zip(hooks, x, strict=True):
        if not _is_finite(one):
            raise UserError(
                f"model: {label}: the activations at {hook} are not finite (NaN or infinity) on "
                "this text; nothing is trained on them: set lm_precision=float32, or leave the "
                "checkpoint out of the schedule"
            )


def require_varied_activations(x: Float[Tensor, "tokens d_in"], hook: Hook, label: str) -> None:
    """Refuse activations that are all equal, as an embedding of zeros gives: they say nothing.

    Raises:
        UserError: they are.
    """
    if torch.equal(x, x[:1].expand_as(x)):
        raise UserError(
            f"model: {label}: the activations at {hook} are the same at all tokens (its "
            "embedding may be all zero), so no SAE can be trained on it; leave the checkpoint out "
            "of the schedule"
        )


def require_in_vocabulary(
    tokens: Int[Tensor, "rows context"], model: PreTrainedModel, label: str
) -> None:
    """Refuse tokens that the embedding has no row for.

    Raises:
        UserError: names the highest such token.
    """
    n_rows = next(model.get_input_embeddings().parameters()).shape[0]
    if (highest := int(tokens.max())) >= n_rows:
        raise UserError(
            f"model: {label}: the text has the token {highest}, and the embedding only {n_rows} "
            "rows; save the tokenizer that the LM was trained with beside it"
        )


def require_present(
    model: PreTrainedModel, loading: dict[str, Any], label: str, *, needs_head: bool
) -> None:
    """Refuse weights that the files lack: transformers would go on with random ones.

    Args:
        model: with its weights loaded.
        loading: transformers' report on it.
        label: of the checkpoint.
        needs_head: whether logits will be asked for.

    Raises:
        UserError: names the first such tensor.
    """
    shapes = {key: tuple(shape) for key, shape, _ in loading["mismatched_keys"]}
    broken = {*loading["missing_keys"], *shapes}
    if not needs_head:
        broken -= _names_of_head(model)
    if not broken:
        return
    first = min(broken)
    line = f"model: {label} lacks usable weights for {len(broken)} tensors, first {first}"
    if first in shapes:
        line += f", which has shape {shapes[first]} in its files"
    if (0,) in shapes.values():
        line += (
            "; such empty ones are all that DeepSpeed's ZeRO-3 leaves to save_pretrained: gather "
            "them (zero_to_fp32.py, or stage3_gather_16bit_weights_on_model_save)"
        )
    raise UserError(line)


def _names_of_head(model: PreTrainedModel) -> set[str]:
    head = model.get_output_embeddings()
    of_head = {id(weight) for weight in head.parameters()} if head is not None else set()
    named = model.named_parameters(remove_duplicate=False)
    return {name for name, weight in named if id(weight) in of_head}


def prefix_of_names(model: PreTrainedModel, loading: dict[str, Any]) -> str | None:
    """What stands before the name of every weight in the files, as a pattern, if anything does.

    Wrappers of a model add one to the names in its state: `_orig_mod.`, `module.`, `model.`.

    Args:
        model: as transformers has loaded it.
        loading: transformers' report: weights that it missed, and such as it had no use for.

    Returns:
        None where some weight was found without a prefix, or where several prefixes would fit: the
        files may then hold two models.
    """
    missing = set(loading["missing_keys"])
    if any(name not in missing for name, _ in model.named_parameters()):
        return None
    prefixes = {
        key.removesuffix(name)
        for name in missing
        for key in loading["unexpected_keys"]
        if key.endswith(f".{name}")
    }
    return re.escape(prefixes.pop()) if len(prefixes) == 1 else None
