"""The engine fixture of the flows, for what makes it a test's."""

from tests.flows.conftest import engine as engine
