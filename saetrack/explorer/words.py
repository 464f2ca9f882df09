"""Names, sentences and colours of classes and patterns, as files of the page.

The page is plain files, which a static site copies: what it says of classes is therefore written
into two of them from `saetrack.analysis.meaning`, so that there is no second list. After a change
there: `python -m saetrack.explorer.words`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from saetrack.analysis.meaning.classes import (
    CLASSES,
    JUDGED,
    LABEL_MEANINGS,
    LABEL_NAMES,
    MEANINGFUL,
)
from saetrack.analysis.meaning.patterns import PATTERN_MEANINGS
from saetrack.explorer.app import PAGE

NOTE = "Written by `python -m saetrack.explorer.words`: change saetrack.analysis.meaning instead."


def class_script() -> str:
    """What `js/classes.js` must be."""
    parts: dict[str, Mapping[str, str] | Sequence[str]] = {
        "LABEL_NAMES": LABEL_NAMES,
        "LABEL_MEANINGS": LABEL_MEANINGS,
        "PATTERN_MEANINGS": PATTERN_MEANINGS,
        "MEANINGFUL": MEANINGFUL,
        "JUDGED": JUDGED,
    }
    lines = [f"// {NOTE}"]
    for name, value in parts.items():
        lines += ["", f"export const {name} = {json.dumps(value, indent=2, ensure_ascii=False)};"]
    return "\n".join([*lines, ""])


def class_styles() -> str:
    """What `css/classes.css` must be: the colour of each class, on a light and on a dark ground."""
    light = "".join(f"  --l-{one.name}: {one.colour.lower()};\n" for one in CLASSES)
    dark = "".join(f"  --l-{one.name}: {one.dark_colour.lower()};\n" for one in CLASSES)
    of_each = "".join(f".l-{one.name} {{ --label: var(--l-{one.name}); }}\n" for one in CLASSES)
    return f'/* {NOTE} */\n:root {{\n{light}}}\n:root[data-theme="dark"] {{\n{dark}}}\n{of_each}'


FILES = {"js/classes.js": class_script, "css/classes.css": class_styles}


def main() -> None:
    """Write both files."""
    for name, text in FILES.items():
        (PAGE / name).write_text(text())


if __name__ == "__main__":
    main()
