"""A copy of the workflow for each test, whose jobs are played by a stand-in."""

import pytest

from checkout import Checkout


@pytest.fixture
def checkout(root, tmp_path):
    return Checkout(root, tmp_path)
