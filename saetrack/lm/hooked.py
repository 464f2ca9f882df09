"""One checkpoint of an LM: run exactly up to the hooks, or whole with a residual replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from saetrack.lm.loading import load_bridge
from saetrack.lm.weights import require_finite_residuals, require_in_vocabulary
from saetrack.utils.errors import UserError
from saetrack.utils.timing import part

if TYPE_CHECKING:
    from jaxtyping import Float, Int

ResidualKind = Literal["centred", "raw"]
LMPrecision = Literal["float32", "bfloat16"]
Replace = Callable[[Tensor], Tensor]

# Rows of tokens that pass through the LM at a time.
LM_BATCH_ROWS = 32

# As TransformerLens calls what lies below the first block; BLOOM has a norm there.
EMBEDDING_PARTS = ("embed", "pos_embed", "embed_ln")


class HookedLM:
    """Gives `blocks.{layer}.hook_resid_pre` of one or more layers from one pass.

    It runs the blocks below the highest layer and no more. The paper reads residuals of a model
    whose writing weights are centred (TransformerLens' default processing): for architectures with
    LayerNorm that is the raw residual less its mean over `d_in`, so it is computed so, without
    rewriting any weights. An RMSNorm reads the mean, so there only `raw` makes sense. BLOOM's
    processed weights differ, since it has a norm above its embedding; its mean is without meaning
    to the LM all the same.
    """

    def __init__(
        self,
        folder: Path,
        layers: Sequence[int],
        *,
        residual: ResidualKind = "centred",
        precision: LMPrecision = "float32",
        device: torch.device | str = "cpu",
        whole: bool = False,
        label: str | None = None,
    ) -> None:
        """Load a checkpoint.

        Args:
            folder: holds `config.json` and weights.
            layers: of the hooks, ascending; 0 is the embedding.
            residual: `centred` as published, `raw` as `transformers` gives it.
            precision: of weights and arithmetic; residuals are given in float32.
            device: where to run.
            whole: load the blocks above the hooks too, which `spliced_loss` needs.
            label: of the checkpoint, for messages; by default the folder's name.

        Raises:
            UserError: weights of the needed layers are missing from the files, of another shape or
                not finite; the architecture is unknown, or needs another `residual`.
        """
        self.layers = tuple(layers)
        self.device = torch.device(device)
        self._residual = residual
        top_layer = None if whole else self.layers[-1]
        self._label = label or folder.name
        dtype = getattr(torch, precision)
        self._bridge = load_bridge(folder, top_layer, dtype, self.device, self._label)
        if residual == "centred" and self._bridge.cfg.normalization_type == "RMS":
            raise UserError(
                "residual='centred': this LM has RMSNorm, which reads the mean that centring "
                "takes away; set residual=raw"
            )

    @property
    def d_in(self) -> int:
        """Width of the residual stream."""
        return int(self._bridge.cfg.d_model)

    def token_embeddings(self) -> Float[Tensor, "vocabulary width"]:
        """The input embedding, float32; a vocabulary may be padded beyond its tokens."""
        weight: Tensor = self._bridge.original_model.get_input_embeddings().weight
        return weight.detach().float()

    def weights_below(self) -> dict[str, Tensor]:
        """All that the residual at the highest layer depends on, float32, on the CPU."""
        names = [name for name in EMBEDDING_PARTS if hasattr(self._bridge, name)]
        parts = {name: getattr(self._bridge, name) for name in names}
        parts |= {str(n): block for n, block in enumerate(self._bridge.blocks[: self.layers[-1]])}
        weights = {
            f"{part_name}.{name}": weight.detach().float().cpu()
            for part_name, module in parts.items()
            for name, weight in module.named_parameters()
        }
        # Where an LM has joint weights for queries, keys and values, the bridge adds split copies.
        joint = {name.partition(".qkv.")[0] for name in weights if ".qkv." in name}
        copies = tuple(f"{attention}.{split}." for attention in joint for split in "qkv")
        return {name: weight for name, weight in weights.items() if not name.startswith(copies)}

    @torch.no_grad()
    @part("LM")
    def resid_pre(
        self, tokens: Int[Tensor, "rows context"]
    ) -> Float[Tensor, "layers rows context d_in"]:
        """The residual stream that enters each of the layers, float32, on this LM's device.

        Raises:
            UserError: a token is beyond the vocabulary, or a residual is not finite.
        """
        require_in_vocabulary(tokens, self._bridge.original_model, self._label)
        caught: dict[int, Tensor] = {}

        def catch(layer: int, resid: Tensor, hook: Any) -> None:  # noqa: ARG001
            caught[layer] = resid

        *below, top = self.layers
        caught[top] = self._bridge.run_with_hooks(
            tokens.to(self.device),
            stop_at_layer=top,
            fwd_hooks=[(hook_name(layer), partial(catch, layer)) for layer in below],
            use_cache=False,  # of keys and values, which only generation needs
        )
        resid = torch.stack([caught[layer].float() for layer in self.layers])
        if self._residual == "centred":
            resid = resid - resid.mean(dim=-1, keepdim=True)
        require_finite_residuals(resid, self.layers, self._label)
        return resid

    @torch.no_grad()
    @part("LM")
    def spliced_loss(
        self, tokens: Int[Tensor, "rows context"], layer: int, replace: Replace | None
    ) -> float:
        """Mean next-token cross-entropy (nats) with the residual at `layer` replaced.

        Args:
            tokens: rows.
            layer: of the hook.
            replace: maps residuals (rows, context, d_in), centred or raw as this LM gives them, to
                those that replace them; None leaves the LM as it is. The mean that centring takes
                away is added again.
        """

        def splice(resid: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
            assert replace is not None
            x = resid.float()
            mean = x.mean(dim=-1, keepdim=True) if self._residual == "centred" else 0.0
            return (replace(x - mean) + mean).to(resid.dtype)

        tokens = tokens.to(self.device)
        hooks = [] if replace is None else [(hook_name(layer), splice)]
        logits = self._bridge.run_with_hooks(tokens, fwd_hooks=hooks, use_cache=False)
        return float(cross_entropy(logits[:, :-1].float().flatten(0, 1), tokens[:, 1:].flatten()))


def hook_name(layer: int) -> str:
    """TransformerLens' name of the residual stream that enters a block."""
    return f"blocks.{layer}.hook_resid_pre"
