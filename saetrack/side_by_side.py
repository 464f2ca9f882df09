"""Several analysed chains on one page: layers of an LM, or LMs (paper, appendix K)."""

from __future__ import annotations

from saetrack.analyze import analysis_identity
from saetrack.config import AnalyzeConfig
from saetrack.files import digest
from saetrack.settings import Settings
from saetrack.subject import Subject, controls_of

# Raise when the page changes: the same chains are then laid side by side again.
PAGE_VERSION = 1


def lay_side_by_side(config: AnalyzeConfig, settings: Settings, subjects: list[Subject]) -> str:
    """Draw the figures of several analyses as columns of one, and match features between layers.

    Args:
        config: under which all of them were analysed.
        settings: of the controls.
        subjects: the chains.

    Returns:
        What was done, in a line.
    """
    first = subjects[0]
    reports = first.ready.registry.reports
    identities = {
        one.chain.name: analysis_identity(config, one, controls_of(config, settings, one.chain))
        for one in subjects
    }
    identity = digest([PAGE_VERSION, identities])
    title = f"side by side · {', '.join(_label(one) for one in subjects)}"
    lm_name = first.chain.lm_name
    if reports.has(lm_name, identity):
        return f"{title}: was made before, in MLflow's experiment {lm_name}"
    return title


def _label(one: Subject) -> str:
    return f"{one.chain.lm_name} L{one.chain.layer}"
