"""Presets: named parameters of tracks, comparisons, analyses and sweeps, as YAML beside this file.

The command line, the API and `deployments/prefect.yaml` read the same ones. A file of the user's
own has the same form:

- `extends: NAME-OR-FILE` starts from another file of its kind, whose groups are merged deeply;
  an `sae` of another architecture takes the place of the one before.
- Within a comparison, an analysis or a sweep, a track is a mapping, or the name of a track's
  preset, or `{extends: NAME-OR-FILE, ...}` with what it changes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from saetrack.utils.errors import UserError
from saetrack.utils.files import user_path

Kind = Literal["track", "compare", "analyze", "sweep"]
KINDS: tuple[Kind, ...] = get_args(Kind)
EXTENDS = "extends"
# What says of a group which fields it has, and what it says where it is left out.
KIND_OF_GROUP, DEFAULT_KIND = "architecture", "relu"

log = logging.getLogger(__name__)


def preset_names(kind: Kind) -> list[str]:
    """The names that a user may give, sorted; those that begin with `_` are for other presets."""
    names = (path.name.removesuffix(".yaml") for path in (files(__name__) / kind).iterdir())
    return sorted(name for name in names if not name.startswith("_"))


def describe_preset(kind: Kind, name: str) -> str:
    """What a preset is, in a line: the first comment of its file."""
    first = (files(__name__) / kind / f"{name}.yaml").read_text().partition("\n")[0]
    return first.removeprefix("#").strip()


def load_preset(
    kind: Kind, name_or_file: str | None, changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The parameters of a preset, or of a file of one's own.

    Args:
        kind: track, compare, analyze or sweep.
        name_or_file: a name of `preset_names`, or the path of a YAML file; None: `changes` are all
            there is.
        changes: fields that are other than the preset has them; groups are merged deeply, unless
            one becomes of another kind: then a log line says which values of a file are dropped.

    Returns:
        What `saetrack.chain.config.load_config`, or the config of another kind, validates.

    Raises:
        UserError: there is no such preset or file, or it holds no parameters.

    Example:
        >>> load_preset("track", "mini", {"seed": 1})["seed"]
        1
    """
    values = {} if name_or_file is None else _read(kind, name_or_file, Path())
    changed = dict(changes or {})
    if changed.get("chain") and "track" not in changed:
        values.pop("track", None)  # a chain that is named is analysed in place of the preset's
    if name_or_file is not None:
        _tell_dropped(kind, name_or_file, changed)
    resolved: dict[str, Any] = _resolve(merge(values, _anchored(changed, Path())))
    return resolved


def fields_of_file(kind: Kind, path: str) -> tuple[set[str], str | None]:
    """What a file sets, with the files that it extends.

    Returns:
        The names of the fields, and that of the preset that is extended in the end; None if the
        fields are all that there is.

    Raises:
        UserError: a file cannot be read, or holds no parameters.
    """
    names: set[str] = set()
    seen: set[str] = set()
    base: Any = str(user_path(path))
    while isinstance(base, str) and is_path(base) and base not in seen:
        seen.add(base)
        values = _anchored(_parse(_text_of_file(kind, base), base), Path(base).parent)
        names |= values.keys() - {EXTENDS}
        base = values.get(EXTENDS)
    return names, base


def merge(
    base: Mapping[str, Any], changes: Mapping[str, Any], *, is_whole: bool = True
) -> dict[str, Any]:
    """A mapping with changes: groups are merged, everything else is replaced.

    An empty group replaces too: `controls: {}` leaves none. So does one of another kind: an `sae`
    of `architecture: topk` keeps nothing of a ReLU's.

    Args:
        base: what is changed.
        changes: by name.
        is_whole: whether a group of `base` that does not say its kind is of the default one, rather
            than of the one that its changes say.
    """
    merged = dict(base)
    for name, change in changes.items():
        before = merged.get(name)
        if (
            isinstance(before, Mapping)
            and isinstance(change, Mapping)
            and change
            and not (is_whole and _is_of_another_kind(before, change))
        ):
            change = merge(before, change, is_whole=is_whole)  # noqa: PLW2901
        merged[name] = change
    return merged


