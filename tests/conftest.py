"""What all tests share: the repository's root and the real crystals, where they lie beside it."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples each time, so that a test fails for what changed; HYPOTHESIS_PROFILE=search looks for new ones. No
# deadline: a busy machine would miss it.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", derandomize=False, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
# One thread for each worker of pytest and for what it starts: threads waiting for one another cost most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
# Tests see no data sets of the user; those that need real ones set it to `shared_data`.
os.environ["XTALGEN_DATA"] = str(Path(tempfile.gettempdir()) / "xtalgen-tests-without-data")


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def shared_data():
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/data")
    return SHARED
