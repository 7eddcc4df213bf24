"""Requests to one server over connections that are kept, by the standard library's HTTP."""

import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from email.message import Message
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from controlgen.errors import ConfigError, DataError

KINDS = {"http": HTTPConnection, "https": HTTPSConnection}
DROPPED = 3  # connections lost in a row after which a request is given up


class Said(NamedTuple):
    """What a server answered; headers are found whatever their letters' case."""

    status: int
    headers: Message
    content: bytes


class Connections:
    """Threads may share it: each takes a connection that is free, or opens one.

    `headers` go with every request, and nothing may come for `timeout` seconds at most. Raises
    ConfigError for what is no address.
    """

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float) -> None:
        self.url, self._headers = url, dict(headers)
        try:
            address = urlsplit(url)
            if not address.hostname:
                raise ValueError("no host")
            self._open: Callable[[], HTTPConnection] = partial(
                KINDS[address.scheme], address.hostname, address.port, timeout=timeout
            )
            self._open()  # it looks at the name, and speaks to nobody yet
        except (KeyError, ValueError, HTTPException):
            said = f"{url}: no address of a server; give it as http://HOST:PORT"
            raise ConfigError(said) from None
        self._path = quote(address.path.rstrip("/"), safe="/%~")
        self._free: list[HTTPConnection] = []
        weakref.finalize(self, _close, self._free)

    def close(self) -> None:
        """Let the connections go."""
        _close(self._free)

    def request(self, method: str, path: str, body: bytes | None = None) -> Said:
        """Send a request whose repetition changes nothing: lost on the way, it is sent again.

        `path` is one of ASCII, encoded as it must be. Raises DataError where nobody answers.
        """
        left = DROPPED
        while True:
            left -= 1
            connection = self._connected()
            try:
                with suppress(BrokenPipeError, ConnectionResetError):
                    connection.request(method, self._path + path, body, self._headers)
                # One that takes no more of a body may have said why.
                answer = connection.getresponse()
                said = Said(answer.status, answer.headers, answer.read())
            except (OSError, HTTPException) as error:
                connection.close()
                self.close()  # those that were kept have likely gone the same way
                if not left:
                    raise self._nobody(error) from None
            except BaseException:  # half of an answer may be on its way
                connection.close()
                raise
            else:
                self._free.append(connection)
                return said

    def _connected(self) -> HTTPConnection:
        try:
            return self._free.pop()
        except IndexError:
            pass
        connection = self._open()
        try:
            connection.connect()
        except (OSError, UnicodeError) as error:  # the latter of names that cannot be
            raise self._nobody(error) from None
        return connection

    def _nobody(self, error: Exception) -> DataError:
        said = " ".join(str(getattr(error, "strerror", None) or error).split())
        return DataError(
            f"{self.url}: no answer ({said or type(error).__name__}); start `controlgen serve "
            "MODEL` there"
        )


def _close(connections: list[HTTPConnection]) -> None:
    # Another thread may take one meanwhile.
    while connections:
        try:
            connections.pop().close()
        except IndexError:
            return
