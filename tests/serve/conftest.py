"""A server on loopback that serves the tiny map."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controlgen import Editor
from controlgen.serve.app import create_app
from controlgen.serve.limits import Limits
from controlgen.serve.registry import ServedModel
from running_server import RunningServer, run_server


@pytest.fixture(scope="session")
def served(line: Any) -> ServedModel:
    """The tiny map, loaded once."""
    return ServedModel("tiny", Editor.load(line.map_folder), "# A card", 4)


@pytest.fixture(scope="session")
def server(served: ServedModel) -> Iterator[RunningServer]:
    """A server of this map with the default limits."""
    with run_server(create_app({"tiny": served}), served) as running:
        yield running


@pytest.fixture
def limited(served: ServedModel) -> Iterator[Callable[..., RunningServer]]:
    """Starts servers with other limits, tokens or hosts, and stops them after the test."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(token: str = "", hosts: tuple[str, ...] = (), **limits: Any) -> RunningServer:
            app = create_app({"tiny": served}, Limits.parse(limits), token, hosts)
            return stack.enter_context(run_server(app, served))

        yield start
