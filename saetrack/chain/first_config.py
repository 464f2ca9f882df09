"""A first config for an LM that one brings: short, commented, with defaults that suit it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import yaml

from saetrack.data.splits import Split
from saetrack.lm.catalog.architectures import hook_layer
from saetrack.lm.catalog.models import ModelSpec
from saetrack.lm.checkpoints.folder_layout import checkpoint_folders
from saetrack.lm.hook import KINDS

# With more checkpoints than this, the config strides over them.
MAX_LINKS = 30
# A folder that got a checkpoint within so long may get more.
YOUNG_S = 3600.0
# LMs up to this width learn with the budgets and rates of the embedded one.
SMALL_D_MODEL = 256
# How often a link reads a short text at most.
READINGS = 4

TEMPLATE = """\
# A chain of SAEs over the training of {model}. Every field: docs/reference/config.md.
model: {model}
layers: [{layer}]  # of blocks.LAYER.hook_resid_pre, 0 to {last_layer}; one chain each
# hooks: [{hooks}]  # more of them
d_sae: {d_sae}  # features: 8 times the LM's width
residual: {residual}  # {residual_why}
schedule:  # checkpoints by their index, 0 to {last_index}; tokens that each link trains on
{pieces}
corpus: {{dataset: {text}, context_size: {context_size}, train_tokens: {train_tokens}, \
held_out_tokens: {held_out_tokens}, analysis_tokens: {analysis_tokens}}}{text_note}
sae: {{l1_coefficient: {l1:.1e}}}  # raise it if features are active on too many tokens (l0)
first_link: {{learning_rate: {first_rate:.1e}, warmup_steps: {first_warmup}}}
later_links: {{learning_rate: {later_rate:.1e}, warmup_steps: {later_warmup}}}
evaluation: {{matched_l0: 16, ce_tokens: {ce_tokens}}}
batch_tokens: {batch_tokens}
buffer_tokens: {buffer_tokens}
"""


@dataclass(frozen=True)
class _Budget:
    """Tokens and rates that suit a width of LM."""

    first_tokens: int
    later_tokens: int
    train_tokens: int
    held_out_tokens: int
    analysis_tokens: int
    ce_tokens: int
    first_rate: float
    later_rate: float
    batch_tokens: int
    buffer_tokens: int

    def within(self, had: Mapping[Split, int]) -> _Budget:
        """The same for a text that has no more tokens than those."""
        train_tokens, held_out_tokens = had["train"], had["held_out"]
        return replace(
            self,
            train_tokens=train_tokens,
            held_out_tokens=held_out_tokens,
            analysis_tokens=had["analysis"],
            ce_tokens=min(self.ce_tokens, held_out_tokens),
            first_tokens=min(self.first_tokens, READINGS * train_tokens),
            later_tokens=min(self.later_tokens, READINGS * train_tokens),
        )


SMALL = _Budget(400_000, 60_000, 400_000, 16_384, 98_304, 4_096, 4e-3, 2e-3, 256, 32_768)
LARGE = _Budget(
    20_000_000, 2_000_000, 20_000_000, 131_072, 1_048_576, 16_384, 4e-4, 4e-5, 4_096, 262_144
)


def default_layer(spec: ModelSpec) -> int:
    """The layer to begin with: the paper's for its LMs, else about a third of the way up."""
    if spec.entry is not None and (layer := hook_layer(spec.entry)) is not None:
        return layer
    return max(1, spec.n_layers // 3)


def first_config(
    model: str,
    spec: ModelSpec,
    layer: int,
    text: str,
    text_field: str = "text",
    had: Mapping[Split, int] | None = None,
) -> str:
    """The text of a config.

    Args:
        model: as the config names the LM.
        spec: of the LM, its checkpoints known.
        layer: of the hook.
        text: the corpus' dataset: a name, or a path.
        text_field: that holds a document's text.
        had: tokens of each split that the text has, if it is short; None: as many as one likes.
    """
    budget = SMALL if spec.d_model <= SMALL_D_MODEL else LARGE
    if had is not None:
        budget = budget.within(had)
    rms = spec.norm == "rms"
    lacking = {"resid_pre"} if spec.has_resid_mid else {"resid_pre", "resid_mid"}
    kinds = [kind for kind in KINDS if kind not in lacking]
    fields = {name: getattr(budget, name) for name in budget.__dataclass_fields__}
    n_checkpoints, grows = len(spec.lm_steps), is_young(spec)
    return TEMPLATE.format(
        **fields,
        model=_in_yaml(model),
        layer=layer,
        last_layer=spec.n_layers - 1,
        hooks=", ".join(f"{kind}.{layer}" for kind in kinds),
        d_sae=8 * spec.d_model,
        residual="raw" if rms else "centred",
        residual_why="an RMSNorm reads the mean" if rms else "less its mean, as in the paper",
        last_index=n_checkpoints - 1,
        pieces="\n".join(f"  - {piece}" for piece in _pieces(n_checkpoints, budget, grows=grows)),
        text=_in_yaml(text)
        + ("" if text_field == "text" else f", text_field: {_in_yaml(text_field)}"),
        text_note="" if had is None else "  # all that the text has",
        first_warmup=min(100, budget.first_tokens // budget.batch_tokens // 10),
        later_warmup=min(3, budget.later_tokens // budget.batch_tokens),
        context_size=min(128, spec.max_context or 128),
        l1=8e-5 * 1024 / spec.d_model,
    )


def _in_yaml(text: str) -> str:
    """A text as a value within braces: quoted unless YAML reads it back as it is."""
    is_plain = re.fullmatch(r"[\w./~][\w./+~-]*", text) and yaml.safe_load(text) == text
    return text if is_plain else json.dumps(text)


def is_young(spec: ModelSpec) -> bool:
    """Whether an LM's folder seems to be growing still: it got a checkpoint within the last hour.

    One that was copied here just now seems so too: then no more come, and nothing else differs.
    """
    if spec.folder is None:
        return False
    newest_s = max(path.stat().st_mtime for _, path in checkpoint_folders(spec.folder))
    return time.time() - newest_s < YOUNG_S


def _pieces(n_checkpoints: int, budget: _Budget, *, grows: bool) -> list[str]:
    """The first checkpoint from scratch, then evenly to the last one or close to it."""
    pieces = [f"{{first: 0, last: 0, tokens: {budget.first_tokens}}}"]
    if n_checkpoints > 1 or grows:
        stride = max(1, -(-(n_checkpoints - 1) // (MAX_LINKS - 1)))
        last = max(1, n_checkpoints - 1)
        first = 1 + (last - 1) % stride
        strided = f", stride: {stride}" if stride > 1 else ""
        end = "null" if grows else last
        pieces.append(f"{{first: {first}, last: {end}{strided}, tokens: {budget.later_tokens}}}")
    if grows:
        pieces[-1] += (
            "\n  # last: null takes those that are still to come, too: run the same track again, "
            "or let it\n  # wait for them (follow_s: 600). Or write the last index."
        )
    return pieces
