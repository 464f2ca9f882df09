"""Tables of LMs: a line each, or all that is known of one."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from saetrack.lm.catalog.architectures import hook_layer, memory_bytes
from saetrack.lm.catalog.entry import Entry
from saetrack.lm.catalog.models import EMBEDDED, ModelSpec, entries, find_model, spec_of
from saetrack.lm.checkpoints.on_disk import checkpoints_on_disk
from saetrack.lm.checkpoints.revisions import known_by_now, listed
from saetrack.lm.hook import Hook
from saetrack.utils.errors import UserError
from saetrack.utils.settings import load_settings

# A page's width where there is no terminal: rows stay whole, for grep.
PAGE = 170

HEAD = ("name", "repository", "checkpoints", "on disk", "layers", "hook", "GB to hook", "GB whole")


def print_families(name: str | None, *, checkpoints: bool) -> None:
    """Print what is known of all LMs, of a family or of one, or every checkpoint of one.

    Raises:
        UserError: there is no such LM, or its checkpoints cannot be listed.
    """
    cache_dir = load_settings().cache_dir
    console = Console(width=None if sys.stdout.isatty() else PAGE, highlight=False)
    found = [entry for entry in entries() if name in (None, entry.family or entry.name)]
    if checkpoints:
        _print_checkpoints(console, name)
    elif name is None:
        console.print(_table(found, cache_dir, EMBEDDED.values()))
    elif sum(len(entry.variants) for entry in found) > 1:
        console.print(_table(found, cache_dir))
        console.print(_facts(_of_family(found[0])))
    else:
        spec, obstacle = _with_list(find_model(name), cache_dir)
        console.print(_facts(_of_model(spec, cache_dir, obstacle)))


def family_names(name: str | None) -> list[dict[str, object]]:
    """Every LM that a track's `model` may name, those of a family, or one, for a script.

    Raises:
        UserError: there is no such LM.
    """
    cache_dir = load_settings().cache_dir
    specs = [*EMBEDDED.values()]
    specs += [known_by_now(spec_of(one), cache_dir) for entry in entries() for one in entry.each()]
    found: list[dict[str, object]] = [
        {
            "name": spec.name,
            "repository": spec.repo,
            "family": spec.entry.family if spec.entry else "embedded",
            "checkpoints": len(spec.lm_steps),
            "on_disk": checkpoints_on_disk(spec, cache_dir),
            "n_layers": spec.n_layers,
            "d_model": spec.d_model,
            "layer": _first_layer(spec),
            "norm": spec.norm,
        }
        for spec in specs
    ]
    found = [one for one in found if name in (None, one["family"], one["name"])]
    if not found and name is not None:
        find_model(name)  # says which are like it
    return found


def checkpoint_rows(name: str | None) -> list[dict[str, object]]:
    """Every checkpoint of an LM: `checkpoint_index`, `lm_step`, `revision`, `repository`.

    Raises:
        UserError: there is no such LM, or its checkpoints cannot be listed.
    """
    if name is None:
        raise UserError("--checkpoints: of which LM? For example `families mini --checkpoints`")
    spec, obstacle = _with_list(find_model(name), load_settings().cache_dir)
    if not spec.lm_steps:
        raise UserError(obstacle)
    return [
        {
            "checkpoint_index": index,
            "lm_step": lm_step,
            "revision": spec.revision(index),
            "repository": spec.places[index][0] if spec.places else spec.repo,
        }
        for index, lm_step in enumerate(spec.lm_steps)
    ]


def _print_checkpoints(console: Console, name: str | None) -> None:
    rows = checkpoint_rows(name)
    own = find_model(str(name)).repo
    table = Table("checkpoint_index", "lm_step", "revision", box=None, pad_edge=False)
    for row in rows:
        of = "" if row["repository"] == own else f" of {row['repository']}"
        index, lm_step = str(row["checkpoint_index"]), str(row["lm_step"])
        table.add_row(index, lm_step, escape(f"{row['revision']}{of}"))
    console.print(table)


def _with_list(spec: ModelSpec, cache_dir: Path) -> tuple[ModelSpec, str]:
    """An LM with the newest list of its checkpoints, and why the hub could not be asked for it."""
    if spec.entry is None or not spec.entry.is_listed_by_the_hub or spec.entry.remote_code:
        return spec, ""
    try:
        return listed(spec, cache_dir, renew=True), ""
    except UserError as error:
        return known_by_now(spec, cache_dir), str(error)


def _table(shown: list[Entry], cache_dir: Path, embedded: Iterable[ModelSpec] = ()) -> Table:
    table = Table(*HEAD, box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[2:]:
        column.justify = "right"
    if embedded:
        table.add_row("[bold]embedded", "made on this machine, of packages' documentation")
    for spec in embedded:
        table.add_row(f"  {spec.name}", "", *_row([spec], cache_dir))
    for family, members in groupby(shown, key=lambda entry: entry.family or entry.name):
        first, *rest = members
        table.add_row(f"[bold]{escape(family)}", escape(f"{first.corpus}; {first.licence}"))
        for entry in (first, *rest):
            specs = [known_by_now(spec_of(one), cache_dir) for one in entry.each()]
            names = (escape(part + _ends(entry)) for part in (f"  {entry.name}", entry.repo))
            table.add_row(*names, *_row(specs, cache_dir))
    return table


def _ends(entry: Entry) -> str:
    """What sets an entry's variants apart."""
    *others, last = [end for end in entry.variants if end] or [""]
    shown = f"{others[0]} to {last}" if others else last
    return f"[{shown}]" if shown and "" in entry.variants else shown


