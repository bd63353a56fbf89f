"""A server of nano, and clips to ask it about."""

import pytest
from reference.serving import AskedClip, Served, asked_clips, serving


@pytest.fixture(scope="session")
def clips(run_folder) -> list[AskedClip]:
    """Clips with questions."""
    return asked_clips(run_folder)


@pytest.fixture(scope="module")
def served(nano_bundle) -> Served:
    """A server with the usual limits, of this module's tests alone."""
    with serving(nano_bundle) as found:
        yield found


@pytest.fixture(scope="session")
def endless_bundle(toy_bundle):
    """A bundle with random weights: its answers go on until they are cut, and are text at every token."""
    return toy_bundle("ffd")
