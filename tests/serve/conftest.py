"""A real server on loopback over the tiny line, and what requests need."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controlgen import Editor
from controlgen.serve.app import create_app
from controlgen.serve.limits import Limits
from controlgen.serve.registry import Served
from running_server import Running, running


@pytest.fixture(scope="session")
def served(line: Any) -> Served:
    """The tiny map, loaded once."""
    return Served("tiny", Editor.load(line.map_folder), "# A card", 4)


@pytest.fixture(scope="session")
def server(served: Served) -> Iterator[Running]:
    """It, with the usual limits."""
    with running(create_app({"tiny": served}), served) as found:
        yield found


@pytest.fixture
def limited(served: Served) -> Iterator[Callable[..., Running]]:
    """Servers with other limits, tokens or hosts, ended with the test."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(token: str = "", hosts: tuple[str, ...] = (), **limits: Any) -> Running:
            app = create_app({"tiny": served}, Limits.parse(limits), token, hosts)
            return stack.enter_context(running(app, served))

        yield start
