"""The names of `import saetrack`: each has an example, and the examples run as written."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import saetrack
from saetrack.registry import Registry
from saetrack.utils.settings import Settings
from tests.support.nano import NANO_TRACK
from tests.support.running import set_environment

NAMES = [name for name in saetrack.__all__ if name != "__version__"]


@pytest.fixture
def notebook(
    registry: Registry,
    module_settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder with the user's own file, and a registry that holds the nano chain."""
    set_environment(module_settings, monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano.yaml").write_text(yaml.safe_dump(NANO_TRACK))


@pytest.mark.usefixtures("notebook")
@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_each_name_runs(name: str) -> None:
    public = getattr(saetrack, name)
    assert ">>>" in (public.__doc__ or ""), "each public name has an example"
    (example,) = doctest.DocTestFinder(recurse=False).find(public, name, globs={name: public})
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert results.attempted > 0 == results.failed


def test_there_are_twelve_names_at_most_and_importing_them_loads_nothing() -> None:
    assert len(saetrack.__all__) <= 12
    assert dir(saetrack) == sorted(saetrack.__all__)
    code = "import saetrack, sys; print({'torch', 'pandas', 'mlflow'} & sys.modules.keys())"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "set()\n"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = saetrack.nothing


@pytest.mark.usefixtures("notebook")
def test_a_chain_answers_about_text_and_features() -> None:
    chain = saetrack.open_chain("nano.L1.forward.s0")
    assert isinstance(chain.table(), pd.DataFrame) and len(chain.table()) == 4
    link = chain.link(lm_step=16)
    acts = chain.activations("Return the sum of all elements.", lm_step=16)
    assert acts.shape[1] == link.sae.d_sae == 64
    assert "".join(acts.index) == "Return the sum of all elements."
    assert (acts.to_numpy() >= 0).all() and (acts.to_numpy() > 0).any()
    rows = chain.decoder_row(3)
    assert rows.index.tolist() == [0, 1, 4, 16]
    assert torch.equal(torch.tensor(rows.to_numpy()[-1]), link.sae.W_dec[3].detach())
    feature = int(acts.max().argmax())
    contexts = chain.top_contexts(feature, lm_step=16, k=5)
    assert 0 < len(contexts) <= 5
    assert contexts["feature_act"].is_monotonic_decreasing
    for wrong in (
        lambda: chain.activations("", lm_step=16),
        lambda: chain.top_contexts(feature, lm_step=16, k=0),
        lambda: chain.activations(["a", "b"], lm_step=16),  # type: ignore[arg-type]
        lambda: chain.activations("a", lm_step=2),
        lambda: chain.decoder_row(64),
        lambda: saetrack.open_chain("nano.L9"),
    ):
        with pytest.raises(saetrack.UserError) as caught:
            wrong()
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("notebook")
def test_a_feature_that_is_active_nowhere_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = saetrack.open_chain("nano.L1.forward.s0")
    nowhere = np.full((64, 25), -1)
    contexts = SimpleNamespace(rows=nowhere, positions=nowhere, feature_acts=0.0 * nowhere)
    monkeypatch.setattr(chain, "_contexts", {16: contexts})
    with caplog.at_level("WARNING"):
        assert chain.top_contexts(3, lm_step=16).empty
    assert "feature 3 is active on no token of the text at step 16" in caplog.text
