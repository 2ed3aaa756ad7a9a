"""Tables of others' numbers that lie in the package, each pinned by its hash in the code that uses it.

The hash stands in the code so that another table changes the fingerprint of the stages that rest on it.
"""

import hashlib
from pathlib import Path
from typing import Any


def read_pinned(path: Path, sha256: str) -> Any:
    """Returns the content of a YAML file of the package. Raises ValueError when it is not the pinned one."""
    import yaml

    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path}: not the table that this version was released with. Restore the file.")
    return yaml.safe_load(content)
