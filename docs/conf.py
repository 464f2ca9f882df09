# ruff: noqa: INP001  (pages and what builds them, not a package)
"""How the documentation is built: `make docs`. Nothing is fetched from elsewhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
GENERATED = Path(__file__).parent / "_generated"
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import generated  # noqa: E402

project = "saetrack"
author = "The saetrack contributors"
project_copyright = "the saetrack contributors, Apache-2.0"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_generated/*.md"]

html_theme = "furo"
html_title = "saetrack"
html_static_path = ["_static"]
html_css_files = ["saetrack.css"]
html_show_sphinx = False
html_theme_options = {"footer_icons": [], "navigation_with_keys": True}

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3
# Two classes of one name in different rooms: annotations then link to the first.
suppress_warnings = ["ref.python"]

# Tutorials are executed at every build, each in an empty folder: a registry appears there, not
# here. An error in a cell fails the build.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_execution_timeout = 300
nb_merge_streams = True

# Docstrings are Google's form with Markdown's backticks; shapes stay as they are written.
default_role = "literal"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autosummary_generate = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88


def prepare_environment() -> None:
    """What is executed here sees no registry of the user's, asks no hub and reports to nobody."""
    for name in [name for name in os.environ if name.startswith("SAETRACK_")]:
        if name != "SAETRACK_CACHE_DIR":
            del os.environ[name]
    path = os.environ.get("PYTHONPATH")
    os.environ.update(
        PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        PYTHONPATH=os.pathsep.join([str(ROOT), *([path] if path else [])]),
        HF_HUB_OFFLINE="1",
        HF_DATASETS_OFFLINE="1",
        DO_NOT_TRACK="1",
        MLFLOW_DISABLE_TELEMETRY="true",
        MLFLOW_LOGGING_LEVEL="WARNING",
        IPYTHONDIR=str(generated.notebook_profile(GENERATED / "ipython")),
        COLUMNS="110",
        TQDM_DISABLE="1",
        PYTHONWARNINGS="ignore:IProgress not found",
    )


def setup(app: object) -> None:
    """Sphinx calls this before it reads any page."""
    prepare_environment()
    generated.write_all(GENERATED)
    app.connect("autodoc-process-docstring", generated.markdown_in_docstring)  # type: ignore[attr-defined]
