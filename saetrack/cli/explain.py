"""`saetrack explain CHAIN`: what features mean in words, and at which links that is true."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from saetrack.cli.options import AsJson, ChainName, Quiet, Verbose
from saetrack.cli.terminal import log_to_stderr, resumable, say

Count = Annotated[
    int, typer.Option(min=1, help="How many, drawn from those that are live at the last link.")
]
Feature = Annotated[
    list[int] | None,
    typer.Option(min=0, help="One by its number, in place of many; may be given several times."),
]
Directions = Annotated[
    int,
    typer.Option(
        min=0, max=64, help="Random directions beside them at each place, a control; 0: none."
    ),
]
At = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LM_STEP",
        help="Where they are explained: an LM step, `last` (unless given), or `formed`: where each "
        "is formed; may be given several times.",
    ),
]
Rules = Annotated[bool, typer.Option("--rules", help="Rules explain, even if an endpoint is set.")]
Folder = Annotated[
    Path | None, typer.Option(help="An LM on this machine explains, from its folder.")
]
Price = Annotated[float | None, typer.Option(min=0, help="Of a million tokens, in any currency.")]
Requests = Annotated[int, typer.Option(min=0, help="Requests at most; 0: any number.")]
Tokens = Annotated[int | None, typer.Option(min=1, help="Tokens at most, sent and received.")]
Money = Annotated[float | None, typer.Option(min=0, help="Money at most, by the two prices.")]
AtOnce = Annotated[int, typer.Option(min=1, help="Requests at the same time.")]
Plan = Annotated[bool, typer.Option("--plan", help="Say what it would cost, and send nothing.")]


def explain(
    chain: ChainName,
    features: Count = 32,
    feature: Feature = None,
    directions: Directions = 16,
    at: At = None,
    rules: Rules = False,
    model_folder: Folder = None,
    price_in: Price = None,
    price_out: Price = None,
    budget_requests: Requests = 10_000,
    budget_tokens: Tokens = None,
    budget_money: Money = None,
    at_once: AtOnce = 8,
    plan: Plan = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Explain features in words, from contexts of one link, and judge that at every link.

    Does an explanation tell texts on which the feature fires from others (detection), and right
    marks from wrong ones (fuzzing)? Since when is it true, until when? Explanations of other
    features, and of random directions that fire as often, stand beside. SAETRACK_EXPLAINER_URL,
    _MODEL and _API_KEY name a model that is asked; without, rules explain. What it costs is said
    before anything is sent.

    ```sh
    saetrack explain mini.L2.forward.s0 --features 64 --at formed --at last
    ```
    """
    given = {**locals(), "budget_requests": budget_requests or None}
    log_to_stderr(quiet=quiet, verbose=verbose)
    from saetrack.analysis.explanations.config import explain_config
    from saetrack.analysis.pipeline.explain import open_explaining
    from saetrack.utils.settings import load_settings

    explaining = open_explaining(explain_config(given), load_settings())
    if plan:
        cost = explaining.cost()
        lines = [explaining.title, *explaining.lines_of(cost)]
        say(asdict(cost), "\n".join(lines), as_json=as_json)
        return
    with resumable("every answer is kept", explaining):
        done = explaining.run()
    result = {"done": done, "chain": explaining.chain_name, "run": explaining.run_id}
    say(result, done, as_json=as_json)
