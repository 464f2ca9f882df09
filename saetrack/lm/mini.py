"""`python -m saetrack.lm.mini FOLDER`: trains an embedded LM into a folder to be followed."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import NoReturn

from saetrack.lm.catalog.models import find_model
from saetrack.lm.embedded.publish import train_into_folder
from saetrack.lm.embedded.recipe import RECIPES
from saetrack.utils.errors import UserError

log = logging.getLogger(__name__)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def main(arguments: list[str]) -> int:
    """Train an embedded LM into a folder that a track can follow; the exit status."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    parser = _Parser(prog="python -m saetrack.lm.mini", description=main.__doc__)
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    parser.add_argument("--model", choices=list(RECIPES), default="mini")
    try:
        chosen = parser.parse_args(arguments)
        train_into_folder(find_model(chosen.model), chosen.folder)
    except (UserError, OSError) as error:
        log.error("error: %s", error)  # noqa: TRY400  (a traceback is not for the user)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
