"""Which machine this is: what it wrote into a registry it may believe of itself."""

from __future__ import annotations

import socket
from pathlib import Path

from saetrack.utils.files import content_hash


def machine_name() -> str:
    """The same for all processes of a machine, also after it was started anew; hardly of two."""
    identity = Path("/etc/machine-id")
    installed = identity.read_text().strip() if identity.exists() else ""
    return content_hash([socket.gethostname(), installed])[:16]
