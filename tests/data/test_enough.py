"""Whether a text is surely long enough, by samples of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from saetrack.chain.config import load_config
from saetrack.chain.planning import open_corpus
from saetrack.data import enough
from saetrack.data.config import CorpusConfig
from saetrack.data.enough import surely_enough
from saetrack.lm.checkpoints.source import CheckpointSource
from saetrack.utils.errors import UserError
from tests.support.nano import NANO_TRACK

SIZES = {"context_size": 32, "held_out_tokens": 640, "analysis_tokens": 640}


@pytest.fixture
def text(tmp_path: Path) -> CorpusConfig:
    """Of about 25 tokens in each of 2,000 documents."""
    rows = [json.dumps({"text": f"{n}: the line has a name and a value"}) for n in range(2_000)]
    (tmp_path / "text.jsonl").write_text("\n".join(rows))
    return CorpusConfig(dataset=str(tmp_path / "text.jsonl"), train_tokens=9_600, **SIZES)


def test_far_more_text_than_is_asked_for_is_enough(
    source: CheckpointSource, text: CorpusConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, _ = source.tokenizer()
    assert not surely_enough(text, tokenizer), "so few are counted at once"
    monkeypatch.setattr(enough, "FEW_TOKENS", 0)
    assert surely_enough(text, tokenizer)
    for short in ({"train_tokens": 100_000}, {"held_out_tokens": 9_600}):
        assert not surely_enough(text.model_copy(update=short), tokenizer)


def test_a_token_beyond_the_embedding_is_refused_before_anything_is_trained(
    source: CheckpointSource, text: CorpusConfig, tmp_path: Path
) -> None:
    tokenizer, _ = source.tokenizer()
    config = load_config(NANO_TRACK).model_copy(update={"corpus": text})
    spec = replace(source.spec, vocabulary=len(tokenizer))
    open_corpus(config, spec, (tokenizer, "as it is"), tmp_path)
    tokenizer.add_tokens(["name"])
    line = rf"the text has the token {len(tokenizer) - 1} of nano's tokenizer, and the embedding"
    with pytest.raises(UserError, match=line):
        open_corpus(config, spec, (tokenizer, "one more"), tmp_path)
