"""One checkpoint of an LM, run exactly up to the hook."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from saetrack.errors import UserError
from saetrack.lm import hub as _hub  # noqa: F401  (sets what transformers reads when imported)

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedModel

Convention = Literal["centred", "raw"]
LMPrecision = Literal["float32", "bfloat16"]


class ResidualLM:
    """Gives `blocks.{layer}.hook_resid_pre`, running the `layer` blocks below it and no more.

    The paper reads residuals of a model whose writing weights are centred (TransformerLens'
    default processing): for the LayerNorm architectures of the catalogue that is the raw residual
    less its mean over `d_in`, so it is computed so, without rewriting any weights.
    """

    def __init__(
        self,
        folder: Path,
        layer: int,
        *,
        convention: Convention = "centred",
        precision: LMPrecision = "float32",
        device: torch.device | str = "cpu",
    ) -> None:
        """Load a checkpoint.

        Args:
            folder: a snapshot with `config.json` and weights.
            layer: of the hook; 0 is the embedding.
            convention: `centred` as published, `raw` as `transformers` gives it.
            precision: of weights and arithmetic; residuals are given in float32.
            device: where to run.

        Raises:
            UserError: weights of the needed layers are missing from the files, or of another shape.
        """
        self.layer = layer
        self._convention = convention
        self._device = torch.device(device)
        self._bridge = _load_bridge(folder, layer, getattr(torch, precision), self._device)

    @torch.no_grad()
    def resid_pre(self, tokens: Int[Tensor, "rows context"]) -> Float[Tensor, "rows context d_in"]:
        """The residual stream that enters block `layer`, float32, on this LM's device."""
        resid: Tensor = self._bridge(tokens.to(self._device), stop_at_layer=self.layer)
        resid = resid.float()
        if self._convention == "centred":
            resid = resid - resid.mean(dim=-1, keepdim=True)
        return resid


def _load_bridge(
    folder: Path, layer: int, dtype: torch.dtype, device: torch.device
) -> TransformerBridge:
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import AutoConfig
    from transformers.utils import logging as transformers_logging

    # The layers above the hook are left out on purpose; their report would drown our own lines.
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    config = AutoConfig.from_pretrained(folder)
    # TransformerLens stops in front of a block, so that one must exist.
    n_blocks = min(layer + 1, config.num_hidden_layers)
    model = _load_truncated(folder, n_blocks, dtype)
    return TransformerBridge.boot_transformers(
        str(folder), hf_model=model, tokenizer=None, device=str(device), dtype=dtype
    )


def _load_truncated(folder: Path, n_blocks: int, dtype: torch.dtype) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        num_hidden_layers=n_blocks,
        dtype=dtype,
        # The others are refused by some architectures, or have ignored Stanford's attention scale.
        attn_implementation="eager",
        output_loading_info=True,
    )
    model: PreTrainedModel = loaded[0]
    loading = loaded[1]
    broken = [*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])]
    if broken:
        # transformers would go on with random weights in their place.
        raise UserError(
            f"model: {folder.name} lacks usable weights for {len(broken)} tensors, "
            f"first {min(broken)}"
        )
    model.eval()
    return model
