"""The contracts of import-linter in pyproject.toml hold, and notice a planted import."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = "Layers: a folder imports only from those below it"
STAGES = "Stages are independent of each other"
FAMILIES = "Families of models are independent of each other"
BARE = "Models and training import no library of crystals"


def _lint(source: Path) -> str:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo", ROOT / "pyproject.toml"]
    done = subprocess.run(command, env={"PYTHONPATH": str(source)}, text=True, capture_output=True, check=False)
    assert done.returncode == (0 if " 0 broken" in done.stdout else 1), done.stdout + done.stderr
    return done.stdout


def test_the_contracts_hold() -> None:
    assert "4 kept, 0 broken" in _lint(ROOT / "src")


@pytest.mark.parametrize(
    ("file", "planted", "broken"),
    [
        ("runtime/atomic.py", "import xtalgen.crystals", LAYERS),
        ("experiment/plan.py", "import xtalgen.structure.lattice", LAYERS),
        ("metrics/symmetry.py", "import xtalgen.models.networks.edges", LAYERS),
        ("stages/relax.py", "import xtalgen.stages.hull", STAGES),
        ("models/orbits/steps.py", "import xtalgen.models.language.grammar", FAMILIES),
        ("training/loop.py", "import ase", BARE),
        ("models/diffcsp.py", "import xtalgen.structure.pymatgen", BARE),  # indirectly
    ],
)
def test_a_planted_import_is_noticed(tmp_path: Path, file: str, planted: str, broken: str) -> None:
    shutil.copytree(ROOT / "src/xtalgen", tmp_path / "xtalgen", ignore=shutil.ignore_patterns("page", "weights"))
    path = tmp_path / "xtalgen" / file
    path.write_text(f"{path.read_text()}\n{planted}\n")
    assert f"{broken} BROKEN" in _lint(tmp_path)