def _row(variants: list[ModelSpec], cache_dir: Path) -> list[str]:
    spec = variants[0]
    on_disk = sum(checkpoints_on_disk(one, cache_dir) for one in variants)
    return [
        _count(spec),
        str(on_disk or "-"),
        f"{spec.n_layers} x {spec.d_model}" if spec.n_layers else "in config.json",
        _hook(spec),
        _gigabytes(spec, _first_layer(spec)),
        _gigabytes(spec, None),
    ]


def _count(spec: ModelSpec) -> str:
    if spec.entry is not None and spec.entry.has_only_final:
        return "final only"
    return str(len(spec.lm_steps)) if spec.lm_steps else "on the hub"


def _first_layer(spec: ModelSpec) -> int | None:
    """The layer to hook first."""
    return spec.n_layers // 2 if spec.entry is None else hook_layer(spec.entry)


def _hook(spec: ModelSpec) -> str:
    if spec.entry is not None and spec.entry.remote_code:
        return "not loaded"
    layer = _first_layer(spec)
    return "?" if layer is None else f"{layer} {'raw' if spec.norm == 'rms' else 'centred'}"


def _gigabytes(spec: ModelSpec, layer: int | None, bytes_per_weight: int = 4) -> str:
    needed = None if spec.entry is None else memory_bytes(spec.entry, layer, bytes_per_weight)
    return "-" if needed is None else f"{needed / 1e9:.2f}"


def _of_family(entry: Entry) -> dict[str, str | None]:
    return {
        "revisions": _naming(entry),
        "lm_step counts": entry.counts,
        "corpus": entry.corpus,
        "licence": entry.licence,
        "note": entry.note,
        "documentation": entry.documentation,
    }


def _of_model(spec: ModelSpec, cache_dir: Path, obstacle: str) -> dict[str, str | None]:
    layer, steps = _first_layer(spec), spec.lm_steps
    ends = (steps[0], steps[-1]) if steps else ()
    rows = f", rows of {spec.max_context:,} tokens at most" if spec.max_context else ""
    facts: dict[str, str | None] = {
        "name": spec.name,
        "repository": spec.repo or "none: it is made on this machine",
        "checkpoints": _count(spec) + (f"; {obstacle}" if obstacle else ""),
        "lm_step": " to ".join(f"{step:,}" for step in dict.fromkeys(ends)) or None,
        "on disk": str(checkpoints_on_disk(spec, cache_dir)),
        "layers": f"{spec.n_layers} x {spec.d_model}{rows}" if spec.n_layers else "in config.json",
        "hook": Hook("resid_pre", layer).name if layer is not None else None,
    }
    if spec.n_layers and not (spec.entry and spec.entry.remote_code):
        facts["residual"] = (
            "raw (an RMSNorm reads the mean that centring takes away)"
            if spec.norm == "rms"
            else "centred, as the paper has it; or raw"
        )
    if _gigabytes(spec, None) != "-":
        for precision, size in (("float32", 4), ("bfloat16", 2)):
            to_hook, whole = (_gigabytes(spec, up_to, size) for up_to in (layer, None))
            facts[f"GB in {precision}"] = f"{to_hook} up to the hook, {whole} whole"
    if spec.entry is not None:
        facts |= _of_family(spec.entry)
        if spec.entry.remote_code:
            facts["cannot be loaded"] = "it needs code of its repository, which is never run here"
    return facts


def _naming(entry: Entry) -> str:
    if entry.has_only_final:
        return "main: no checkpoints of its training are public"
    if entry.checkpoints is not None:
        return "a repository each"
    named = " or ".join(entry.patterns)
    if entry.main_lm_step is not None:
        named += ", then main"
    return named + (", as the hub lists them" if entry.is_listed_by_the_hub else "")


def _facts(facts: dict[str, str | None]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for label, fact in facts.items():
        if fact is not None:
            table.add_row(f"[bold]{label}", escape(fact))
    return table
