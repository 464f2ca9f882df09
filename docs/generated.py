# ruff: noqa: INP001  (pages and what builds them, not a package)
"""Pages that are written from the code itself, so that they cannot fall behind it.

Commands, the catalogue of LMs and one page of docstrings per room are written when the pages are
built. Settings and fields of configs stand in their pages, for whoever reads the sources: `make
format` writes them anew, and a test says when they are not those of the code.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "saetrack"
BEGIN, END = "<!-- written by `make format` -->", "<!-- to here -->"
# Triton's own language: its functions cannot be described as Python's are.
UNDESCRIBED = {"saetrack.sae.kernels.triton_kernels"}


def write_all(folder: Path) -> None:
    """Write every generated page; a page that stays as it is keeps its time, for Sphinx."""
    write(folder / "commands.md", commands())
    write(folder / "models.md", catalogue())
    write(folder / "api.md", public_names())
    write(folder / "room_table.md", room_table())
    rooms = {name: room_page(name, modules) for name, modules in rooms_and_modules()}
    for name, page in rooms.items():
        write(folder / "rooms" / f"{name}.rst", page)
    for path in (folder / "rooms").glob("*.rst"):
        if path.stem not in rooms:
            path.unlink()
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        write(folder / name, top_level(name))


def write_kept() -> None:
    """Write what is generated into the pages that keep it."""
    for path, text in kept_pages().items():
        write(path, text)


def kept_pages() -> dict[Path, str]:
    """The pages that keep what is generated, as they should be."""
    docs = Path(__file__).parent
    kept = {
        docs / "settings.md": settings(),
        docs / "reference" / "config.md": config_fields(),
    }
    return {path: _with_kept(path.read_text(), found) for path, found in kept.items()}


def _with_kept(page: str, found: str) -> str:
    """A page with what is between its two marks replaced."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n\n{found.strip()}\n\n{end}{after}"


# IPython's own %%bash hands on a command's output in pieces of 100 bytes, between which line breaks
# appear on a page. This one prints it whole, log lines and result in the order of the terminal.
BASH = """
import subprocess, sys
from IPython.core.magic import register_cell_magic

@register_cell_magic
def bash(line, cell):
    done = subprocess.run(["bash", "-c", cell], stdout=-1, stderr=subprocess.STDOUT, text=True)
    sys.stdout.write(done.stdout)
    if "--no-raise-error" not in line:
        done.check_returncode()
"""


def notebook_profile(folder: Path) -> Path:
    """IPython's folder for the kernels that execute tutorials."""
    write(folder / "profile_default" / "startup" / "bash.py", BASH)
    return folder


def write(path: Path, text: str) -> None:
    """Write a page unless it is there already, word for word."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def commands() -> str:
    """The command line, as Typer describes it."""
    path = Path(__file__).parent / "_generated" / "commands.raw"
    path.parent.mkdir(exist_ok=True)
    typer = [sys.executable, "-m", "typer", "saetrack.cli.main", "utils", "docs"]
    subprocess.run(
        [*typer, "--name", "saetrack", "--output", str(path)],
        check=True,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )
    text = path.read_text()
    path.unlink()
    # A page has one title; Typer's own is the page's. In its list, summaries are cut: here whole.
    summaries = dict(
        re.findall(r"^## `saetrack (\S+)`\n\n(.+?)\n\n", text, re.DOTALL | re.MULTILINE)
    )
    for name, said in summaries.items():
        line = f"* [`{name}`](#saetrack-{name}): {' '.join(said.split())}"
        text = re.sub(rf"^\* `{name}`: .*$", lambda _, line=line: line, text, flags=re.MULTILINE)
    return text.partition("\n")[2].lstrip()


def settings() -> str:
    """Every setting, from the class that reads it."""
    from saetrack.utils.settings import PREFIX, Settings

    rows = [
        (f"`{PREFIX}{name.upper()}`", _code(field.default), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return table(("variable", "default", "meaning"), rows)


def config_fields() -> str:
    """The fields of a track, an analysis, a comparison and a sweep."""
    from saetrack.analysis.pipeline.config import AnalyzeConfig, CompareConfig
    from saetrack.chain.config import TrackConfig
    from saetrack.chain.sweep import SweepConfig

    kinds = {"track": TrackConfig, "analyze": AnalyzeConfig}
    kinds |= {"compare": CompareConfig, "sweep": SweepConfig}
    parts = []
    for name, kind in kinds.items():
        schema = kind.model_json_schema()
        definitions = schema.pop("$defs", {})
        parts.append(f"## {name}\n\n{_fields(schema)}")
        if kind is TrackConfig:
            pieces = definitions["Piece"]["properties"]
            groups = schema["properties"] | {"tokens": pieces["tokens"]}
            parts += [_group(group, field, definitions) for group, field in groups.items()]
        if kind is CompareConfig:
            parts.append(_group("crosscoder", schema["properties"]["crosscoder"], definitions))
    return "\n\n".join(filter(None, parts))


def _group(name: str, field: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The fields of a group; of each kind, where it may be one of several."""
    kinds = [definitions[kind] for kind in re.findall(r"#/\$defs/(\w+)", json.dumps(field))]
    kinds = [kind for kind in kinds if "properties" in kind]
    if not kinds:
        return ""
    said = [f"{kind['description'].partition(chr(10))[0]}\n\n" for kind in kinds]
    tables = [
        f"{about if len(kinds) > 1 else ''}{_fields(kind)}"
        for about, kind in zip(said, kinds, strict=True)
    ]
    return "\n\n".join([f"### {name}", *tables])


