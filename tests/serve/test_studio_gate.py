"""What of the studio's page can be reached from outside, and what cannot."""

import asyncio
import importlib.util
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from controlgen.errors import ConfigError
from controlgen.serve.app import create_app
from controlgen.serve.registry import ServedModel
from controlgen.serve.studio import gate

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="gradio is not installed"
)
EVENT = "/gradio_api/run/predict"
HUSH = "hush-token"


class Ear:
    """A server on loopback that only counts who comes."""

    def __init__(self) -> None:
        self.bound = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.bound.getsockname()[1]}"
        self.heard = 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                self.bound.accept()[0].close()
            except OSError:
                return
            self.heard += 1


@pytest.fixture
def ear() -> Iterator[Ear]:
    actual = Ear()
    yield actual
    actual.bound.close()


@pytest.fixture(scope="module")
def page(served: ServedModel) -> Iterator[Any]:
    """The application with its page, and a session for its requests."""
    from running_server import run_server

    with run_server(create_app({"tiny": served}, studio=True), served) as actual:
        yield actual


def config(page: Any) -> dict[str, Any]:
    full = httpx.get(f"{page.url}/").text
    actual = re.search(r"window\.gradio_config = (.*?);</script>", full)
    assert actual is not None
    text: dict[str, Any] = json.loads(actual[1])
    return text


def event(page: Any, data: list[Any], fn_index: int = 0, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    body = {"data": data, "fn_index": fn_index, "session_hash": "abc123", **more}
    return httpx.post(f"{page.url}{EVENT}", json=body, headers=headers, timeout=60)


def listening(page: Any, kind: str) -> list[tuple[int, int]]:
    """Events of the page of this kind (number, inputs)."""
    return [
        (dependency["id"], len(dependency["inputs"]))
        for dependency in config(page)["dependencies"]
        if any(target[1] == kind for target in dependency["targets"])
    ]


def test_the_page_and_its_own_files_are_there(page: Any) -> None:
    full = httpx.get(f"{page.url}/")
    assert full.status_code == 200
    assert "default-src 'self'" in full.headers["content-security-policy"]
    assert full.headers["referrer-policy"] == "no-referrer"
    text = config(page)
    assert not text.get("footer_links")
    assert text["analytics_enabled"] is False
    assert not text["connect_heartbeat"]
    # The strip alone says that something is under way.
    asked = [dependency for dependency in text["dependencies"] if dependency["backend_fn"]]
    assert len({tuple(dependency["show_progress_on"] or ()) for dependency in asked}) == 1
    assert all(len(dependency["show_progress_on"]) == 1 for dependency in asked)
    asset = re.search(r'src="\./(assets/[^"]+)"', full.text)
    assert asset is not None
    assert httpx.get(f"{page.url}/{asset[1]}").status_code == 200
    assert httpx.get(f"{page.url}/theme.css").status_code == 200
    # And the API beside it is what it was.
    assert httpx.get(f"{page.url}/v1/models").json()[0]["name"] == "tiny"
    assert httpx.post(f"{page.url}/health").status_code == 405
    assert httpx.get(f"{page.url}/v1/nothing").headers["content-type"] == "application/problem+json"


def test_a_page_that_nobody_uses_does_not_keep_the_server_busy(served: ServedModel) -> None:
    app = create_app({"tiny": served}, studio=True)

    async def timers() -> int:
        loop, counted = asyncio.get_running_loop(), []
        own = loop.call_at
        async with app.router.lifespan_context(app):
            await asyncio.sleep(0.1)  # what ends sees that it has to
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(loop, "call_at", lambda *a, **k: counted.append(a) or own(*a, **k))
                await asyncio.sleep(0.5)
        return len(counted)

    assert asyncio.run(timers()) == 1, "timers within half a second; one is the sleep's own"


def test_an_event_of_the_page_is_answered(page: Any) -> None:
    [(number, inputs)] = listening(page, "load")[:1]
    answer = event(page, [None] * inputs, number)
    assert answer.status_code == 200
    assert "data:image/png;base64" in answer.text
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("label", "data", "message"),
    [
        ("Seed of a sample", [-1], "whole number"),
        ("Seed of a sample", [1.5], "whole number"),
        ("Seed of a sample", [None], "whole number"),
        ("Pictures on the way", [99, False, 0], "from 1 to 8"),
        ("Hold what is measured", [["slant"]], "attributes"),
        ("Model", ["other"], "not served"),
    ],
)
def test_a_mistake_reaches_the_desk_and_is_a_sentence(
    page: Any, label: str, data: list[Any], message: str
) -> None:
    opening = listening(page, "load")[0]
    event(page, [None] * opening[1], opening[0])
    full = config(page)
    [part] = [
        component["id"]
        for component in full["components"]
        if component["props"].get("label") == label
    ]
    [number] = [
        component["id"]
        for component in full["dependencies"]
        if [part, "input"] in component["targets"]
    ]
    answer = event(page, data, number)
    assert answer.status_code == 200
    assert message in answer.text
    # So it does from a page that this server does not know; there everything begins anew.
    unknown = event(page, data, number, session_hash="unknown" + str(number))
    assert unknown.status_code == 200
    assert "begins anew" in unknown.text or message in unknown.text


