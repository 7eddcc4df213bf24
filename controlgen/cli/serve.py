"""`controlgen serve`: load and check everything, then announce the address and serve."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from controlgen.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")  # allowed Host headers on loopback
GRACE_SECONDS = 5  # for running requests after a signal, beyond their deadline
TOKEN_VARIABLE = "CONTROLGEN_TOKEN"


def run_server(
    folders: Sequence[Path],
    host: str,
    port: int,
    token: str,
    directions: Path | None,
    queue: Mapping[str, float],
    studio: bool,
) -> None:
    """Serve maps until a signal arrives.

    `queue`: `waiting` and `seconds` of the limits. Raises ConfigError and the errors of loading a
    map.
    """
    try:
        import uvicorn

        from controlgen.serve.app import create_app
    except ImportError as error:
        if (error.name or "").startswith("controlgen"):
            raise
        raise ConfigError(f"serving needs {error.name}: pip install 'controlgen[serve]'") from None
    from controlgen.serve.limits import Limits
    from controlgen.serve.registry import open_models

    token = _validate_token(token or os.environ.get(TOKEN_VARIABLE, ""))
    limits = Limits.parse(dict(queue), "serve")
    local = host in LOOPBACK
    with closing(_bind(host, port)) as listener:
        models = open_models(folders, directions, limits.directions)
        app = create_app(models, limits, token, LOCAL_NAMES if local else (), studio)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(limits.seconds) + GRACE_SECONDS,
        )
        listener.listen(config.backlog)  # from the announcement on, early requests queue
        address = f"[{host}]" if ":" in host else host
        url = f"http://{address}:{listener.getsockname()[1]}"
        print(f"serving {', '.join(models)} at {url} (stop with Ctrl-C)", flush=True)
        if not local:
            _warn_public(address, token)
        try:
            with _logging_to_stderr():
                uvicorn.Server(config).run(sockets=[listener])
        finally:
            _exit_if_unfinished(app.state.jobs.pending)


def _validate_token(text: str) -> str:
    # A blank token would silently switch authentication off.
    token = text.strip()
    if text and not (token and token.isprintable()):
        raise ConfigError(
            "--token: is blank or has characters that are not allowed in an HTTP header; choose "
            "another"
        )
    return token


@contextmanager
def _logging_to_stderr() -> Iterator[None]:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log, errors = logging.getLogger("controlgen.serve"), logging.getLogger("uvicorn.error")
    before = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    # Requests that are cancelled at shutdown, or by a second Ctrl-C, are not errors.
    errors.addFilter(_is_not_cancellation)
    try:
        yield
    finally:
        errors.removeFilter(_is_not_cancellation)
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


def _is_not_cancellation(record: logging.LogRecord) -> bool:
    # uvicorn logs the exception, or its traceback as the message.
    cancelled = record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not (cancelled or "asyncio.exceptions.CancelledError" in record.getMessage())


def _exit_if_unfinished(pending: int) -> None:
    # Python would wait for the thread of a job that ignores its deadline.
    if pending:
        print("controlgen: a request did not stop; exiting", file=sys.stderr, flush=True)
        os._exit(1)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With an explicit protocol, asyncio disables Nagle's algorithm; else the last part of a
    # response waits 40 ms for the client's delayed acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--host {host} --port {port}: cannot bind ({reason})") from None
    return listener


def _warn_public(host: str, token: str) -> None:
    who = "anyone with the token" if token else "ANYONE, because no --token is set,"
    print(
        f"controlgen: WARNING: {host} is not loopback: {who} on its network can use it, and "
        "nothing is encrypted",
        file=sys.stderr,
        flush=True,
    )
