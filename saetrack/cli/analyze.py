"""`saetrack analyze NAME-OR-FILE-OR-CHAIN`: the paper's analyses of a registered chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from saetrack.chain.presets import load_preset, parse_changes
from saetrack.cli.config_files import chain_of, read_config
from saetrack.cli.options import AnalyzeName, AsJson, Changes, Quiet, Replicates, Verbose
from saetrack.cli.terminal import leads, log_to_stderr, resumable, say
from saetrack.cli.track import train_here

if TYPE_CHECKING:
    from saetrack.analysis.pipeline.config import AnalyzeConfig
    from saetrack.chain.config import TrackConfig

KEPT = "every checkpoint that was read is kept in the cache"


def analyze(
    name: AnalyzeName,
    replicates: Replicates = None,
    with_controls: Annotated[
        bool,
        typer.Option(
            "--with-controls",
            help="First train what is missing: the chains that are analysed, and all controls.",
        ),
    ] = False,
    changes: Changes = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Find out what the features of a registered chain mean, how they form and drift.

    Tables, figures and a page of all go to a run in MLflow. Controls that are not registered are
    left out, and a log line says so. Further names, of tracks or chains, are replicates: analysed
    alike, with headline numbers as mean and interval over all.

    ```sh
    saetrack analyze mini --with-controls
    saetrack analyze mini.L2.forward                       # any registered chain
    saetrack analyze my-track.yaml                         # the chains of a track of your own
    saetrack analyze mini mini-second-seed mini.L3.forward # with two replicates
    saetrack analyze mini --set chain=mini.L2.forward      # the same with the preset's controls
    ```
    """
    log_to_stderr(quiet=quiet, verbose=verbose)
    values = values_of(name, parse_changes(changes or []))
    if replicates:
        values["replicates"] = [replicate_of(one) for one in replicates]
    from saetrack.analysis.pipeline.config import load_analyze_config
    from saetrack.utils.settings import load_settings

    config, settings = load_analyze_config(values), load_settings()
    if with_controls:
        for track in tracks_of(config, base_of(config)):
            train_here(track)
    if not leads():
        return
    from saetrack.analysis.pipeline.analyze import open_analyses

    with resumable(KEPT):
        analyses = open_analyses(config, settings)
    with resumable(KEPT, analyses):
        done = analyses.run()
    say({"done": done, "runs": analyses.runs()}, "\n".join(done), as_json=as_json)


def replicate_of(name: str) -> str | dict[str, Any]:
    """A registered chain by its name, or the parameters of a track's preset or file."""
    return chain_of("track", name) or read_config("track", name)


def values_of(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a preset or a file, of a chain's name or a track and nothing else."""
    if chain := chain_of("analyze", name):
        return load_preset("analyze", None, {"chain": chain, **changes})
    return read_config("analyze", name, changes)


def base_of(config: AnalyzeConfig) -> TrackConfig:
    """The track of the chain that is analysed, whose controls a config names."""
    return _track_of(config.track or str(config.chain))


def _track_of(named: TrackConfig | str) -> TrackConfig:
    """A track, or that of a registered chain by its name."""
    if not isinstance(named, str):
        return named
    from saetrack.registry import Registry
    from saetrack.utils.settings import load_settings

    return Registry.existing(load_settings()).config_of(named)


def tracks_of(config: AnalyzeConfig, base: TrackConfig) -> list[TrackConfig]:
    """The tracks whose chains an analysis reads: of itself, beside, of replicates, of controls.

    Raises:
        UserError: a control is none of the chain's, nor of those beside it.
    """
    config.require_fitting_controls([base, *map(_track_of, config.beside)])
    replicates = [one for one in config.replicates if not isinstance(one, str)]
    named = [one for one in (config.track, *config.beside) if one and not isinstance(one, str)]
    tracks = [*named, *replicates, *(control.track for control in config.controls.values())]
    for replicate in replicates:
        tracks += [control.track for control in config.controls_over(base, replicate).values()]
    return list({one.model_dump_json(): one for one in tracks}.values())