def _fields(schema: dict[str, Any]) -> str:
    said = _attributes(schema.get("description", ""))
    rows = []
    for name, field in schema["properties"].items():
        meaning = field.get("description") or said.get(name, "")
        rows.append((f"`{name}`", _type(name, field), _default(field), meaning))
    return table(("field", "type", "default", "meaning"), rows)


def _attributes(docstring: str) -> dict[str, str]:
    """What a docstring says of each attribute."""
    block = docstring.partition("Attributes:\n")[2]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", block, re.MULTILINE)
    return {name: " ".join(said.split()) for name, said in found}


def _kind(field: dict[str, Any]) -> str:
    """The name of the class that a field refers to, or ''."""
    for where in (field, field.get("items", {})):
        if "$ref" in where:
            return str(where["$ref"]).rpartition("/")[2]
    return ""


def _type(name: str, field: dict[str, Any]) -> str:
    if _kind(field):
        shared = {"beside": "track", "controls": "track", "replicates": "track"}
        shared |= {"first_tokens": "tokens"}
        group = shared.get(name, name)
        return (
            f"[list of pieces](#{group})" if field.get("type") == "array" else f"[group](#{group})"
        )
    if "enum" in field:
        return " or ".join(_code(value) for value in field["enum"])
    if kinds := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(name, one) for one in kinds))
    if field.get("type") == "array":
        return f"list of {_type(name, field.get('items', {}))}".removesuffix(" of ")
    names = {"number": "number", "string": "text", "object": "mapping"}
    kind = names.get(field.get("type", ""), str(field.get("type", "")))
    limits = [
        f"{sign} {field[key]}"
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in field
    ]
    return ", ".join([kind, *limits])


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return "required"
    return "" if _kind(field) else _code(field["default"])


def _code(value: Any) -> str:
    from pydantic_core import PydanticUndefined

    if value is PydanticUndefined:
        return "required"
    return "none" if value is None else f"`{value}`"


def catalogue() -> str:
    """Every family of LMs with a name."""
    from saetrack.lm.catalog.models import entries

    def row(entry: Any) -> tuple[str, ...]:
        names = [f"`{one.name}`" for one in entry.each()]
        shown = ", ".join(names) if len(names) < 4 else f"{names[0]} to {names[-1]}"
        count = (
            "final only" if entry.has_only_final else str(len(entry.places) or "listed by the hub")
        )
        shape = f"{entry.n_layers} × {entry.d_model}" if entry.n_layers else ""
        return shown, entry.repo, count, shape

    parts = []
    published = [entry for entry in entries() if entry.licence is not None]
    for family, members in groupby(published, key=lambda entry: entry.family or entry.name):
        entries_of = list(members)
        first = entries_of[0]
        about = f"Text: {first.corpus}. Licence: {first.licence}."
        head = ("name", "repository", "checkpoints", "layers × width")
        parts.append(f"## {family}\n\n{about}\n\n{table(head, map(row, entries_of))}")
    return "\n\n".join(parts)


# What a notebook needs of the public classes. The rest of their methods is described in the rooms,
# their fields among the fields of a config and the settings.
NOTEBOOK_MEMBERS = {
    "SAE": ":members: d_in, d_sae, encode, decode",
    "Registry": ":members: chains, chain_names, links, pull",
    "Settings": ":no-members:",
    "TrackConfig": ":no-members:",
}
OF_OPEN_CHAIN = "saetrack.analysis.pipeline.chain_view.ChainView"


def public_names() -> str:
    """Every name that `import saetrack` gives: functions first, and what `open_chain` returns."""
    import saetrack

    names = [name for name in saetrack.__all__ if not name.startswith("__")]
    kinds = {name: isinstance(getattr(saetrack, name), type) for name in names}
    functions = sorted(name for name, is_class in kinds.items() if not is_class)
    parts = [f".. autofunction:: saetrack.{name}" for name in functions]
    parts.append(f".. autoclass:: {OF_OPEN_CHAIN}\n   :members:\n   :no-index:")
    for name in sorted(set(names) - set(functions)):
        members = NOTEBOOK_MEMBERS.get(name, ":members:")
        parts.append(f".. autoclass:: saetrack.{name}\n   {members}")
    return "\n\n".join(f"```{{eval-rst}}\n{part}\n```" for part in parts)


