"""The columns that an analysis writes, as the page names and explains them."""

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
        description="Share of the tokens of the analysis text on which the feature fires. No "
        "control is measured.",
        dtype="f4",
        per_link=True,
        curve=True,
        scale="log",
    ),
    Column(
        name="max_act",
        title="Largest activation",
        unit="",
        description="The feature's largest activation on the analysis text. No control is "
        "measured.",
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
        description="How near the feature's decoder direction is to that at the last link. It ends "
        "at 1 for any feature, also for one that only wanders.",
        dtype="f4",
        per_link=True,
        curve=True,
        range=[-1, 1],
    ),
    Column(
        name="cosine_to_first",
        title="Cosine to the first direction",
        unit="cosine",
        description="How near the feature's decoder direction is to that at the first link.",
        dtype="f4",
        per_link=True,
        curve=True,
        range=[-1, 1],
    ),
    Column(
        name="cosine_to_previous",
        title="Cosine to the direction before",
        unit="cosine",
        description="How near the feature's decoder direction is to that at the link before.",
        dtype="f4",
        per_link=True,
        curve=True,
        range=[-1, 1],
    ),
    Column(
        name="determined_by_token",
        title="Explained by the token alone",
        unit="share of variance",
        description="Share of the activation's variance that the token alone explains, on text "
        "other than that from which it was learned. Measured of followed features only.",
        dtype="f4",
        per_link=True,
        curve=True,
    ),
    Column(
        name="progress_activation",
        title="Progress in activation space",
        unit="cosine above chance",
        description="How alike the LM's residuals at the feature's final contexts are, less what "
        "random contexts reach. Measured of followed features only.",
        dtype="f4",
        per_link=True,
        curve=True,
    ),
    Column(
        name="progress_feature",
        title="Progress in feature space",
        unit="similarity above chance",
        description="How alike the SAE's activations at the feature's final contexts are, less "
        "what random contexts reach. Measured of followed features only.",
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
        "promotes most at the last link too. It ends at 1 for any feature.",
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
        description="How the feature's meaning changes from the first to the last link.",
        dtype="u1",
        per_link=False,
        curve=False,
    ),
    Column(
        name="final_label",
        title="Label at the end",
        unit="",
        description="The label at the last link.",
        dtype="u1",
        per_link=False,
        curve=False,
    ),
    Column(
        name="formation_link",
        title="Formation",
        unit="link",
        description="The link from which on label and tokens are those of the last link; -1 for "
        "never.",
        dtype="i2",
        per_link=False,
        curve=False,
    ),
)


def columns_with(bands: dict[str, ControlBand]) -> list[Column]:
    """All columns, with the bands of controls that there are."""
    return [column.model_copy(update={"control": bands.get(column.name)}) for column in COLUMNS]
