"""What the README and the pages say is there: links, commands, options, presets, files, configs."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from saetrack.analysis.meaning.classes import CLASSES
from saetrack.analysis.meaning.patterns import PATTERN_MEANINGS
from saetrack.chain.presets import KINDS, Kind, load_preset, preset_names
from saetrack.cli.main import app

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "deployments" / "README.md",
    *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md") if (ROOT / name).exists()),
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_" not in path.parts[-2][:1]),
]
# Old names belong there.
HISTORY = {ROOT / "CHANGELOG.md"}
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def code_of(page: Path) -> list[str]:
    """Lines of code blocks, and code within sentences; comments left out."""
    text = page.read_text()
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    code = [*lines, *(found.replace("\n", " ") for found in re.findall(r"`([^`]+)`", prose))]
    return [re.sub(r"(^|\s)#.*", "", line).strip() for line in code]


def calls(page: Path, program: str) -> Iterator[list[str]]:
    """The words of every call of a program; what is left open (CHAIN, ...) among them."""
    for line in code_of(page):
        for call in re.split(r"&&|;|\|", line):
            if re.match(rf"!?{program}( |$)", call.strip()):
                yield shlex.split(call.strip(), comments=True)[1:]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 6_000


def test_classes_and_patterns_are_explained_where_they_are_named() -> None:
    page = (ROOT / "docs" / "concepts.md").read_text()
    tables = {
        "class": [(f"{one.title} (`{one.name}`)", one.meaning) for one in CLASSES],
        "pattern": [(f"`{name}`", meaning) for name, meaning in PATTERN_MEANINGS.items()],
    }
    for name, rows in tables.items():
        head = f"| {name} | what it says |\n| --- | --- |\n"
        lines = "".join(f"| {what} | {meaning} |\n" for what, meaning in rows)
        assert f"{head}{lines}\n" in page


@by_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@by_page
def test_commands_and_their_options_exist(page: Path) -> None:
    for command, *words in (call for call in calls(page, "saetrack") if call):
        if command.isupper() or command.startswith("-"):
            continue
        assert command in COMMANDS, f"saetrack {command}"
        options = {name for one in COMMANDS[command].params for name in one.opts} | {"--help"}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in options, f"saetrack {command} {word}"


@by_page
def test_presets_exist(page: Path) -> None:
    for command, *words in (call for call in calls(page, "saetrack") if call):
        if command not in (*KINDS, "plan") or not words or words[0].startswith("-"):
            continue
        name = words[0]
        is_chain = command == "analyze" and "." in name
        if not name.isupper() and not name.endswith(".yaml") and not is_chain:
            kind: Kind = "track" if command == "plan" else command  # type: ignore[assignment]
            assert name in preset_names(kind), f"saetrack {command} {name}"


@by_page
def test_targets_and_deployments_exist(page: Path) -> None:
    if page in HISTORY:
        return
    makefile = (ROOT / "Makefile").read_text()
    for target, *_ in (call for call in calls(page, "make") if call):
        assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE) or "/" in target, target
    deployments = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]
    known = {f"{one['entrypoint'].rpartition(':')[2]}/{one['name']}" for one in deployments}
    for words in calls(page, "prefect deployment run"):
        assert words[2] in known


@by_page
def test_files_of_the_project_exist(page: Path) -> None:
    if page in HISTORY:
        return
    text = page.read_text()
    named = re.findall(r"`((?:saetrack|flows|tests|benchmarks|deployments|docs)/[\w./-]+)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


MARKED = re.compile(r"<!-- config: (\w+) -->\n+```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Others on the page may extend the first track there.
TRACK_FILE = "my.yaml"
CONFIGS = [
    pytest.param(kind, text, page, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, (kind, text) in enumerate(MARKED.findall(page.read_text()))
]


@pytest.mark.parametrize(("kind", "text", "page"), CONFIGS)
def test_marked_configs_are_valid(kind: Kind, text: str, page: Path, tmp_path: Path) -> None:
    from saetrack.analysis.pipeline.config import load_analyze_config, load_compare_config
    from saetrack.chain.config import load_config

    tracks = [config for of, config in MARKED.findall(page.read_text()) if of == "track"]
    (tmp_path / TRACK_FILE).write_text("".join(tracks[:1]))
    (tmp_path / "own.yaml").write_text(text)
    values = load_preset(kind, str(tmp_path / "own.yaml"))
    loads = {"track": load_config, "analyze": load_analyze_config, "compare": load_compare_config}
    loads[kind](values)


def test_the_readme_shows_a_config() -> None:
    assert any("README" in str(config.id) for config in CONFIGS)


def test_the_reference_is_that_of_the_code() -> None:
    generated = runpy.run_path(str(ROOT / "docs" / "generated.py"))
    kept = generated["kept_pages"]()
    assert len(kept) == 2
    for path, text in kept.items():
        assert path.read_text() == text, f"{path.name}: write it anew with `make format`"
