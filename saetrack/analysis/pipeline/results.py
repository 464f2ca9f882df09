"""The newest analyses of a registry, judged claim by claim: `saetrack results`."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from saetrack import __version__
from saetrack.analysis.pipeline.replicates import REPLICATES, read_headline, read_joined
from saetrack.analysis.results.claims import Verdict
from saetrack.analysis.results.pages import INDEX_FILE, Group, verdicts, write_results
from saetrack.analysis.results.replicates import FEATURES
from saetrack.registry import Registry
from saetrack.registry.analyses import LoggedReport, Reports
from saetrack.utils.errors import UserError
from saetrack.utils.files import content_hash

log = logging.getLogger(__name__)

# Raise when rules or pages change: the same analyses are then judged again.
RULES_VERSION = 3
# Names the experiment, and the kind of its runs.
RESULTS = "results"
RATIO = "equal_quality_token_ratio"
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
NAMED = 4  # of LMs, hooks or seeds, in a title
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
        if names <= seen:  # a larger group holds all of them
            _tell_left_out(headline, groups)
        else:
            compared = _compared(headline, comparisons)
            found = pd.concat([headline.assign(interval=FEATURES), compared], ignore_index=True)
            groups.append(Group(_title(headline), found))
            seen |= names
    if not groups:
        raise UserError(
            "nothing was analysed yet that results could be written of; "
            "saetrack analyze mini --with-controls makes an analysis"
        )
    return groups


def _tell_left_out(headline: pd.DataFrame, groups: list[Group]) -> None:
    """Of an analysis whose chains are all judged already, in more than one group or in a larger."""
    names, runs = set(headline["chain"]), set(headline["run"])
    for group in groups:
        has = set(group.headline["chain"])
        if runs <= set(group.headline["run"]) or names == has:  # the same, or an earlier one of it
            return
    log.warning("left out, since larger groups have all of it: %s", _title(headline))


def register_results(registry: Registry) -> str:
    """Judge all claims, and keep the pages as a run of MLflow's experiment `results`.

    The same analyses are judged once.

    Returns:
        How many claims stand on the chains that are the most, and where the pages are, in a line.

    Raises:
        UserError: as `newest_groups`.
    """
    groups = newest_groups(registry)
    runs = sorted({str(run) for group in groups for run in group.headline["run"]})
    identity, reports = content_hash([RULES_VERSION, *runs]), registry.reports
    found = verdicts(groups)
    of_largest = found[found["group"] == groups[0].title]
    counts = {verdict: int((of_largest["verdict"] == verdict).sum()) for verdict in VERDICTS}
    if not reports.has(RESULTS, identity):
        registry.require_files(RESULTS, writes=True)
        facts = {"kind": RESULTS, "identity": identity, "release": __version__}
        metrics = {name.replace(" ", "_"): float(count) for name, count in counts.items()}
        with tempfile.TemporaryDirectory() as draft:
            write_results(groups, Path(draft))
            reports.log(RESULTS, groups[0].title, Path(draft), metrics=metrics, facts=facts)
    said = ", ".join(f"{verdict}: {count}" for verdict, count in counts.items())
    where = reports.where(RESULTS, identity, INDEX_FILE)
    return f"claims of the paper on {groups[0].title}: {said}; {where}"


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
        named = ", ".join(map(str, values[:NAMED])) + (" ..." if len(values) > NAMED else "")
        parts.append(word if len(values) == 1 else f"{len(values)} {many} ({named})")
    return ", ".join(parts)


def _compared(headline: pd.DataFrame, comparisons: list[LoggedReport]) -> pd.DataFrame:
    """How many tokens a link takes over each of the LMs, of its newest comparison.

    A comparison is of an LM and a hook: its chains are others, since they are evaluated more often.

    Returns:
        Rows as `headline` has them, one for each LM and hook that were compared; the interval is
        the range of the comparison's seeds.
    """
    rows: list[dict[str, Any]] = []
    for (lm, hook), of_hook in headline.groupby(["lm", "hook"], sort=False):
        of_same = (
            run
            for run in comparisons
            if (run.tags.get("lm"), run.tags.get("hook")) == (lm, hook)
            and f"{RATIO}_mean" in run.metrics
        )
        if newest := next(of_same, None):
            chain = of_hook.iloc[0][["chain", "lm", "sae_seed", "hook"]]
            rows.append({**chain, **_tokens_of_a_link(newest)})
    return pd.DataFrame(rows)


def _tokens_of_a_link(comparison: LoggedReport) -> dict[str, Any]:
    value, low, high = (comparison.metrics[f"{RATIO}_{of}"] for of in ("mean", "min", "max"))
    several = low < high  # of one seed there is no range
    return {
        "name": "tokens_of_a_link_over_conventional",
        "control": "",
        "role": "",
        "value": value,
        "low": low if several else float("nan"),
        "high": high if several else float("nan"),
        "interval": "range of seeds",
        "unit": "share of the tokens",
        "features": float("nan"),
        "run": comparison.run_id,
        "release": comparison.tags.get("release", ""),
    }
