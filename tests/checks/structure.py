"""Rules of the house that need no more than the text of the files: `make lint` runs them.

`python -m tests.checks.structure` prints every offence as `file:line: what is wrong`, and exits
with 1 if there is any.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 50  # a screen
MAX_ROOMS = 13
PRODUCT = ("saetrack", "flows", "deployments")
# Folders of tests that stand for no room, but help those that do.
HELPERS = {"checks", "support"}
# The brackets keep each expression from matching the line that it stands on.
UNWANTED = {
    "a folder of one machine": r"(?<![\w.)\]}*])/(?:root|work|home|Users)(?![\w-])",
    "a package host": r"pypi[.]org|python[h]osted|index[-]url|find[-]links|jfrog[.]|/simple[/\"']",
    "an e-mail address": r"(?<!git@)\b[\w.+-]+@(?!example)[\w-]+\.(?:com|org|net|edu|io|ai|dev)\b",
}


def sources() -> list[Path]:
    """The product's Python files."""
    return sorted(path for part in PRODUCT for path in (ROOT / part).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """A file as Python reads it."""
    return ast.parse(path.read_text())


def long_files_and_functions() -> Iterator[str]:
    """No product file is longer than a reader bears, no function than a screen."""
    for path in sources():
        n_lines = len(path.read_text().splitlines())
        if n_lines > MAX_FILE_LINES:
            yield f"{_name(path)}:1: {n_lines} lines, more than {MAX_FILE_LINES}"
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n_lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if n_lines > MAX_FUNCTION_LINES:
                    line = f"{node.name} has {n_lines} lines, more than {MAX_FUNCTION_LINES}"
                    yield f"{_name(path)}:{node.lineno}: {line}"


def rooms() -> Iterator[str]:
    """The package is a handful of folders, and nothing lies loose between them."""
    entries = [path for path in (ROOT / "saetrack").iterdir() if path.name != "__pycache__"]
    if len(entries) > MAX_ROOMS:
        yield f"saetrack:1: {len(entries)} entries, more than {MAX_ROOMS}"
    for path in entries:
        if path.is_file() and path.name not in {"__init__.py", "py.typed"}:
            yield f"{_name(path)}:1: belongs into a folder"


def arithmetic_in_flows() -> Iterator[str]:
    """Flows compute nothing; a difference of two times, and a path, are no arithmetic."""
    for path in sorted((ROOT / "flows").rglob("*.py")):
        for node in ast.walk(tree(path)):
            operator = getattr(node, "op", None)
            if isinstance(operator, ast.Mult | ast.Pow | ast.FloorDiv | ast.Mod | ast.MatMult):
                yield f"{_name(path)}:{node.lineno}: {ast.unparse(node)}"  # type: ignore[attr-defined]


def tests_that_mirror_nothing() -> Iterator[str]:
    """A folder of tests has the name of what it tests; helpers lie in tests/support."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        folder = path.parent.relative_to(ROOT / "tests")
        if (folder.parts and folder.parts[0] in HELPERS) or path.name == "__init__.py":
            continue
        if not (ROOT / "saetrack" / folder).is_dir() and not (ROOT / folder).is_dir():
            yield f"{_name(path)}:1: there is no folder {folder} that it could test"
        if not path.name.startswith("test_") and path.name != "conftest.py":
            yield f"{_name(path)}:1: a helper, which belongs into tests/support"


def tests_that_import_tests() -> Iterator[str]:
    """What two tests need lies in tests/support; even code that a test runs in a child says so."""
    yield from _matches("an import of a test", r"(?:from|import) tests\.[\w.]*\btest_", ["tests"])


def unwanted_words() -> Iterator[str]:
    """No file names a machine's folders, a package host or a person's address."""
    for what, expression in UNWANTED.items():
        yield from _matches(what, expression, ["."])


def _matches(what: str, expression: str, folders: list[str]) -> Iterator[str]:
    pattern = re.compile(expression)
    # Tracked files and new ones, but not what git ignores.
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout.decode()
    for name in sorted(filter(None, names.split("\0"))):
        try:
            lines = (ROOT / name).read_text().splitlines()
        except (UnicodeDecodeError, FileNotFoundError):
            continue  # a picture, or deleted but not yet committed
        for number, line in enumerate(lines, start=1):
            if found := pattern.search(line):
                yield f"{name}:{number}: {what}: {found[0]}"


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


RULES: list[Callable[[], Iterator[str]]] = [
    long_files_and_functions,
    rooms,
    arithmetic_in_flows,
    tests_that_mirror_nothing,
    tests_that_import_tests,
    unwanted_words,
]


def main() -> int:
    """Print what offends; the exit status."""
    offences = [line for rule in RULES for line in rule()]
    sys.stdout.writelines(f"{line}\n" for line in offences)
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
