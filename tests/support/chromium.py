"""The browser that tests drive: whether there is one, and how it is started."""

from __future__ import annotations

import importlib.util
import shutil

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ABSENT = (
    "no chromium on this machine"
    if CHROMIUM is None
    else "no playwright"
    if importlib.util.find_spec("playwright") is None
    else ""
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-quic", "--disable-component-update", "--disable-sync"]
