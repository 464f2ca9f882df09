"""The embedded text `mini`: technical prose that every install of this package carries."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path

from saetrack.data.prose import prose_paragraphs
from saetrack.data.python_source import texts_for_people

# Shorter pieces are labels rather than prose.
MIN_DOCUMENT_CHARACTERS = 80
# Raise when the same files become other documents.
TEXT_VERSION = 2

# Folders of packages that `pip install saetrack` brings, and the distributions that hold them.
PACKAGES = {
    "accelerate": "accelerate",
    "aiohttp": "aiohttp",
    "datasets": "datasets",
    "fsspec": "fsspec",
    "huggingface_hub": "huggingface-hub",
    "joblib": "joblib",
    "matplotlib": "matplotlib",
    "mlflow": "mlflow",
    "mpmath": "mpmath",
    "networkx": "networkx",
    "numba": "numba",
    "numpy": "numpy",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "pydantic": "pydantic",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "sqlalchemy": "sqlalchemy",
    "sympy": "sympy",
    "torch": "torch",
    "transformer_lens": "transformer-lens",
    "transformers": "transformers",
}
# Of code that others wrote, and of tests, whose comments are labels.
LEFT_OUT = {
    *("test", "tests", "testing", "_vendor", "vendor", "lib2to3"),
    *("site-packages", "dist-packages"),
}


def embedded_documents() -> Iterator[str]:
    """Prose of docstrings and comments, no paragraph twice; files come in a shuffled order.

    About 80,000 documents, 24 MB and 6.9 million tokens of the mini-LM with the locked packages.
    The order is always the same. Documents are read as they are asked for: the first thousand take
    no longer than their files.
    """
    seen: set[str] = set()
    for path in _files():
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # a few files of the standard library hold bad code on purpose
        for text in texts_for_people(source):
            found = dict.fromkeys(prose_paragraphs(text))
            paragraphs = [each for each in found if each not in seen]
            seen.update(paragraphs)
            document = "\n\n".join(paragraphs)
            if len(document) >= MIN_DOCUMENT_CHARACTERS:
                yield document


def embedded_text_version() -> str:
    """What the embedded text depends on: this Python's release and build, and the packages'."""
    found = [f"{name}=={_version(name)}" for name in sorted(PACKAGES.values())]
    return " ".join([str(TEXT_VERSION), sys.version, *found])


def _files() -> list[Path]:
    """All source files, in an order that mixes packages and depends on names alone."""
    paths = sysconfig.get_paths()
    library = ((Path(paths["stdlib"]), path) for path in _python_files(Path(paths["stdlib"])))
    packages = (
        (Path(site), path)
        for site in {paths["purelib"], paths["platlib"]}
        for name in PACKAGES
        for path in _python_files(Path(site) / name)
    )
    named = {path.relative_to(root).as_posix(): path for root, path in chain(library, packages)}
    return [named[name] for name in sorted(named, key=lambda name: sha256(name.encode()).digest())]


def _python_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*.py"):
        if not LEFT_OUT & set(path.relative_to(folder).parts):
            yield path


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None  # its text is not there either
