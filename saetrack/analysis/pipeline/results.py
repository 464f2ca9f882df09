"""The newest analyses of a registry, judged claim by claim: `saetrack results`."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pandas as pd

from saetrack.analysis.pipeline.replicates import REPLICATES, read_headline, read_joined
from saetrack.analysis.results.pages import Group
from saetrack.analysis.results.replicates import ALL
from saetrack.registry import Registry
from saetrack.registry.analyses import LoggedReport, Reports
from saetrack.utils.errors import UserError

log = logging.getLogger(__name__)

RATIO = "equal_quality_token_ratio"
JUDGED = ("forward", "reverse")


def newest_groups(registry: Registry) -> list[Group]:
    """What is judged: replicates that were analysed together, and each other chain alone.

    Of each chain and of each set of replicates the newest analysis counts. Controls that were
    analysed themselves are left out, and so are analyses of a release that kept no headline
    numbers; a log line says so.

    Raises:
        UserError: nothing was analysed yet, or files of the registry are not on this machine.
    """
    reports = registry.reports
    chains = registry.chains()
    for lm_name in sorted(set(chains["lm"])):
        registry.require_files(lm_name)
    judged = set(chains.loc[chains["direction"].isin(JUDGED), "name"]) if len(chains) else set()
    headlines = [
        *(read_joined(reports, run) for run in reports.newest(REPLICATES)),
        *_of_single_chains(reports, judged),
    ]
    comparisons = reports.newest("comparison")
    groups: list[Group] = []
    seen: set[str] = set()
    for headline in sorted(headlines, key=lambda table: -table["chain"].nunique()):
        names = set(headline["chain"].unique())
        if not names <= seen:  # else a larger group holds all of them
            groups.append(Group(_title(headline), headline, _compared(names, comparisons)))
            seen |= names
    if not groups:
        raise UserError(
            "nothing was analysed yet that results could be written of; "
            "saetrack analyze mini --with-controls makes an analysis"
        )
    return groups


def _of_single_chains(reports: Reports, judged: set[str]) -> Iterator[pd.DataFrame]:
    for run in reports.newest("analysis"):
        if run.tags.get("chain") not in judged:
            continue
        try:
            yield read_headline(reports, run)
        except UserError as error:
            log.warning("%s is left out: %s", run.title, error)


def _title(headline: pd.DataFrame) -> str:
    """The LM and the hook, or how many of them."""
    parts = []
    for axis, many in (("lm", "LMs"), ("hook", "hooks"), ("sae_seed", "seeds")):
        values = headline[axis].unique()
        word = f"seed {values[0]}" if axis == "sae_seed" else str(values[0])
        parts.append(word if len(values) == 1 else f"{len(values)} {many} ({values[0]} ...)")
    return ", ".join(parts)


def _compared(chains: set[str], comparisons: list[LoggedReport]) -> pd.DataFrame:
    """How many tokens a link takes, of the newest comparison that has one of the chains."""
    for run in comparisons:
        if RATIO + "_mean" in run.metrics and any(name in str(run.tags) for name in chains):
            mean, low, high = (run.metrics[f"{RATIO}_{of}"] for of in ("mean", "min", "max"))
            row = {"over": ALL, "name": "tokens_of_a_link_over_conventional", "control": ""}
            seeds = len(str(run.tags.get("seeds", "")).split(","))
            found = {"unit": "share", "n": seeds, "mean": mean, "low": low, "high": high}
            return pd.DataFrame([row | found | {"interval": "range", "features": float("nan")}])
    return pd.DataFrame()
