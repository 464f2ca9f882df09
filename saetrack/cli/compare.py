"""`saetrack compare NAME-OR-FILE`: a chain beside other SAEs, kinds of SAE, or a crosscoder."""

from __future__ import annotations

from saetrack.chain.presets import parse_changes
from saetrack.cli.config_files import read_config
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
    """Train what is missing of several chains, and compare them.

    A chain stands beside conventional SAEs (appendix I.1), or beside a crosscoder over some of its
    checkpoints; or chains of several kinds of SAE stand side by side, each with a frozen control.

    ```sh
    saetrack compare mini
    saetrack compare mini-architectures
    saetrack compare mini-crosscoder
    saetrack compare mini --set track=mini-reverse --set seeds=[0,1]
    ```
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    values = read_config("compare", name, parse_changes(changes or []))
    from saetrack.analysis.pipeline.config import load_compare_config

    config = load_compare_config(values)
    trained = [train_here(one)[1] for one in config.all_tracks()]
    if not leads():
        return
    if config.crosscoder is not None:
        from saetrack.training.crosscoder import train_crosscoders

        with resumable("crosscoders that were trained are registered, one in training begins anew"):
            train_crosscoders(trained[-len(config.seeds) :], config.crosscoder)
    with resumable("all SAEs are registered, and so is each comparison that is finished"):
        from saetrack.analysis.pipeline.compare import compare_trained
        from saetrack.utils.settings import load_settings

        done = compare_trained(config, [one.track for one in trained], load_settings())
    say({"done": done}, "\n".join(done), as_json=as_json)