def test_a_page_can_ask_whether_its_server_is_there(page: Any) -> None:
    answer = httpx.get(f"{page.url}/gradio_api/app_id")
    assert answer.json() == {"app_id": config(page)["app_id"]}


@pytest.mark.parametrize(
    "path",
    [
        "/config", "/gradio_api/info", "/gradio_api/info?serialize=False",
        "/gradio_api/openapi.json", "/gradio_api/user",
        "/gradio_api/startup-events", "/gradio_api/heartbeat/abc123",
        "/gradio_api/queue/data?session_hash=abc123", "/gradio_api/queue/status",
        "/gradio_api/runs", "/gradio_api/deep_link?session_hash=abc123", "/monitoring",
        "/gradio_api/file=/etc/passwd", "/gradio_api/file/etc/passwd", "/gradio_api/file=EAR",
        "/gradio_api/proxy=EAR", "/file=/etc/passwd", "/gradio_api/upload_progress?upload_id=1",
        "/gradio_api/stream/a/b/1/playlist.m3u8", "/gradio_api/dev/reload", "/gradio_api/mcp",
        "/custom_component/a/client/component/index.js", "/gradio_api/custom_component/1/a/b/c",
        "/svelte/svelte.js", "/pwa_icon", "/manifest.json", "/login", "/logout", "/docs",
        "/gradio_api/vibe-code", "/assets/../../../../etc/passwd", "/assets/%2e%2e/%2e%2e/x",
        "/assets//etc/passwd", "/static/..%2f..%2frequirements.txt", "/robots.txt",
    ],
)  # fmt: skip
def test_nothing_else_can_be_read(page: Any, ear: Ear, path: str) -> None:
    answer = httpx.get(f"{page.url}{path.replace('EAR', ear.url)}")
    assert answer.status_code == 404, answer.text[:200]
    assert "root:" not in answer.text
    assert ear.heard == 0


@pytest.mark.parametrize(
    "path",
    [
        "queue/join", "upload", "component_server", "reset", "cancel", "api/predict",
        "run/opened", "call/opened", "call/v2/opened", "stream/abc", "login", "process_recording",
        "vibe-edit", "run-history/connect",
    ],
)  # fmt: skip
def test_nothing_else_can_be_posted(page: Any, ear: Ear, path: str) -> None:
    picture = {"path": "/etc/passwd", "url": ear.url, "meta": {"_type": "gradio.FileData"}}
    body = {"data": [picture], "fn_index": 0, "session_hash": "abc123", "component_id": 1}
    assert httpx.post(f"{page.url}/gradio_api/{path}", json=body).status_code in (404, 405)
    files = {"files": ("a.png", b"x")}
    assert httpx.post(f"{page.url}/gradio_api/{path}", files=files).status_code in (404, 405)
    assert ear.heard == 0


