"""The columns that an analysis writes, as the page names and explains them.

What is said here holds in either direction: links are in the order of LM steps, also of a chain
that was trained from the last checkpoint back to the first.
"""

from __future__ import annotations

from saetrack.analysis.life_store.manifest import Column, ControlBand

COLUMNS: tuple[Column, ...] = (
    Column(
        name="label",
        title="Label",
        unit="",
        description="What the feature's strongest contexts have in common at this link.",
        dtype="u1",
        per_link=True,
        curve=False,
    ),
    Column(
        name="feature_density",
        title="Density",
        unit="share of tokens",
        description="Share of the tokens of the analysis text on which the feature fires.",
        dtype="f4",
        per_link=True,
        curve=True,
        scale="log",
    ),
    Column(
        name="max_act",
        title="Largest activation",
        unit="",
        description="The feature's largest activation on the analysis text.",
        dtype="f4",
        per_link=True,
        curve=True,
    ),
    Column(
        name="top_token",
        title="Commonest token",
        unit="",
        description="The token that most of the feature's strongest contexts have; -1 for none.",
        dtype="i4",
        per_link=True,
        curve=False,
    ),
    Column(
        name="cosine_to_final",
        title="Cosine to the final direction",
        unit="cosine",
        description="How near the feature's decoder direction is to that at the chain's last LM "
        "step. It ends at 1 for any feature, also for one that only wanders.",
        dtype="f4",
        per_link=True,
        curve=True,
        range=[-1, 1],
    ),
    Column(
        name="cosine_to_first",
        title="Cosine to the first direction",
        unit="cosine",
        description="How near the feature's decoder direction is to that at the chain's first LM "
        "step.",
        dtype="f4",
        per_link=True,
        curve=True,
        range=[-1, 1],
    ),
    Column(
        name="cosine_to_previous",
        title="Cosine to the direction before",
        unit="cosine",
        description="How near the feature's decoder direction is to that at the next smaller LM "
        "step.",
        dtype="f4",
        per_link=True,
        curve=True,
        range=[-1, 1],
    ),
    Column(
        name="determined_by_token",
        title="Explained by the token alone",
        unit="share of variance",
        description="Share of the activation's variance that the token alone explains, each token "
        "by its other occurrences.",
        dtype="f4",
        per_link=True,
        curve=True,
    ),
    Column(
        name="progress_activation",
        title="Progress in activation space",
        unit="cosine above chance",
        description="How alike the LM's residuals are at the contexts that the feature has at the "
        "last LM step, less what random contexts reach. Measured of followed features only.",
        dtype="f4",
        per_link=True,
        curve=True,
    ),
    Column(
        name="progress_feature",
        title="Progress in feature space",
        unit="similarity above chance",
        description="How alike the SAE's activations are at the contexts that the feature has at "
        "the last LM step, less what random contexts reach. Measured of followed features only.",
        dtype="f4",
        per_link=True,
        curve=True,
    ),
    Column(
        name="next_token_agreement",
        title="Promotes what comes next",
        unit="standard deviations",
        description="Mean logit that the feature's direction gives to the tokens behind its "
        "strongest contexts, beyond what it gives to tokens behind those of other features.",
        dtype="f4",
        per_link=True,
        curve=True,
    ),
    Column(
        name="promoted_overlap",
        title="Promotes what it will promote",
        unit="share of tokens",
        description="Of the tokens that the feature's direction promotes most, the share that it "
        "promotes most at the last LM step too. It ends at 1 for any feature.",
        dtype="f4",
        per_link=True,
        curve=True,
        range=[0, 1],
    ),
    Column(
        name="logit_kurtosis",
        title="Few tokens stand out",
        unit="excess kurtosis",
        description="Excess kurtosis of what the feature's direction adds to the logits: 0 for a "
        "normal distribution, large where it promotes or suppresses a few tokens alone.",
        dtype="f4",
        per_link=True,
        curve=True,
    ),
    Column(
        name="effect",
        title="Helps the LM",
        unit="nats per token",
        description="By how much the loss of the row rises for each token from which the feature "
        "is taken out, by attribution on held-out text. Below 0 the feature does harm there.",
        dtype="f4",
        per_link=True,
        curve=True,
    ),
    Column(
        name="effect_over_random",
        title="Effect over that of random directions",
        unit="ratio",
        description="Mean size of the feature's effect on the loss over that of random directions "
        "with the same firing and norm.",
        dtype="f4",
        per_link=True,
        curve=True,
        scale="log",
    ),
    Column(
        name="pattern",
        title="Pattern",
        unit="",
        description="How the feature's meaning changes from the first to the last LM step.",
        dtype="u1",
        per_link=False,
        curve=False,
    ),
    Column(
        name="final_label",
        title="Label at the end",
        unit="",
        description="The label at the last LM step.",
        dtype="u1",
        per_link=False,
        curve=False,
    ),
    Column(
        name="formation_link",
        title="Formation",
        unit="link",
        description="The link, counted by LM step, from which on label and tokens are those of the "
        "last LM step; -1 for never.",
        dtype="i2",
        per_link=False,
        curve=False,
    ),
)


_STILL = "The control is all features of a chain whose LM stands still, after as many links. "
_NEARER = (
    "Above it the direction stays nearer than training alone leaves it; below it the direction "
    "changes more than training alone changes it."
)
_SHARED = (
    "The control is random directions, whose contexts are chosen as those of features are. Above "
    "it the contexts share something, and one token that they share is enough: look at the share "
    "that the token alone explains."
)
# What the band of a curve is, and what lying outside of it means.
CONTROLS = {
    "feature_density": f"{_STILL}Above it the feature is commoner, below it rarer, than nearly all "
    "features of that chain on its held-out text; neither says that it has a meaning.",
    "cosine_to_final": _STILL.replace("after as many links", "as many links before its last")
    + _NEARER,
    "cosine_to_first": _STILL + _NEARER,
    "cosine_to_previous": _STILL + _NEARER,
    "progress_activation": _SHARED,
    "progress_feature": _SHARED,
    "next_token_agreement": "The control is the tokens behind the contexts of another feature. "
    "Above it the feature promotes what follows its own contexts more than what follows others'.",
    "promoted_overlap": "The control is the tokens that another feature promotes at the last LM "
    "step. Above it the feature promotes tokens of its own, not those that many features promote.",
    "logit_kurtosis": "The control is random directions. Above it a few tokens stand out more than "
    "they do for a random direction.",
}
NO_CONTROL = "There is no control."
_KNOWN = {column.name: column for column in COLUMNS}


def columns_with(bands: dict[str, ControlBand]) -> list[Column]:
    """All columns, with the bands of controls that there are."""
    return [
        described(column.model_copy(update={"control": bands.get(column.name)}))
        for column in COLUMNS
    ]


def described(column: Column) -> Column:
    """A column in the words of this release; one that this release does not write as it is."""
    known = _KNOWN.get(column.name)
    if known is None:
        return column
    words = known.description
    if column.curve:
        words += f" {CONTROLS.get(column.name, '') if column.control else NO_CONTROL}"
    return column.model_copy(update={"title": known.title, "description": words})
