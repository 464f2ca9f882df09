"""`saetrack compare NAME-OR-FILE`: a chain beside conventional SAEs."""

from __future__ import annotations

from saetrack.chain.presets import load_preset, parse_changes
from saetrack.cli.options import AsJson, Changes, CompareName, Quiet, Verbose
from saetrack.cli.terminal import leads, log_to_stderr, resumable, say
from saetrack.cli.track import train_here


def compare(
    name: CompareName,
    changes: Changes = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Train what is missing of chains and conventional SAEs, and compare them (appendix I.1).

    ```sh
    saetrack compare mini
    saetrack compare mini --set track=mini-reverse --set seeds=[0,1]
    ```
    """
    values = load_preset("compare", name, parse_changes(changes or []))
    log_to_stderr(quiet=quiet, verbose=verbose)
    from saetrack.analysis.pipeline.config import load_compare_config

    config = load_compare_config(values)
    chains = [train_here(one)[1] for one in config.chains()]
    conventional = [train_here(one)[1] for one in config.conventional()]
    if not leads():
        return
    from saetrack.analysis.pipeline.compare import compare_chains

    layers = zip(
        zip(*(one.track.chains for one in chains), strict=True),
        zip(*(one.track.chains for one in conventional), strict=True),
        strict=True,
    )
    with resumable("all SAEs that were trained are registered"):
        done = [
            compare_chains(chains[0].registry, list(of_layer), list(beside))
            for of_layer, beside in layers
        ]
    say({"done": done}, "\n".join(done), as_json=as_json)
