"""Tables of published numbers that the package contains, each pinned by a hash in the code that uses it.

The hash is in the code so that another table changes the fingerprint of the stages that use it.
"""

import hashlib
from pathlib import Path
from typing import Any


def read_pinned(path: Path, sha256: str) -> Any:
    """Returns the content of a YAML file of the package. Raises ValueError when it has another hash."""
    import yaml

    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path}: differs from the table of this release. Restore the file.")
    return yaml.safe_load(content)
