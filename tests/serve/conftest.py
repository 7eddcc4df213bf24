"""A real server on loopback over the tiny line, and what requests need."""

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
    """It, with the usual limits."""
    with run_server(create_app({"tiny": served}), served) as actual:
        yield actual


@pytest.fixture
def limited(served: ServedModel) -> Iterator[Callable[..., RunningServer]]:
    """Servers with other limits, tokens or hosts, ended with the test."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(token: str = "", hosts: tuple[str, ...] = (), **limits: Any) -> RunningServer:
            app = create_app({"tiny": served}, Limits.parse(limits), token, hosts)
            return stack.enter_context(run_server(app, served))

        yield start
