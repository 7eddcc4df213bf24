"""Checks before a request is parsed: request id and log line, host, token, size of the body."""

import asyncio
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Collection

from fastapi.security import APIKeyCookie, APIKeyQuery, HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controlgen.serve.auth import cookie_value, tokens_equal
from controlgen.serve.limits import Limits

LOG = logging.getLogger("controlgen.serve")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
PROBLEM_JSON = "application/problem+json"
PUBLIC_PATHS = ("/health",)  # paths that need no token
SMALL_BODY = 100_000  # bytes; a body up to this size is accepted however much others hold
ARRIVAL_FACTOR = 10  # a body may take so many times the seconds of a request to arrive
RETRY_SECONDS = 2  # after which a large body may be sent again
MAX_DETAIL = 300  # characters
TITLES = {
    401: "Unauthorized",
    403: "Forbidden origin",
    408: "Request timeout",
    413: "Too large",
    421: "Unknown host",
    429: "Too many requests",
}
HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": str(RETRY_SECONDS)}}
BEARER = HTTPBearer(auto_error=False)
TOKEN_COOKIE = APIKeyCookie(name="controlgen_token", auto_error=False)
TOKEN_QUERY = APIKeyQuery(name="token", auto_error=False)


class RequestLogMiddleware:
    """Gives each request an id (its own X-Request-ID if that is valid) and a line in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client_id = Headers(scope=scope).get("x-request-id", "")
        scope.setdefault("state", {})["request_id"] = request_id = (
            client_id if REQUEST_ID.fullmatch(client_id) else uuid.uuid4().hex[:16]
        )
        start, status = time.monotonic(), 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            elapsed = 1000 * (time.monotonic() - start)
            path = scope["path"].encode("unicode_escape").decode()[:200]
            LOG.info("%s %s %s %d %.1f ms", request_id, scope["method"], path, status, elapsed)


class HostAndOriginMiddleware:
    """Rejects foreign Host names, and requests from pages of other origins.

    Without it a foreign page in the user's browser could use a server on loopback.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, list(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if not await self._is_trusted(headers.get("host", "")):
                await _reject(scope, receive, send, 421, "this host name is not served here")
                return
            if origin is not None and not await self._is_trusted(origin.rpartition("//")[2]):
                await _reject(scope, receive, send, 403, "requested by a page of another origin")
                return
        await self.app(scope, receive, send)

    async def _is_trusted(self, host: str) -> bool:
        # Starlette's middleware rejects in plain text, where this API promises problem JSON.
        trusted = False

        async def accept(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal trusted
            trusted = True

        async def receive() -> Message:
            return {}

        async def send(message: Message) -> None:
            return None

        scope = {"type": "http", "headers": [(b"host", host.encode("latin-1"))]}
        check = TrustedHostMiddleware(accept, self.hosts, www_redirect=False)
        await check(scope, receive, send)
        return trusted


class BearerTokenMiddleware:
    """Requires `Authorization: Bearer TOKEN`, or the cookie that /?token=TOKEN sets in a browser.

    It is no dependency of FastAPI: those run after the body was read, and not on every path.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in PUBLIC_PATHS:
            await self.app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        query = (await TOKEN_QUERY(request) or "").encode("utf-8", "replace")
        if scope["path"] == "/" and tokens_equal(query, self.token):
            # The redirect removes the token from the address, and so from the browser's history.
            redirect = RedirectResponse("/", 303)
            name, value = TOKEN_COOKIE.model.name, cookie_value(self.token)
            redirect.set_cookie(name, value, httponly=True, samesite="strict")
            await redirect(scope, receive, send)
        elif await self._has_token(request):
            await self.app(scope, receive, send)
        else:
            detail = "send Authorization: Bearer TOKEN, or open /?token=TOKEN in a browser"
            await _reject(scope, receive, send, 401, detail)

    async def _has_token(self, request: HTTPConnection) -> bool:
        bearer = await BEARER(request)
        if bearer and tokens_equal(bearer.credentials.encode("latin-1"), self.token):
            return True
        cookie = await TOKEN_COOKIE(request) or ""
        return hmac.compare_digest(cookie.encode(), cookie_value(self.token).encode())


class BodyLimitMiddleware:
    """Counts the bytes of a body as they arrive, and ends a request that is too large or too slow.

    The bytes of all requests together are bounded as well; small bodies are always accepted.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.limits = app, limits
        self._held_bytes = 0  # of all bodies whose responses are not yet sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length) > self.limits.body_bytes:
            await _reject(scope, receive, send, *self._too_large())
            return
        received, complete, started = 0, False, False
        deadline = time.monotonic() + ARRIVAL_FACTOR * self.limits.seconds
        rejection: tuple[int, str] | None = None

        async def receive_counted() -> Message:
            nonlocal received, complete, rejection
            if complete:  # what still comes is the end of the connection
                return await receive()
            try:
                message = await self._receive_in_time(receive, deadline)
            except TimeoutError as error:
                rejection = 408, str(error)
                return {"type": "http.disconnect"}
            if message["type"] == "http.request":
                size = len(message.get("body", b""))
                received += size
                self._held_bytes += size
                rejection = self._rejection(received)
                if rejection is not None:
                    return {"type": "http.disconnect"}
                complete = not message.get("more_body", False)
            return message

        async def send_unless_rejected(message: Message) -> None:
            # The application's response to a truncated body is dropped.
            nonlocal started
            if rejection is None or started:
                started = started or message["type"] == "http.response.start"
                await send(message)

        try:
            await self.app(scope, receive_counted, send_unless_rejected)
        except ClientDisconnect:
            if rejection is None:
                raise
        finally:
            self._held_bytes -= received
        if rejection is not None and not started:
            await _reject(scope, receive, send, *rejection)

    async def _receive_in_time(self, receive: Receive, deadline: float) -> Message:
        seconds, left = self.limits.seconds, deadline - time.monotonic()
        try:
            async with asyncio.timeout(min(seconds, left)):
                return await receive()
        except TimeoutError:
            if left < seconds:
                detail = f"the body was not complete after {ARRIVAL_FACTOR * seconds:g} s"
            else:
                detail = f"no part of the body arrived for {seconds:g} s"
            raise TimeoutError(detail) from None

    def _rejection(self, received: int) -> tuple[int, str] | None:
        if received > self.limits.body_bytes:
            return self._too_large()
        if received > SMALL_BODY and self._held_bytes > self.limits.bodies_bytes:
            return 429, "other large requests are in progress; try again later"
        return None

    def _too_large(self) -> tuple[int, str]:
        return 413, f"a body of more than {self.limits.body_bytes} bytes"


def problem_json(status: int, title: str, detail: str, request_id: str) -> bytes:
    """An RFC 9457 body. A long detail keeps its beginning and its end, which says what to do."""
    if len(detail) > MAX_DETAIL:
        detail = f"{detail[: MAX_DETAIL - 105]} ... {detail[-100:]}"
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return json.dumps({**problem, "instance": request_id}).encode()


async def _reject(scope: Scope, receive: Receive, send: Send, status: int, detail: str) -> None:
    request_id = scope.get("state", {}).get("request_id", "")
    body = problem_json(status, TITLES[status], detail, request_id)
    headers = {"Connection": "close", **HEADERS.get(status, {})}
    await Response(body, status, headers, PROBLEM_JSON)(scope, receive, send)
