"""The library's log lines on a terminal."""

from __future__ import annotations

import logging
import sys


def log_to_terminal() -> None:
    """Print the library's lines, with the time of day; a deployed run sends them to Prefect."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    logger = logging.getLogger("saetrack")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
