"""What does not exist or does not suit the LM is refused in one line, without any work."""

from __future__ import annotations

from typing import Any

import pytest

from saetrack.chain.compatibility import find_suitable_lm
from saetrack.chain.config import load_config
from saetrack.utils.errors import UserError
from tests.support.nano import NANO_TRACK


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"model": "pythia-41m"}, r"model='pythia-41m': not in the catalogue; did you mean"),
        ({"layers": [1, 2]}, r"layers=\[1, 2\]: nano has layers 0 to 1"),
        ({"hooks": ["mlp_out.2"]}, r"hooks=\[mlp_out.2\]: nano has layers 0 to 1"),
        (
            {"hooks": ["attn_out.1", "resid_mid.1"]},
            r"hooks=\[resid_mid.1\]: nano has no residual stream between .* it has resid_pre, attn",
        ),
        (
            {"schedule": [{"first": 0, "last": 6, "tokens": 5}]},
            r"schedule: nano has no checkpoint 6; it has indices 0 to 5, which are LM steps 0, ",
        ),
        (
            {"corpus": {**NANO_TRACK["corpus"], "dataset": "the-pile"}},
            r"corpus.dataset='the-pile': unknown dataset; must be mini, pile, openwebtext, or a",
        ),
        (
            {"corpus": {**NANO_TRACK["corpus"], "context_size": 64}},
            r"corpus.context_size=64: nano takes at most 32",
        ),
        ({"layers": [99], "model": "pythia-410m-deduped"}, r"layers=\[99\]: .* layers 0 to 23"),
        (
            {"model": "crystal"},
            r"model='crystal': loads only with code of its repository",
        ),
    ],
)
def test_what_does_not_suit_an_lm_is_refused_in_one_line(change: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        find_suitable_lm(load_config({**NANO_TRACK, **change}))
    assert "\n" not in str(caught.value)
