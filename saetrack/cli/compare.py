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
    prepared = [train_here(one)[1] for one in config.chains()]
    conventional = [train_here(one)[1].track for one in config.conventional()]
    if not leads():
        return
    from saetrack.analysis.pipeline.compare import by_layer, compare_chains

    registry, tracks = prepared[0].registry, [one.track for one in prepared]
    with resumable("all SAEs that were trained are registered"):
        done = [
            compare_chains(registry, chains, beside)
            for chains, beside in by_layer(tracks, conventional)
        ]
    say({"done": done}, "\n".join(done), as_json=as_json)
