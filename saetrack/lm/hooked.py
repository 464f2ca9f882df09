"""One checkpoint of an LM: run exactly up to the hooks, or whole with an activation replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import cross_entropy

from saetrack.lm.hook import Hook
from saetrack.lm.loading import load_lm
from saetrack.lm.readout import folded_unembedding, norm_scale, norm_weights
from saetrack.lm.stream import StreamLM
from saetrack.lm.weights import require_finite_activations, require_in_vocabulary
from saetrack.utils.errors import UserError
from saetrack.utils.timing import part

if TYPE_CHECKING:
    from jaxtyping import Float, Int

ResidualKind = Literal["centred", "raw"]
LMPrecision = Literal["float32", "bfloat16"]
Replace = Callable[[Tensor], Tensor]


class LossGradient(NamedTuple):
    """What the LM makes of some rows, and the gradient of its loss by the activations at a hook.

    Attributes:
        x: activations as `HookedLM.activations` gives them, (rows, context, d_in).
        gradient: of the summed next-token loss, nats per unit of activation, (rows, context, d_in).
        log_p: of next tokens, (rows, context, vocabulary).
        raw: activations as the LM has them, in its precision, (rows, context, d_in).
    """

    x: Float[Tensor, "rows context d_in"]
    gradient: Float[Tensor, "rows context d_in"]
    log_p: Float[Tensor, "rows context vocabulary"]
    raw: Float[Tensor, "rows context d_in"]


# Rows of tokens that pass through the LM at a time.
LM_BATCH_ROWS = 32


class HookedLM:
    """Gives the activations at one or more hooks from one pass.

    It runs until the last hook is reached and no further: by transformers alone where every hook
    is where the residual stream enters or leaves a block of an LM of the catalogue's architectures,
    else through TransformerLens' bridge. Names of hooks are TransformerLens' in either case.

    The paper reads residuals of a model whose writing weights are centred (TransformerLens' default
    processing): for architectures with LayerNorm that is the raw residual less its mean over
    `d_in`, so it is computed so, without rewriting any weights; likewise what attention and MLP
    write to the residual stream. An RMSNorm reads the mean, so there only `raw` makes sense.
    BLOOM's processed weights differ, since it has a norm above its embedding; its mean is without
    meaning to the LM all the same.

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
        kinds = {hook.kind for hook in self.hooks}
        self._lm = load_lm(folder, top_layer, kinds, dtype, self.device, self._label)
        self._lm.model.requires_grad_(requires_grad=False)
        self._require_hooks()
        if residual == "centred" and self._lm.is_rms:
            raise UserError(
                "residual='centred': this LM has RMSNorm, which reads the mean that centring "
                "takes away; set residual=raw"
            )

    @property
    def d_in(self) -> int:
        """Width of the residual stream."""
        return self._lm.d_in

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding; there may be padding among them."""
        return len(self._lm.model.get_input_embeddings().get_parameter("weight"))

    def token_embeddings(self) -> Float[Tensor, "vocabulary width"]:
        """The input embedding, float32; a vocabulary may be padded beyond its tokens."""
        return self._lm.model.get_input_embeddings().get_parameter("weight").detach().float()

    @torch.no_grad()
    def readout(
        self, tokens: Int[Tensor, "rows context"], vocabulary: int
    ) -> Float[Tensor, "vocabulary d_in"] | None:
        """What directions of the residual stream add to the centred logits (`saetrack.lm.readout`).

        The final norm's scale is fixed at its median over some tokens.

        Args:
            tokens: rows on which the scale is measured.
            vocabulary: the unembedding's rows behind so many are padding.

        Returns:
            None for an LM whose stream does not go straight into a norm and an unembedding.
        """
        head, norm = self._lm.model.get_output_embeddings(), self._lm.final_norm
        if norm is None or head is None:
            return None
        unembedding = head.get_parameter("weight").detach()[:vocabulary]
        if unembedding.shape[1] != self.d_in:
            return None
        caught: list[tuple[Tensor, Tensor]] = []
        handle = norm.register_forward_hook(lambda _, x, y: caught.append((x[0], y)))
        try:
            self._lm.logits(tokens.to(self.device), None, None)
        finally:
            handle.remove()
        x, normed = (found.flatten(0, 1) for found in caught[0])
        weights = norm_weights(norm, x[0], is_rms=self._lm.is_rms)
        scale = norm_scale(weights, x, normed, is_rms=self._lm.is_rms)
        return folded_unembedding(weights, scale, unembedding, is_rms=self._lm.is_rms)

    def weights_below(self) -> dict[str, Tensor]:
        """The embedding and every block that runs for the hooks, float32, on the CPU."""
        below = self._lm.weights_below(max(hook.n_blocks for hook in self.hooks))
        return {name: weight.detach().float().cpu() for name, weight in below.items()}

    @property
    def computes_with_parameters(self) -> bool:
        """Whether `parameters` are all that it computes with; the bridge has copies of some."""
        return isinstance(self._lm, StreamLM)

    def parameters(self) -> list[Parameter]:
        """All parameters of the LM as it was loaded, themselves: whoever changes one changes it."""
        return list(self._lm.model.parameters())

    def parameters_below(self) -> list[Parameter]:
        """Those that the activations at the first hook depend on, themselves."""
        below = self._lm.weights_below(self.hooks[0].n_blocks).values()
        return [weight for weight in below if isinstance(weight, Parameter)]

    def graph_of_activations(
        self, tokens: Int[Tensor, "rows context"]
    ) -> Float[Tensor, "rows context d_in"]:
        """What `activations` gives at the first hook, with the graph of its parameters."""
        found: list[Tensor] = []
        with torch.enable_grad():
            self._lm.run(tokens.to(self.device), {self.hooks[0]: found.append})
            x = found[0].float()
            return x - x.mean(dim=-1, keepdim=True) if self._residual == "centred" else x

    def graph_of_loss(self, tokens: Int[Tensor, "rows context"]) -> Float[Tensor, ""]:
        """Mean next-token cross-entropy (nats) with the graph of its parameters."""
        tokens = tokens.to(self.device)
        with torch.enable_grad():
            logits = self._lm.logits(tokens, None, None)[:, :-1]
            return cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())

    @torch.no_grad()
    @part("LM")
    def activations(
        self, tokens: Int[Tensor, "rows context"]
    ) -> Float[Tensor, "hooks rows context d_in"]:
        """The activations at each of the hooks, float32, on this LM's device.

        Raises:
            UserError: a token is beyond the vocabulary, or an activation is not finite.
        """
        require_in_vocabulary(tokens, self._lm.model, self._label)
        found = torch.empty(len(self.hooks), *tokens.shape, self.d_in, device=self.device)
        self._lm.run(
            tokens.to(self.device),
            {hook: partial(_copy, found[number]) for number, hook in enumerate(self.hooks)},
        )
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
            hook: of a kind that is among `hooks`.
            replace: maps activations (rows, context, d_in), centred or raw as this LM gives them,
                to those that replace them; None leaves the LM as it is. The mean that centring
                takes away is added again.
        """
        tokens = tokens.to(self.device)
        change = None if replace is None else self._changing(replace)
        logits = self._lm.logits(tokens, hook, change)
        return float(cross_entropy(logits[:, :-1].float().flatten(0, 1), tokens[:, 1:].flatten()))

    @torch.no_grad()
    @part("LM")
    def log_p(
        self,
        tokens: Int[Tensor, "rows context"],
        hook: Hook,
        replace: Replace,
        raw: Float[Tensor, "rows context d_in"] | None = None,
    ) -> Float[Tensor, "rows context vocabulary"]:
        """Log-probabilities of next tokens, float32, with the activations at a hook replaced.

        Args:
            tokens: rows.
            hook: of a kind that is among `hooks`.
            replace: as of `spliced_loss`.
            raw: the activations there as `loss_gradient` found them, if it did: then only what lies
                above the hook runs, where the LM allows it.
        """
        change = self._changing(replace)
        logits = self._lm.logits(tokens.to(self.device), hook, change, raw)
        return logits.float().log_softmax(dim=-1)

    @part("LM")
    def loss_gradient(self, tokens: Int[Tensor, "rows context"], hook: Hook) -> LossGradient:
        """One pass forward, and one backward from the summed next-token loss down to a hook.

        The LM must be loaded whole. No gradient by a weight is computed.

        Raises:
            UserError: an activation is not finite.
        """
        tokens = tokens.to(self.device)
        raw, log_p, gradient = self._cut(tokens, hook, lambda x: x, None)
        x = raw.float()
        require_finite_activations(x[None], [hook], self._label)
        if self._residual == "centred":
            x = x - x.mean(dim=-1, keepdim=True)
        return LossGradient(x, gradient, log_p, raw)

    @part("LM")
    def gradient_at(
        self,
        tokens: Int[Tensor, "rows context"],
        hook: Hook,
        replace: Replace,
        raw: Float[Tensor, "rows context d_in"],
    ) -> Float[Tensor, "rows context d_in"]:
        """The gradient of `loss_gradient` where other activations are in place; as of `log_p`."""
        return self._cut(tokens.to(self.device), hook, self._changing(replace), raw)[2]

    def _cut(
        self, tokens: Tensor, hook: Hook, change: Replace, raw: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Activations at a hook once they are changed, log-probabilities, and the gradient."""
        leaves: list[Tensor] = []

        def cut(activations: Tensor) -> Tensor:
            leaves.append(change(activations.detach()).requires_grad_())
            return leaves[0]

        with torch.enable_grad():
            logits = self._lm.logits(tokens, hook, cut, raw)
        log_p = logits.detach().float().log_softmax(dim=-1)
        # Of the summed cross-entropy by the logits: p, less 1 at the token that comes.
        by_logits = log_p.exp()
        by_logits[:, :-1].scatter_add_(2, tokens[:, 1:, None], -torch.ones_like(log_p[:, 1:, :1]))
        by_logits[:, -1] = 0
        (gradient,) = torch.autograd.grad(logits, leaves[0], by_logits.to(logits.dtype))
        return leaves[0].detach(), log_p, gradient.float()

    def _changing(self, replace: Replace) -> Replace:
        """As the LM has the activations: with their mean, in its precision."""

        def change(activations: Tensor) -> Tensor:
            x = activations.float()
            mean = x.mean(dim=-1, keepdim=True) if self._residual == "centred" else 0.0
            return (replace(x - mean) + mean).to(activations.dtype)

        return change

    def _require_hooks(self) -> None:
        """Refuse a hook that this LM does not have.

        The check of a config (`saetrack.chain.compatibility`) knows fewer architectures.
        """
        for hook in self.hooks:
            allowed = self._lm.known_hooks(hook.layer)
            if hook not in allowed:
                raise UserError(
                    f"hooks={hook}: this LM has no such hook; it has {', '.join(map(str, allowed))}"
                )


def next_token_losses(
    log_p: Float[Tensor, "rows context vocabulary"], tokens: Int[Tensor, "rows context"]
) -> Float[Tensor, "rows context_less_1"]:
    """Cross-entropy in nats of each token but a row's first."""
    return -log_p[:, :-1].gather(2, tokens[:, 1:, None])[..., 0]


def _copy(to: Tensor, activations: Tensor) -> None:
    to.copy_(activations)
