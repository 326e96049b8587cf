"""What the tests of checkpoints share."""

import pytest
from tests.checkpoints.tiny_run import make_run


@pytest.fixture(scope="session")
def adapter_run(tmp_path_factory):
    """A run directory with an adapter; read only."""
    return make_run(tmp_path_factory.mktemp("adapter"))
