"""The learning rate of LMs' own training, summed between checkpoints."""

from __future__ import annotations

import pytest

from saetrack.lm.catalog.models import find_model
from saetrack.lm.open import learning_rate


def test_pythias_is_what_its_configs_say() -> None:
    rate = learning_rate(find_model("pythia-410m-deduped"))
    assert rate is not None
    assert rate.at(1429) == pytest.approx(3e-4)
    assert rate.at(143_000) == pytest.approx(3e-5)
    # Cumulated by hand from the public training config.
    sums = {16: 2.9e-5, 64: 4.4e-4, 256: 6.9e-3, 512: 0.028, 1_000: 0.105, 143_000: 23.6}
    for lm_step, expected in sums.items():
        assert rate.summed(0, lm_step) == pytest.approx(expected, rel=0.02)
    assert rate.summed(512, 1_000) == pytest.approx(
        rate.summed(0, 1_000) - rate.summed(0, 512), rel=1e-12
    )


def test_where_it_is_unknown_it_is_not_guessed() -> None:
    assert learning_rate(find_model("stanford-gpt2-small-a")) is None
    mini = learning_rate(find_model("mini"))
    assert mini is not None and mini.at(383) == 4e-3
