"""The few paths of the page that can be reached; what else Gradio would answer is not there.

Gradio can fetch addresses, serve files, take uploads and run any function of a component for who
asks. The page needs none of that: pictures come and go inside the events themselves.
"""

import json
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import ASGIApp, Message, Receive, Scope, Send

EVENT = "/gradio_api/run/predict"
FILE = r"(assets|static)/[A-Za-z0-9_-][A-Za-z0-9_./-]*"
# By app_id a page that lost its server asks whether there is one again, and then begins anew.
READ = re.compile(rf"/(theme\.css|favicon\.ico|gradio_api/app_id|{FILE})?")
ASKED = ("data", "event_data", "fn_index", "session_hash", "trigger_id")  # of an event
FILES = frozenset({"path", "url", "meta", "is_stream"})  # what a file of Gradio's is known by
SESSION = re.compile(r"[A-Za-z0-9]{1,40}")
DEEPEST = 12  # lists and objects inside one another
HEADERS = (
    b"accept", b"accept-encoding", b"accept-language", b"content-length", b"content-type",
    b"host", b"if-modified-since", b"if-none-match", b"user-agent",
)  # fmt: skip
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'none'; "
    "frame-ancestors 'none'"
)


class Gate(BaseRoute):
    """Lets the page's own requests through to it, cleaned; matches no others."""

    def __init__(self, page: ASGIApp) -> None:
        self.page = page

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether it is a path of the page."""
        if scope["type"] != "http":
            return Match.NONE, {}
        path, method = scope["path"], scope["method"]
        if path == EVENT:
            return (Match.FULL if method == "POST" else Match.NONE), {}
        read = method in ("GET", "HEAD") and READ.fullmatch(path) and ".." not in path
        return (Match.FULL if read else Match.NONE), {}

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        """It has no names."""
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, without what Gradio would read from its headers and query."""
        headers = Headers(scope=scope)
        if scope["path"] == EVENT:
            _check_origin(headers)
            body = _checked(await _body(receive))
            receive = _again(body, receive)
        saved = [(name, value) for name, value in scope["headers"] if name in HEADERS]
        if scope["path"] == EVENT:
            saved = [(name, value) for name, value in saved if name != b"content-length"]
            saved.append((b"content-length", str(len(body)).encode()))
        inside = {**scope, "headers": saved, "query_string": _query(scope)}
        await self.page(inside, receive, _guarded(send))


def _check_origin(headers: Headers) -> None:
    # A page elsewhere can send a request here, though it cannot read the answer.
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    if site not in (None, "same-origin", "none") or (
        site is None and origin and urlsplit(origin).netloc != headers.get("host")
    ):
        raise HTTPException(403, "the page at / alone may ask this")


def _checked(body: bytes) -> bytes:
    # An event in the page's own form; what could stand for a file or an address is refused.
    try:
        asked = json.loads(body)
        reference = {key: asked[key] for key in ASKED if asked.get(key) is not None}
    except (ValueError, RecursionError, AttributeError, TypeError):
        raise HTTPException(400, "not an event of the page") from None
    session = reference.get("session_hash")
    sound = isinstance(reference.get("data"), list) and type(reference.get("fn_index")) is int
    if not sound or not isinstance(session, str) or not SESSION.fullmatch(session):
        raise HTTPException(422, "not an event of the page")
    _check_plain([reference["data"], reference.get("event_data")])
    return json.dumps(reference).encode()


def _check_plain(value: Any) -> None:
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                if not FILES.isdisjoint(item):
                    raise HTTPException(422, "files and addresses are not taken here")
                below += item.values()
            elif isinstance(item, list):
                below += item
        level, depth = below, depth + 1
        if depth > DEEPEST:
            raise HTTPException(422, "not an event of the page")


async def _body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise HTTPException(400, "the request broke off")
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def once() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once


def _query(scope: Scope) -> bytes:
    # The page may be asked to be light or dark, and its style sheet for a version.
    asked = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    theme = asked.get("__theme", [""])[0]
    return f"__theme={theme}".encode() if theme in ("light", "dark") else b""


def _guarded(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = POLICY
            headers["Referrer-Policy"] = "no-referrer"
            for name in list(headers):
                if name.startswith("access-control-"):
                    del headers[name]
        await send(message)

    return guarded