@pytest.mark.parametrize(
    "picture",
    [
        {"url": "EAR/a.png", "meta": {"_type": "gradio.FileData"}},
        {"path": "EAR/a.png", "meta": {"_type": "gradio.FileData"}},
        {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
        {"path": "/etc/passwd", "orig_name": "a.png"},
        {"url": "file:///etc/passwd"},
        {"deep": [[{"er": {"path": "/etc/passwd"}}]]},
        [[[[[[[[[[[[[["deeper"]]]]]]]]]]]]]],
    ],
)
@pytest.mark.parametrize("where", ["data", "event_data"])
def test_no_event_makes_the_server_fetch_or_read(
    page: Any, ear: Ear, picture: Any, where: str
) -> None:
    given = json.loads(json.dumps(picture).replace("EAR", ear.url))
    for kind in ("load", "input", "click", "picked", "pick", "submit"):
        for number, inputs in listening(page, kind)[:2]:
            data = [given] * max(inputs, 1) if where == "data" else [None] * inputs
            more = {"event_data": {"files": [given]}} if where == "event_data" else {}
            answer = event(page, data, number, **more)
            assert answer.status_code == 422
            assert "root:" not in answer.text
    assert ear.heard == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b"[]", 400), (b'"x"', 400), (b"\xff", 400), (b"[" * 99_999, 400),
        (b"{}", 422), (b'{"data": 1, "fn_index": 0, "session_hash": "a"}', 422),
        (b'{"data": [], "fn_index": "0", "session_hash": "a"}', 422),
        (b'{"data": [], "fn_index": true, "session_hash": "a"}', 422),
        (b'{"data": [], "fn_index": 0}', 422),
        (b'{"data": [], "fn_index": 0, "session_hash": "../a"}', 422),
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused(page: Any, body: bytes, status: int) -> None:
    answer = httpx.post(f"{page.url}{EVENT}", content=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_an_event_keeps_only_what_the_page_sends() -> None:
    more = {"batched": True, "simple_format": True, "oauth_token": "x", "event_id": "1"}
    body = {"data": [1], "fn_index": 2, "session_hash": "a", "trigger_id": 3, **more}
    saved = json.loads(gate._checked(json.dumps(body).encode()))
    assert saved == {"data": [1], "fn_index": 2, "session_hash": "a", "trigger_id": 3}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://elsewhere.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "https://proxied.example"}, 200),
    ],
)
def test_a_page_elsewhere_cannot_speak_to_it(
    page: Any, headers: dict[str, str], status: int
) -> None:
    [(number, inputs)] = listening(page, "load")[:1]
    assert event(page, [None] * inputs, number, headers=headers).status_code == status


def test_downloads_are_known_by_their_token_alone(page: Any) -> None:
    [(number, inputs)] = listening(page, "load")[:1]
    text = event(page, [None] * inputs, number).text
    actual = re.search(r"studio/[\w-]+/\d+\.zip", text)
    assert actual is not None
    answer = httpx.get(f"{page.url}/{actual[0]}")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.content[:2] == b"PK"
    other = re.sub(r"\d+\.zip", "99.zip", actual[0])
    assert httpx.get(f"{page.url}/{other}").status_code == 422
    assert httpx.get(f"{page.url}/studio/guessed/1.zip").status_code == 404


def test_a_token_and_the_host_name_guard_the_page_too(served: ServedModel) -> None:
    from running_server import run_server

    app = create_app({"tiny": served}, token=HUSH, hosts=("127.0.0.1",), studio=True)
    with run_server(app, served) as guarded:
        for path in ("/", "/theme.css", "/studio/a/1.zip"):
            assert httpx.get(f"{guarded.url}{path}").status_code == 401
        assert httpx.post(f"{guarded.url}{EVENT}", json={}).status_code == 401
        with httpx.Client(base_url=guarded.url, follow_redirects=True) as browser:
            assert browser.get(f"/?token={HUSH}").status_code == 200
            assert browser.get("/theme.css").status_code == 200
            assert browser.get("/", headers={"host": "elsewhere.example"}).status_code == 421


def test_building_the_page_speaks_to_nobody(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    create_app({"tiny": served}, studio=True)


def test_without_gradio_the_studio_says_what_it_needs(
    served: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [module for module in sys.modules if module.startswith("controlgen.serve.studio")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(ConfigError, match="--no-studio"):
        create_app({"tiny": served}, studio=True)
    create_app({"tiny": served})


def test_gradio_is_imported_for_its_page_alone() -> None:
    code = "import sys, controlgen.serve.app, controlgen.cli.app; print('gradio' in sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "False"
