"""One question per file: registered SAEs and tables in, tables out. Trains and draws nothing."""

from saetrack.utils.extras import require_extra

require_extra("analysis")  # before any work starts; the rest of the library does without