def _is_of_another_kind(before: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
    kind = change.get(KIND_OF_GROUP)
    return kind is not None and kind != before.get(KIND_OF_GROUP, DEFAULT_KIND)


def _tell_dropped(kind: Kind, name_or_file: str, changes: Mapping[str, Any]) -> None:
    """Log what a user's file sets of groups that changes make of another kind."""
    if is_path(name_or_file):
        path = str(user_path(name_or_file))
        for line in _dropped(_parse(_text_of_file(kind, path), path), changes):
            log.warning("%s: %s", path, line)


def _dropped(before: Any, changes: Any) -> Iterator[str]:
    if not isinstance(before, Mapping) or not isinstance(changes, Mapping):
        return
    for name, change in changes.items():
        group = before.get(name)
        if not isinstance(group, Mapping) or not isinstance(change, Mapping):
            continue
        values = [f"{key}={value}" for key, value in group.items() if key not in change]
        if not _is_of_another_kind(group, change):
            yield from _dropped(group, change)
        elif values:
            yield (
                f"{name}.{KIND_OF_GROUP}={change[KIND_OF_GROUP]} takes the place of its {name}: "
                f"without {', '.join(values)}"
            )


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """Changes as a command line gives them: `seed=1`, `corpus.context_size=256`, values as YAML.

    Raises:
        UserError: one of them is not a name and a value.
    """
    changes: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not all(name.split(".")):
            raise UserError(
                f"--set {text!r}: must be NAME=VALUE, for example corpus.context_size=256"
            )
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(
                f"--set {text!r}: the value is not YAML; quote it, or [list, it]"
            ) from None
        for part in reversed(name.split(".")):
            parsed = {part: parsed}
        changes = merge(changes, parsed, is_whole=False)
    return changes


def _read(
    kind: Kind, name_or_file: str, folder: Path, seen: tuple[str, ...] = (), field: str = ""
) -> dict[str, Any]:
    """A file's parameters, over those of the files that it extends; tracks within stay names.

    Args:
        kind: of the file.
        name_or_file: of the preset.
        folder: to which a path is relative.
        seen: files that led here.
        field: where it is named, for messages; of a command's own file its kind.
    """
    is_file = is_path(name_or_file)
    label = str(folder / user_path(name_or_file)) if is_file else name_or_file
    if label in seen:
        raise UserError(f"{EXTENDS}: {' extends '.join([*seen, label])}: goes round in a circle")
    values = _parse(
        _text_of_file(field or kind, label) if is_file else _text_of_preset(kind, label, field),
        label,
    )
    values = _anchored(values, Path(label).parent if is_file else Path())
    base = values.pop(EXTENDS, None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise UserError(f"{label}: {EXTENDS}={base!r}: must be the name of a preset, or a file")
    below = _read(kind, base, Path(), (*seen, label))
    _tell_dropped(kind, base, values)
    return merge(below, values)


def is_path(name_or_file: str) -> bool:
    """Whether it is a file, and no name."""
    return name_or_file.endswith((".yaml", ".yml")) or "/" in name_or_file


def _text_of_preset(kind: Kind, name: str, field: str = "") -> str:
    path = files(__name__) / kind / f"{name}.yaml"
    if not path.is_file():
        raise UserError(
            f"{field or kind}={name!r}: no such preset; there are "
            f"{', '.join(preset_names(kind))}; or give a file that ends with .yaml"
        )
    return path.read_text()


def _text_of_file(field: str, path: str) -> str:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise UserError(f"{field}={path!r}: cannot be read ({reason})") from None


def _parse(text: str, label: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{label}{where}: is not YAML") from None
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise UserError(f"{label}: must hold names and values, such as `model: mini`")
    return values


def _anchored(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Parameters with each name of a track as a mapping, and paths relative to no file."""

    def anchor(name: str, value: Any) -> Any:
        if name == "track" and isinstance(value, str):
            value = {EXTENDS: value}
        if isinstance(value, list):
            return [anchor("", item) for item in value]
        if isinstance(value, dict):
            return {key: anchor(str(key), item) for key, item in value.items()}
        if name == EXTENDS and isinstance(value, str) and is_path(value):
            return str(folder / user_path(value))
        return value

    return {name: anchor(name, value) for name, value in values.items()}


def _resolve(value: Any, field: str = "") -> Any:
    """Parameters with every track that extends a preset in full; `field` is where they stand."""

    def inner(items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
        at = f"{field}." if field else ""
        return {name: _resolve(item, f"{at}{name}") for name, item in items}

    if isinstance(value, list):
        return list(inner(enumerate(value)).values())
    if not isinstance(value, dict):
        return value
    resolved = inner(value.items())
    base = resolved.pop(EXTENDS, None)
    if base is None:
        return resolved
    if not isinstance(base, str):
        raise UserError(f"{EXTENDS}={base!r}: must be the name of a track's preset, or a file")
    below = _read("track", base, Path(), field=field)
    _tell_dropped("track", base, resolved)
    return merge(below, resolved)
