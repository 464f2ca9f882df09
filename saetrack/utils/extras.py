"""Parts of an install that are left out unless asked for: `pip install 'saetrack[analysis]'`."""

from __future__ import annotations

from importlib.util import find_spec

from saetrack.utils.errors import UserError

# What each extra of pyproject.toml brings that the library imports.
MODULES = {"analysis": ("scipy", "sklearn", "snowballstemmer", "threadpoolctl", "umap")}


def require_extra(name: str) -> None:
    """Check that an extra is installed, without importing it.

    Raises:
        UserError: with the command that installs it.
    """
    missing = [module for module in MODULES[name] if find_spec(module) is None]
    if missing:
        raise UserError(
            f"the {name} needs {' and '.join(missing)}, not installed here: "
            f"pip install 'saetrack[{name}]'"
        )
