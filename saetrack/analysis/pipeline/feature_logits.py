"""What features add to the logits at a checkpoint, from its LM and what the pass found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from saetrack.analysis.logits.feature_logits import FeatureLogits, measure_logits
from saetrack.analysis.logits.next_tokens import next_tokens
from saetrack.lm.hooked import LM_BATCH_ROWS

if TYPE_CHECKING:
    from jaxtyping import Float

    from saetrack.analysis.contexts.top_contexts import Contexts
    from saetrack.analysis.pipeline.analysis_text import AnalysisText
    from saetrack.analysis.pipeline.feature_pass import FeaturePass


def logits_at(
    feature_pass: FeaturePass,
    contexts: Contexts,
    mean_acts: Float[np.ndarray, " d_sae"],
    text: AnalysisText,
    seed: int,
) -> FeatureLogits | None:
    """Of all features at a checkpoint; None for an LM without a direct path to the logits.

    Args:
        feature_pass: the checkpoint, its LM loaded whole. On the first rows of the text the final
            norm's scale is measured.
        contexts: of the features.
        mean_acts: of the features where they fire.
        text: of the analysis.
        seed: of the controls.
    """
    first = torch.from_numpy(text.token_rows[:LM_BATCH_ROWS].astype(np.int64))
    readout = feature_pass.lm.readout(first, text.vocabulary)
    if readout is None:
        return None
    following = next_tokens(text.token_rows, contexts)
    # An unembedding may have fewer rows than the tokenizer has tokens.
    following = np.where(following < len(readout), following, -1)
    return measure_logits(feature_pass.sae.W_dec, readout, mean_acts, following, seed)
