"""Tables of published numbers in the package, each with a checksum in the code that uses it.

Thus a changed table changes the fingerprint of the stages that use it.
"""

import hashlib
from pathlib import Path
from typing import Any


def read_pinned(path: Path, sha256: str) -> Any:
    """Returns the content of a YAML file of the package. Raises ValueError when its checksum differs."""
    import yaml

    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path}: differs from the table of this release. Restore the file.")
    return yaml.safe_load(content)
