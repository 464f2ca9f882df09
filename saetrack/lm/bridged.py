"""An LM behind TransformerLens' bridge, whose hooks reach into a block."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from saetrack.lm.catalog.architectures import has_resid_mid
from saetrack.lm.hook import KINDS, Hook

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# As TransformerLens calls what lies below the first block; BLOOM has a norm there.
EMBEDDING_PARTS = ("embed", "pos_embed", "embed_ln")


class BridgedLM:
    """An LM with hooks of any kind, or of an architecture that the catalogue does not have.

    Attributes:
        model: of transformers.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Put a bridge around a model.

        Raises:
            ValueError: TransformerLens does not know the architecture.
        """
        from transformer_lens.model_bridge.sources import build_bridge_from_module

        self.model = model
        # Not by `boot_transformers`: it wants a tokenizer beside the weights.
        self._bridge = build_bridge_from_module(
            model,
            type(model).__name__,
            hf_config=copy.deepcopy(model.config),
            dtype=model.dtype,
            device=model.device,
        )

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """Its blocks, from the embedding upward, as transformers has them."""
        return [block.original_component for block in self._bridge.blocks]

    @property
    def d_in(self) -> int:
        """Width of the residual stream."""
        return int(self._bridge.cfg.d_model)

    @property
    def is_rms(self) -> bool:
        """Whether its norms are RMSNorms."""
        return bool(self._bridge.cfg.normalization_type == "RMS")

    @property
    def final_norm(self) -> nn.Module | None:
        """The norm between the last block and the unembedding; None where there is none."""
        norm: nn.Module | None = getattr(self._bridge, "ln_final", None)
        return norm

    def known_hooks(self, layer: int) -> list[Hook]:
        """What can be read of a block."""
        has_mid = has_resid_mid(self.model.config.to_dict())
        of_layer = [Hook(kind, layer) for kind in KINDS if has_mid or kind != "resid_mid"]
        return [hook for hook in of_layer if hook.name in self._bridge.hook_dict]

    def run(self, tokens: Tensor, catch: dict[Hook, Callable[[Tensor], None]]) -> None:
        """Run up to the last of some hooks, and give each its activations."""
        from transformer_lens.model_bridge.exceptions import StopAtLayerException

        missing = set(catch)

        def read(where: Hook, activations: Tensor, hook: Any) -> None:  # noqa: ARG001
            catch[where](activations)
            missing.discard(where)
            if not missing:
                raise StopAtLayerException(activations)  # TransformerLens' own way to end a pass

        self._bridge.run_with_hooks(
            tokens,
            fwd_hooks=[(hook.name, partial(read, hook)) for hook in catch],
            use_cache=False,  # of keys and values, which only generation needs
        )
        assert not missing, "a hook was never reached"

    def logits(
        self,
        tokens: Tensor,
        hook: Hook | None,
        change: Callable[[Tensor], Tensor] | None,
        raw: Tensor | None = None,  # noqa: ARG002  (the bridge runs whole)
    ) -> Tensor:
        """The logits, with the activations at a hook changed."""
        hooks = [] if hook is None or change is None else _replacing(hook, change)
        logits: Tensor = self._bridge.run_with_hooks(tokens, fwd_hooks=hooks, use_cache=False)
        return logits

    def weights_below(self, n_blocks: int) -> dict[str, Tensor]:
        """The weights of the embeddings and of the first blocks, by the bridge's names."""
        names = [name for name in EMBEDDING_PARTS if hasattr(self._bridge, name)]
        parts = {name: getattr(self._bridge, name) for name in names}
        parts |= {str(n): block for n, block in enumerate(self._bridge.blocks[:n_blocks])}
        weights = {
            f"{part_name}.{name}": weight
            for part_name, module in parts.items()
            for name, weight in module.named_parameters()
        }
        # Where an LM has joint weights for queries, keys and values, the bridge adds split copies.
        joint = {name.partition(".qkv.")[0] for name in weights if ".qkv." in name}
        copies = tuple(f"{attention}.{split}." for attention in joint for split in "qkv")
        return {name: weight for name, weight in weights.items() if not name.startswith(copies)}


def _replacing(
    where: Hook, change: Callable[[Tensor], Tensor]
) -> list[tuple[str, Callable[..., Any]]]:
    """TransformerLens' hooks that replace activations for all that read them."""
    kept: dict[str, Tensor] = {}

    def replace(activations: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
        kept["resid_mid"] = change(activations)
        return kept["resid_mid"]

    def keep(mlp_out: Tensor, hook: Any) -> None:  # noqa: ARG001
        kept["mlp_out"] = mlp_out

    def add_again(resid_post: Tensor, hook: Any) -> Tensor:  # noqa: ARG001
        return kept["resid_mid"] + kept["mlp_out"]

    if where.kind != "resid_mid":
        return [(where.name, replace)]
    # TransformerLens' bridge replaces only what the MLP reads; the stream goes past it.
    mlp_out, resid_post = Hook("mlp_out", where.layer), Hook("resid_post", where.layer)
    return [(where.name, replace), (mlp_out.name, keep), (resid_post.name, add_again)]
