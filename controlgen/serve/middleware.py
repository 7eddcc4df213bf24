"""What happens to a request before any of it is read: its id and log line, host, token, size."""

import asyncio
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controlgen.serve import auth
from controlgen.serve.limits import Limits

LOG = logging.getLogger("controlgen.serve")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
PROBLEM = "application/problem+json"
COOKIE = "controlgen_token"
OPEN = ("/health",)  # paths that need no token
SMALL = 100_000  # bytes of a body that is taken however much others hold
NAME = 30  # values of JSON that one name counts as
ARRIVAL = 10  # times the seconds of a request that a body may take to arrive
AGAIN = 2  # seconds after which a large body may be sent again
DETAIL = 300  # characters of what a problem says at most
TITLES = {
    400: "Bad request",
    401: "No token",
    403: "Another origin",
    408: "Too slow in arriving",
    413: "Too large",
    421: "Another host",
    429: "Too many requests",
}


class Traced:
    """Gives every request an id (its X-Request-ID where that is sound) and a line in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        said = Headers(scope=scope).get("x-request-id", "")
        scope.setdefault("state", {})["request_id"] = request_id = (
            said if REQUEST_ID.fullmatch(said) else uuid.uuid4().hex[:16]
        )
        begun, status = time.monotonic(), 500

        async def traced(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await self.app(scope, receive, traced)
        finally:
            spent = 1000 * (time.monotonic() - begun)
            path = scope["path"].encode("unicode_escape").decode()[:200]
            LOG.info("%s %s %s %d %.1f ms", request_id, scope["method"], path, status, spent)


class SameHost:
    """Refuses other Host names than those it is served under, and pages of other origins.

    Without it, a page elsewhere that a browser has open could speak to a server on loopback.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and self.hosts:
            headers = Headers(scope=scope)
            host, origin = headers.get("host", ""), headers.get("origin")
            if _name(host) not in self.hosts:
                await _refuse(scope, receive, send, 421, "this host name is not served here")
                return
            if origin is not None and _name(origin.rpartition("//")[2]) not in self.hosts:
                await _refuse(scope, receive, send, 403, "asked by a page of another origin")
                return
        await self.app(scope, receive, send)


class Token:
    """Asks for `Authorization: Bearer TOKEN`, or the cookie that /?token=TOKEN leaves a browser."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in OPEN:
            await self.app(scope, receive, send)
            return
        asked = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        said = asked.encode("utf-8", "replace")
        if scope["type"] == "http" and scope["path"] == "/" and auth.same(said, self.token):
            # Sent on without the token, which then stands in no history.
            cookie = f"{COOKIE}={auth.kept(self.token)}; HttpOnly; SameSite=Strict; Path=/"
            sent_on = [(b"location", b"/"), (b"set-cookie", cookie.encode("latin-1"))]
            await send({"type": "http.response.start", "status": 303, "headers": sent_on})
            await send({"type": "http.response.body", "body": b""})
            return
        headers = Headers(scope=scope)
        kind, _, given = headers.get("authorization", "").partition(" ")
        bearer = kind.lower() == "bearer" and auth.same(given.encode("latin-1"), self.token)
        if not bearer and not hmac.compare_digest(
            _cookie(headers).encode(), auth.kept(self.token).encode()
        ):
            way = "send Authorization: Bearer TOKEN, or open /?token=TOKEN in a browser"
            await _refuse(scope, receive, send, 401, way)
            return
        await self.app(scope, receive, send)


class Bounded:
    """Counts a body as it comes: too much, too slowly, or nothing for too long, is the end of it.

    Bytes are counted, and values of JSON: what reads them holds up every other request and takes
    fifty times their room. What all requests hold together is bounded as well; small ones are let
    in even then.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self.app, self.limits = app, limits
        self._held = 0  # bytes of all bodies whose answers are not yet there

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most, begun, came, values = self.limits.body_bytes, False, 0, 0
        whole, end = False, time.monotonic() + ARRIVAL * self.limits.seconds
        refused: tuple[int, str] | None = None
        # A file in a form is no JSON, and has commas by chance.
        form = Headers(scope=scope).get("content-type", "").lower().startswith("multipart/")
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length) > most:
            await _refuse(scope, receive, send, 413, f"a body of more than {most} bytes")
            return

        async def counted() -> Message:
            nonlocal came, values, whole, refused
            if whole:  # the body is there; what still comes is the end of the connection
                return await receive()
            seconds, left = self.limits.seconds, end - time.monotonic()
            try:
                async with asyncio.timeout(min(seconds, left)):
                    message = await receive()
            except TimeoutError:
                dripped = f"the body was not whole after {ARRIVAL * seconds:g} s"
                refused = 408, dripped if left < seconds else f"nothing came for {seconds:g} s"
                return {"type": "http.disconnect"}
            if message["type"] == "http.request":
                body = message.get("body", b"")
                came += len(body)
                self._held += len(body)
                values += 0 if form else _values(body)
                refused = self._too_much(came, values)
                if refused is not None:
                    return {"type": "http.disconnect"}
                whole = not message.get("more_body", False)
            return message

        async def noted(message: Message) -> None:
            # What the application makes of a body cut short is not what is told.
            nonlocal begun
            if refused is None or begun:
                begun = begun or message["type"] == "http.response.start"
                await send(message)

        try:
            await self.app(scope, counted, noted)
        except ClientDisconnect:
            if refused is None:
                raise
        finally:
            self._held -= came
        if refused is not None and not begun:
            await _refuse(scope, receive, send, *refused)

    def _too_much(self, came: int, values: int) -> tuple[int, str] | None:
        limits = self.limits
        if came > limits.body_bytes:
            return 413, f"a body of more than {limits.body_bytes} bytes"
        if values > limits.json_values:
            said = f"more than {limits.json_values} values of JSON; send large arrays as"
            return 413, said + ' {"npy": base64 of a .npy file}'
        if came > SMALL and self._held > limits.bodies_bytes:
            return 429, "other large requests are at work already; ask again in a while"
        return None


def problem(status: int, title: str, detail: str, request_id: str) -> bytes:
    """An RFC 9457 body; of a long detail it has the beginning and the end, where the way out is."""
    if len(detail) > DETAIL:
        detail = f"{detail[: DETAIL - 105]} ... {detail[-100:]}"
    said = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return json.dumps({**said, "instance": request_id}).encode()


def _values(body: bytes) -> int:
    # About as many as there are; a name is a value of many, so much longer it takes to be refused.
    return body.count(b",") + body.count(b"[") + NAME * body.count(b":")


def _name(host: str) -> str:
    return re.sub(r":\d+$", "", host).lower()


def _cookie(headers: Headers) -> str:
    try:
        kept = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return ""
    return kept[COOKIE].value if COOKIE in kept else ""


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, detail: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": detail})
        return
    request_id = scope.get("state", {}).get("request_id", "")
    body = problem(status, TITLES[status], detail, request_id)
    headers = [(b"content-type", PROBLEM.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 429:
        headers.append((b"retry-after", str(AGAIN).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
