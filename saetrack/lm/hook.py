"""A hook: an activation of an LM, named as TransformerLens names it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

HookKind = Literal["resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"]
# In the order in which a block computes them.
KINDS: tuple[HookKind, ...] = get_args(HookKind)

_ANY_KIND = "|".join(KINDS)
PATTERN = rf"({_ANY_KIND})\.([0-9]{{1,6}})"
_NAME = re.compile(rf"blocks\.([0-9]{{1,6}})\.hook_({_ANY_KIND})")


@dataclass(frozen=True, repr=False)
class Hook:
    """Where an LM is read: an activation of one block, (rows, context, d_in).

    - `resid_pre`: the residual stream that enters the block;
    - `attn_out`: what its attention adds to the stream;
    - `resid_mid`: the stream between the two;
    - `mlp_out`: what its MLP adds to the stream;
    - `resid_post`: the stream that leaves the block.

    Attributes:
        kind: which of these.
        layer: number of the block, from 0.

    Example:
        >>> hook = Hook("mlp_out", 4)
        >>> hook, hook.name, hook.short, Hook("resid_pre", 4).short
        (mlp_out.4, 'blocks.4.hook_mlp_out', 'L4-mlp_out', 'L4')
    """

    kind: HookKind
    layer: int

    def __repr__(self) -> str:
        """As configs write it."""
        return f"{self.kind}.{self.layer}"

    @property
    def name(self) -> str:
        """TransformerLens' name."""
        return f"blocks.{self.layer}.hook_{self.kind}"

    @property
    def short(self) -> str:
        """As a chain's name has it."""
        suffix = "" if self.kind == "resid_pre" else f"-{self.kind}"
        return f"L{self.layer}{suffix}"

    @property
    def key(self) -> int | str:
        """As identities and saved states have it: a `resid_pre` is its layer's number alone.

        That was the only hook when the first identities were made.
        """
        return self.layer if self.kind == "resid_pre" else repr(self)

    @property
    def n_blocks(self) -> int:
        """How many blocks run, the last one perhaps in part, until it is reached."""
        return self.layer if self.kind == "resid_pre" else self.layer + 1

    @property
    def depth(self) -> tuple[int, int]:
        """Hooks ascend by it from the embedding to the unembedding."""
        return self.layer, KINDS.index(self.kind)


def parse_hook(value: Any) -> Hook:
    """A hook as a config writes it, such as `mlp_out.4`; or TransformerLens' full name of it.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, Hook):
        return value
    text = value if isinstance(value, str) else ""
    if found := re.fullmatch(PATTERN, text):
        kind, layer = found.groups()
    elif found := _NAME.fullmatch(text):
        layer, kind = found.groups()
    else:
        raise ValueError(
            f"must be a kind and a layer, such as mlp_out.4; kinds: {', '.join(KINDS)}"
        )
    return Hook(cast("HookKind", kind), int(layer))


# A field of a config.
HookField = Annotated[
    Hook,
    PlainValidator(parse_hook),
    PlainSerializer(repr, return_type=str),
    WithJsonSchema({"type": "string", "pattern": f"^{PATTERN}$"}),
]
