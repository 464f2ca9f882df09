"""transformers' own model, read and changed where the residual stream enters or leaves a block.

Nothing stands between these modules, so that a pass takes as long as transformers' own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from saetrack.lm.hook import Hook

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KINDS = ("resid_pre", "resid_post")


class StreamLM:
    """An LM whose hooks are all of the kinds `resid_pre` and `resid_post`.

    Attributes:
        model: of transformers.
        blocks: its blocks, from the embedding upward.
        final_norm: between the last block and the unembedding; OPT-350m has none.
        is_rms: whether its norms are RMSNorms.
    """

    def __init__(
        self, model: PreTrainedModel, blocks: str, final_norm: str, *, is_rms: bool
    ) -> None:
        """Take a model as it is.

        Args:
            model: of transformers.
            blocks: name of the list of its blocks.
            final_norm: name of the norm behind the last of them.
            is_rms: whether its norms are RMSNorms.
        """
        self.model = model
        self.is_rms = is_rms
        parent, _, name = final_norm.rpartition(".")
        self.final_norm: nn.Module | None = getattr(model.get_submodule(parent), name)
        modules = model.get_submodule(blocks)
        assert isinstance(modules, nn.ModuleList)
        self.blocks: Sequence[nn.Module] = list(modules)
        self._blocks_name = blocks

    @property
    def d_in(self) -> int:
        """Width of the residual stream."""
        return int(self.model.config.hidden_size)

    def known_hooks(self, layer: int) -> list[Hook]:
        """What can be read of a block."""
        return [Hook("resid_pre", layer), Hook("resid_post", layer)]

    def run(self, tokens: Tensor, catch: dict[Hook, Callable[[Tensor], None]]) -> None:
        """Run up to the last of some hooks, and give each its activations."""
        last = max(catch, key=lambda hook: hook.n_blocks)
        handles = [
            self._read(hook, function, ends=hook == last) for hook, function in catch.items()
        ]
        try:
            self.model(tokens, use_cache=False)
        except _ReachedError:
            pass
        finally:
            for handle in handles:
                handle.remove()

    def logits(
        self,
        tokens: Tensor,
        hook: Hook | None,
        change: Callable[[Tensor], Tensor] | None,
        raw: Tensor | None = None,
    ) -> Tensor:
        """The logits, with the activations at a hook changed.

        Args:
            tokens: rows.
            hook: where.
            change: what becomes of the activations.
            raw: the activations before the change, if they are known: blocks below do not run.
        """
        with ExitStack() as changed:
            if hook is not None and change is not None:
                of_known = change if raw is None else lambda _: change(raw)
                changed.enter_context(self._replace(hook, of_known))
                if raw is not None:
                    changed.enter_context(self._passing_by(hook.n_blocks))
            logits: Tensor = self.model(tokens, use_cache=False).logits
        return logits

    @contextmanager
    def _passing_by(self, n_blocks: int) -> Iterator[None]:
        """The first blocks give what they are given."""
        gives_tuples = self._gives_tuples  # asked while they still run

        def give(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Any:
            return (hidden_states,) if gives_tuples else hidden_states

        for block in self.blocks[:n_blocks]:
            block.forward = give  # of this module alone, before that of its class
        try:
            yield
        finally:
            for block in self.blocks[:n_blocks]:
                del block.forward

    @cached_property
    def _gives_tuples(self) -> bool:
        """Whether a block gives its activations as the first of a tuple; asked of the first."""
        found: list[bool] = []

        def look(_module: Any, _args: Any, output: Any) -> None:
            found.append(isinstance(output, tuple))
            raise _ReachedError

        with self.blocks[0].register_forward_hook(look), suppress(_ReachedError):
            self.model(
                torch.zeros(1, 1, dtype=torch.long, device=self.model.device), use_cache=False
            )
        return found[0]

    def weights_below(self, n_blocks: int) -> dict[str, Tensor]:
        """The weights of the embeddings and of the first blocks, by their names in the model."""
        base, _, name = self._blocks_name.rpartition(".")
        above = [f"{base}.{name}.{n}." for n in range(n_blocks, len(self.blocks))]
        embeddings = [
            f"{base}.{child}."
            for child, module in self.model.get_submodule(base).named_children()
            if "embed" in child or isinstance(module, nn.Embedding)
        ]
        wanted = (*embeddings, f"{base}.{name}.")
        return {
            weight_name: weight
            for weight_name, weight in self.model.named_parameters()
            if weight_name.startswith(wanted) and not weight_name.startswith(tuple(above))
        }

    def _read(self, hook: Hook, function: Callable[[Tensor], None], *, ends: bool) -> Any:
        def read(activations: Tensor) -> None:
            function(activations)
            if ends:
                raise _ReachedError

        block = self.blocks[hook.layer]
        if hook.kind == "resid_post":
            return block.register_forward_hook(lambda _module, _args, output: read(_first(output)))
        return block.register_forward_pre_hook(
            lambda _module, args, kwargs: read(args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
            prepend=True,
        )

    def _replace(self, hook: Hook, change: Callable[[Tensor], Tensor]) -> Any:
        def enter(_module: Any, args: Any, kwargs: Any) -> Any:
            if args:
                return (change(args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

        def leave(_module: Any, _args: Any, output: Any) -> Any:
            changed = change(_first(output))
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        block = self.blocks[hook.layer]
        if hook.kind == "resid_post":
            return block.register_forward_hook(leave)
        return block.register_forward_pre_hook(enter, with_kwargs=True)


class _ReachedError(Exception):
    """Ends a pass: all that was asked for is read."""


def _first(output: Any) -> Tensor:
    tensor: Tensor = output[0] if isinstance(output, tuple) else output
    return tensor
