"""Whether a text surely has the tokens that are asked for, before all of it is tokenised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saetrack.data.config import CorpusConfig
from saetrack.data.corpus import wanted_tokens
from saetrack.data.datasets import Documents
from saetrack.data.splits import SPLITS, split_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# So many tokens are counted at once, rather than estimated: seconds.
FEW_TOKENS = 1_000_000
# One of so many documents is tokenised, and so much more text than it takes by these is asked for.
SAMPLED_EVERY, MARGIN = 64, 1.5


def surely_enough(config: CorpusConfig, tokenizer: PreTrainedTokenizerFast) -> bool:
    """Whether a text has far more tokens than are asked for, by its characters and by samples.

    Reads it no further than it must.

    Raises:
        UserError: the text cannot be read.
    """
    wanted = wanted_tokens(config)
    if sum(wanted.values()) <= FEW_TOKENS:
        return False
    characters = dict.fromkeys(SPLITS, 0)
    sampled_characters = sampled_tokens = 0
    for number, document in enumerate(Documents(config)):
        characters[split_of(document)] += len(document)
        if number % SAMPLED_EVERY:
            continue
        sampled_characters += len(document)
        sampled_tokens += len(tokenizer(document, add_special_tokens=False)["input_ids"])
        per_character = sampled_tokens / max(sampled_characters, 1)
        if all(characters[split] * per_character >= MARGIN * n for split, n in wanted.items()):
            return True
    return False
