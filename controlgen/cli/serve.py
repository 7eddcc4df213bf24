"""`controlgen serve`: everything is opened and checked, then the address is told."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from controlgen.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")  # Host names that are answered on loopback
GRACE = 5  # seconds, beyond a request's own, that what was begun has after a signal
TOKEN = "CONTROLGEN_TOKEN"  # the variable that may hold the token


@dataclass(frozen=True)
class Request:
    """What was asked on the command line."""

    maps: Sequence[Path]
    host: str
    port: int
    token: str
    directions: Path | None
    waiting: int
    seconds: float
    studio: bool


def serve(request: Request) -> None:
    """Serve maps until a signal comes. Raises ConfigError and what opening a map raises."""
    try:
        import uvicorn

        from controlgen.serve.app import create_app
    except ImportError as error:
        raise ConfigError(f"serving needs {error.name}: pip install 'controlgen[serve]'") from None
    from controlgen.serve.limits import Limits
    from controlgen.serve.registry import open_models

    token = _token(request.token or os.environ.get(TOKEN, ""))
    limits = Limits.parse({"waiting": request.waiting, "seconds": request.seconds}, "serve")
    local = request.host in LOOPBACK
    with closing(_bound(request.host, request.port)) as bound:
        models = open_models(request.maps, request.directions, limits.directions)
        hosts = LOCAL_NAMES if local else ()
        app = create_app(models, limits, token, hosts, request.studio)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(limits.seconds) + GRACE,
        )
        bound.listen(config.backlog)  # what is announced can be asked: early requests wait
        port = bound.getsockname()[1]
        shown = f"[{request.host}]" if ":" in request.host else request.host
        names = ", ".join(models)
        print(f"serving {names} at http://{shown}:{port} (stop with Ctrl-C)", flush=True)
        if not local:
            _warn(shown, token)
        try:
            with _logged():
                uvicorn.Server(config).run(sockets=[bound])
        finally:
            _end(app.state.work.admitted)


def _token(given: str) -> str:
    # One that is blank would let everyone in who was meant to be kept out.
    token = given.strip()
    if given and not (token and token.isprintable()):
        raise ConfigError("--token: blank, or with signs that no header can hold; choose another")
    return token


@contextmanager
def _logged() -> Iterator[None]:
    # The log's own way to stderr, for as long as it serves.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log, errors = logging.getLogger("controlgen.serve"), logging.getLogger("uvicorn.error")
    before = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    # What is given up at the end is no error: a request that was not whole, or a second Ctrl-C.
    errors.addFilter(_not_given_up)
    try:
        yield
    finally:
        errors.removeFilter(_not_given_up)
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


def _not_given_up(record: logging.LogRecord) -> bool:
    # With the exception, or with its traceback as the message.
    cancelled = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not (cancelled or "asyncio.exceptions.CancelledError" in record.getMessage())


def _end(unfinished: int) -> None:
    # Python would wait for the thread of a job that notices no deadline, and nobody else does.
    if unfinished:
        print("controlgen: ended over a request that did not stop", file=sys.stderr, flush=True)
        os._exit(1)


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named, asyncio sends an answer's parts at once; else the last one waits for
    # the client's delayed acknowledgement, 40 ms.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((host, port))
    except (OSError, OverflowError) as error:
        made.close()
        said = getattr(error, "strerror", None) or error
        raise ConfigError(f"--host {host} --port {port}: cannot be had ({said})") from None
    return made


def _warn(host: str, token: str) -> None:
    who = "whoever has the token" if token else "EVERYONE, for no --token is set,"
    print(
        f"controlgen: WARNING: {host} is not loopback: {who} in its network can use it, and "
        "nothing is encrypted",
        file=sys.stderr,
        flush=True,
    )