def room_table() -> str:
    """The folders of the package, from top to bottom of the contract, with a line each."""
    contract = (ROOT / "pyproject.toml").read_text().partition("The rooms, from top to bottom")[2]
    order = re.findall(r"[a-z_]+", contract.partition("layers = [")[2].partition("]")[0])
    order += sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    rows = []
    for name in dict.fromkeys(order):
        path = PACKAGE / name / "__init__.py"
        if path.exists():
            said = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0]
            rows.append((f"`saetrack/{name}/`", " ".join(said.split())))
    return table(("folder", "what is in it"), rows)


def rooms_and_modules() -> list[tuple[str, list[str]]]:
    """The folders of the package, and of `analysis`, each with its modules."""
    modules = sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in PACKAGE.rglob("*.py")
    )
    undescribed = {"saetrack", *UNDESCRIBED}
    kept = [name for name in modules if name not in undescribed and "__main__" not in name]
    return [(room, list(those)) for room, those in groupby(kept, key=_room)]


def _room(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[1:3] if parts[1] == "analysis" else parts[1:2])


def room_page(room: str, modules: Sequence[str]) -> str:
    """A page with the docstrings of all public names of a room."""
    title = f"saetrack.{room}"
    parts = [f"{title}\n{'=' * len(title)}"]
    for name in modules:
        options = "   :members:\n" + ("   :no-index:\n" if _only_imports(name) else "")
        heading = "" if name == title else f"{name}\n{'-' * len(name)}\n\n"
        parts.append(f"{heading}.. automodule:: {name}\n{options}")
    return "\n\n".join(parts)


def _only_imports(module: str) -> bool:
    """Whether a module only hands on names of others: they are described where they are made."""
    path = ROOT.joinpath(*module.split("."))
    if not path.is_dir():
        return False
    tree = ast.parse((path / "__init__.py").read_text())
    return not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body)


def top_level(name: str) -> str:
    """A file of the project's root as a page, its links pointing back to where they point."""
    path = ROOT / name
    if not path.exists():
        title = name.removesuffix(".md").capitalize()
        return f"# {title}\n\nThis copy of the project has no file {name}.\n"
    return re.sub(r"\]\(docs/([^)]+)\)", r"](../\1)", path.read_text())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )


def markdown_in_docstring(*event: Any) -> None:
    """Give a docstring's tables and fenced code the form that Sphinx reads.

    Args:
        event: of Sphinx (autodoc-process-docstring); the last one is the list of lines.
    """
    lines: list[str] = event[-1]
    text = re.sub(
        r"^```(\w*)\n(.*?)^```$",
        _fence,
        "\n".join(_with_literal_blocks(lines)),
        flags=re.DOTALL | re.MULTILINE,
    )
    text = re.sub(r"(?m)(?:^\|.*\|$\n?){3,}", _table, text)
    lines[:] = [_without_substitutions(line) for line in text.split("\n")]


def _with_literal_blocks(lines: Sequence[str]) -> list[str]:
    """What is indented below a paragraph is code or a formula, to be shown as it stands."""
    shown = []
    for number, line in enumerate(lines):
        shown.append(line)
        after = "\n".join(lines[number + 1 : number + 3])
        if re.match(r"[^\s:.*-]", line) and re.match(r"\n {4}\S", after) and line[-2:] != "::":
            shown[-1:] = [line + ":"] if line.endswith(":") else [line, "", "::"]
    return shown


def _fence(found: re.Match[str]) -> str:
    language = found[1] or "text"
    return f".. code-block:: {language}\n\n{textwrap.indent(found[2], '   ')}"


def _table(found: re.Match[str]) -> str:
    rows = [
        re.split(r"\s*\|\s*", line.strip().removeprefix("|").removesuffix("|").strip(" "))
        for line in found[0].strip().splitlines()
    ]
    del rows[1]
    text = "\n.. list-table::\n   :header-rows: 1\n\n"
    for cells in rows:
        whole = [*cells, *[""] * (len(rows[0]) - len(cells))][: len(rows[0])]
        for number, cell in enumerate(whole):
            text += f"   {'* -' if number == 0 else '  -'} {cell}".rstrip() + "\n"
    return text + "\n"


def _without_substitutions(line: str) -> str:
    """Bars stand for themselves: norms, and alternatives of a type."""
    parts = line.split("`")
    parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
    return "`".join(parts)


if __name__ == "__main__":
    write_kept()
