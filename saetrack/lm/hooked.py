"""One checkpoint of an LM: run exactly up to the hooks, or whole with an activation replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from saetrack.lm.catalog.architectures import has_resid_mid
from saetrack.lm.hook import KINDS, Hook
from saetrack.lm.loading import load_bridge
from saetrack.lm.weights import require_finite_activations, require_in_vocabulary
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
    """Gives the activations at one or more hooks from one pass.

    It runs until the last hook is reached and no further. The paper reads residuals of a model
    whose writing weights are centred (TransformerLens' default processing): for architectures with
    LayerNorm that is the raw residual less its mean over `d_in`, so it is computed so, without
    rewriting any weights; likewise what attention and MLP write to the residual stream. An RMSNorm
    reads the mean, so there only `raw` makes sense. BLOOM's processed weights differ, since it has
    a norm above its embedding; its mean is without meaning to the LM all the same.

    `attn_out` and `mlp_out` are what is added to the residual stream, as TransformerLens has it:
    where a norm stands between attention or MLP and the stream (Gemma 2, OLMo 2), they are behind
    that norm.
    """

    def __init__(
        self,
        folder: Path,
        hooks: Sequence[Hook],
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
            hooks: different ones; `Hook("resid_pre", 0)` is the embedding.
            residual: `centred` as published, `raw` as `transformers` gives it.
            precision: of weights and arithmetic; activations are given in float32.
            device: where to run.
            whole: load the blocks above the hooks too, which `spliced_loss` needs.
            label: of the checkpoint, for messages; by default the folder's name.

        Raises:
            UserError: weights of the needed blocks are missing from the files, of another shape or
                not finite; the architecture is unknown, lacks a hook, or needs another `residual`.
        """
        self.hooks = tuple(hooks)
        self.device = torch.device(device)
        self._residual = residual
        self._label = label or folder.name
        top_layer = None if whole else max(hook.layer for hook in self.hooks)
        dtype = getattr(torch, precision)
        self._bridge = load_bridge(folder, top_layer, dtype, self.device, self._label)
        self._require_hooks()
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
        """The embedding and every block that runs for the hooks, float32, on the CPU."""
        names = [name for name in EMBEDDING_PARTS if hasattr(self._bridge, name)]
        parts = {name: getattr(self._bridge, name) for name in names}
        n_blocks = max(hook.n_blocks for hook in self.hooks)
        parts |= {str(n): block for n, block in enumerate(self._bridge.blocks[:n_blocks])}
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
    def activations(
        self, tokens: Int[Tensor, "rows context"]
    ) -> Float[Tensor, "hooks rows context d_in"]:
        """The activations at each of the hooks, float32, on this LM's device.

        Raises:
            UserError: a token is beyond the vocabulary, or an activation is not finite.
        """
        from transformer_lens.model_bridge.exceptions import StopAtLayerException

        require_in_vocabulary(tokens, self._bridge.original_model, self._label)

        found = torch.empty(len(self.hooks), *tokens.shape, self.d_in, device=self.device)
        missing = set(range(len(self.hooks)))

        def catch(index: int, x: Tensor, hook: Any) -> None:  # noqa: ARG001
            found[index] = x
            missing.discard(index)
            if not missing:
                raise StopAtLayerException(x)  # TransformerLens' own way to end a pass

        self._bridge.run_with_hooks(
            tokens.to(self.device),
            fwd_hooks=[(hook.name, partial(catch, n)) for n, hook in enumerate(self.hooks)],
            use_cache=False,  # of keys and values, which only generation needs
        )
        assert not missing, "a hook was never reached"
        if self._residual == "centred":
            found = found - found.mean(dim=-1, keepdim=True)
        require_finite_activations(found, self.hooks, self._label)
        return found

    @torch.no_grad()
    @part("LM")
    def spliced_loss(
        self, tokens: Int[Tensor, "rows context"], hook: Hook, replace: Replace | None
    ) -> float:
        """Mean next-token cross-entropy (nats) with the activations at a hook replaced.

        Args:
            tokens: rows.
            hook: any one, whether it is among `hooks` or not.
            replace: maps activations (rows, context, d_in), centred or raw as this LM gives them,
                to those that replace them; None leaves the LM as it is. The mean that centring
                takes away is added again.
        """
        tokens = tokens.to(self.device)
        hooks = [] if replace is None else self._splice(hook, replace)
        logits = self._bridge.run_with_hooks(tokens, fwd_hooks=hooks, use_cache=False)
        return float(cross_entropy(logits[:, :-1].float().flatten(0, 1), tokens[:, 1:].flatten()))

    def _splice(self, where: Hook, replace: Replace) -> list[tuple[str, Callable[..., Any]]]:
        """TransformerLens' hooks that replace activations for all that read them."""
        kept: dict[str, Tensor] = {}

        def splice(activations: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
            x = activations.float()
            mean = x.mean(dim=-1, keepdim=True) if self._residual == "centred" else 0.0
            kept["resid_mid"] = (replace(x - mean) + mean).to(activations.dtype)
            return kept["resid_mid"]

        def keep(mlp_out: Tensor, hook: Any) -> None:  # noqa: ARG001
            kept["mlp_out"] = mlp_out

        def add_again(resid_post: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
            return kept["resid_mid"] + kept["mlp_out"]

        if where.kind != "resid_mid":
            return [(where.name, splice)]
        # TransformerLens' bridge replaces only what the MLP reads; the stream goes past it.
        mlp_out, resid_post = Hook("mlp_out", where.layer), Hook("resid_post", where.layer)
        return [(where.name, splice), (mlp_out.name, keep), (resid_post.name, add_again)]

    def _require_hooks(self) -> None:
        """Refuse a hook that this LM does not have.

        The check of a config (`saetrack.chain.compatibility`) knows fewer architectures.
        """
        known = self._bridge.hook_dict
        has_mid = has_resid_mid(self._bridge.original_model.config.to_dict())
        for hook in self.hooks:
            of_layer = [Hook(kind, hook.layer) for kind in KINDS if has_mid or kind != "resid_mid"]
            allowed = [one for one in of_layer if one.name in known]
            if hook not in allowed:
                raise UserError(
                    f"hooks={hook}: this LM has no such hook; it has {', '.join(map(str, allowed))}"
                )
