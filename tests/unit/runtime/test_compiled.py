from pathlib import Path
from typing import no_type_check

from xtalgen.runtime.compiled import compiled


@compiled
@no_type_check
def plus_one(number):
    return number + 1


def test_compiles_and_is_kept_on_disk():
    assert plus_one(1) == 2
    assert plus_one.signatures
    assert Path(plus_one.stats.cache_path).is_dir()


def test_without_a_place_to_keep_it():
    """Code without a file stands for an installation in which nothing can be written."""
    scope = {}
    exec(compile("def twice(number):\n    return 2 * number\n", "<nowhere>", "exec"), scope)  # noqa: S102
    assert compiled(scope["twice"])(3) == 6
