"""The studio in a browser: what its reader does, and that nothing of it leaves this machine."""

import importlib.util
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from controlgen import Editor
from controlgen.serve.app import create_app
from controlgen.serve.registry import ServedModel

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
missing = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}"),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
HISTOLOGY = Path(__file__).parents[2] / "artifacts" / "pretrained" / "histology"
WAIT = 30_000  # ms
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def url(served: ServedModel) -> Iterator[str]:
    """The tiny map and tissue, with the page."""
    from running_server import run_server

    tissue = ServedModel("histology", Editor.load(HISTOLOGY), "", 4)
    tiny = ServedModel("tiny", served.editor, "", 4)
    app = create_app({"tiny": tiny, "histology": tissue}, studio=True)
    with run_server(app, served) as actual:
        yield actual.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        actual = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield actual
        actual.close()


@pytest.fixture
def visit(browser: Any, url: str) -> Iterator[Open]:
    """Opens the page; at the end nothing was asked of others, and no script had failed."""
    asked: list[str] = []
    failed: list[str] = []

    def opened(at: str = url, **how: Any) -> Any:
        page = browser.new_page(viewport={"width": 1200, "height": 900}, **how)
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.set_default_timeout(WAIT)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.goto(at)
        page.locator("#strip caption").wait_for()
        return page

    yield opened
    for context in browser.contexts:
        context.close()
    outside = [item for item in asked if not re.match(r"http://127\.0\.0\.1[:/]|data:|blob:", item)]
    assert asked
    assert not outside
    assert not failed


def expect_drawing(page: Any, expression: str | re.Pattern[str]) -> None:
    from playwright.sync_api import expect

    expect(page.locator("#strip caption")).to_have_text(expression, timeout=WAIT)


def last(page: Any) -> str:
    src: str = page.locator("#strip thead img").last.get_attribute("src")
    return src


def add_text(page: Any, more: str, less: str) -> None:
    page.get_by_label("More of", exact=True).fill(more)
    page.get_by_label("Less of", exact=True).fill(less)
    page.get_by_role("button", name="Add this text").click()


def picture(path: Path, value: int) -> Path:
    plane = np.full((24, 24), value, np.uint8)
    plane[6:18, 9:15] = 255 - value
    Image.fromarray(plane).save(path)
    return path


def test_a_sample_is_steered_and_taken_home(
    visit: Open, line: Any, controlgen: Callable[..., Any], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    page = visit()
    expect_drawing(page, "seed(7)")
    page.get_by_role("button", name="Another sample").click()
    expect_drawing(page, "seed(8)")
    add_text(page, "a digit eight", "a digit three")
    expect_drawing(page, 'seed(8) + 1 * (text("a digit eight") - text("a digit three"))')

    # The pictures follow the slider, by mouse or by keys.
    before = last(page)
    slider = page.get_by_label(re.compile("^range slider for 1"))
    slider.fill("2")
    expect_drawing(page, re.compile(r"seed\(8\) \+ 2 \* "))
    assert last(page) != before
    slider.press("ArrowRight")
    expect_drawing(page, re.compile(r"seed\(8\) \+ 2\.05 \* "))

    # An axis is seen before it is added.
    page.get_by_role("tab", name="Axes").click()
    page.get_by_role("button", name="Show the axes").click()
    page.get_by_role("button", name="Add axis 2").click()
    expect_drawing(page, re.compile(r'\+ 1 \* axis\("sefa", 2\)$'))
    page.get_by_role("button", name="Remove direction 2").click()
    expect_drawing(page, re.compile(r"digit three\"\)\)$"))

    # What is drawn is written down, and comes home whole.
    expression = page.get_by_role("textbox", name="Expression").input_value()
    recipe = page.get_by_role("textbox", name="Recipe of the result").input_value()
    assert tomllib.loads(recipe)["expression"] == expression
    for name, text in (("expression", expression), ("recipe of the result", recipe)):
        page.get_by_role("button", name=f"Copy the {name}").click()
        assert page.evaluate("navigator.clipboard.readText()") == text
    with page.expect_download() as download:
        page.get_by_role("link", name="Download pictures and recipe").click()
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as full:
        full.extractall(tmp_path)
    assert (tmp_path / "recipe.toml").read_text() == recipe
    monkeypatch.chdir(tmp_path)
    answer = controlgen("edit", line.map_folder, "--recipe", "recipe.toml", "-o", "again.png")
    assert answer.code == 0, answer.err
    result = (tmp_path / "pictures" / "result.png").read_bytes()
    assert (tmp_path / "again.png").read_bytes() == result

    # An expression by hand is drawn as it stands; a mistake is a sentence; the past comes back.
    box = page.get_by_role("textbox", name="Expression")
    box.fill('seed(3) - text("x") + text("y")')
    box.press("Enter")
    expect_drawing(page, 'seed(3) - text("x") + text("y")')
    box.fill("seed(3) + nonsense(1)")
    box.press("Enter")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "unknown name 'nonsense'" in alert.inner_text()
    page.locator("#past button").last.click()
    expect_drawing(page, "seed(7)")
    assert page.get_by_role("alert").count() == 0
    page.screenshot(path=tmp_path / "light.png", full_page=True)


def test_images_of_ones_own(visit: Open, tmp_path: Path) -> None:
    page = visit()
    mine = picture(tmp_path / 'my <b> "scan".png', 10)
    page.locator("#own input").set_input_files(mine)
    expect_drawing(page, 'image("my-b-scan.png")')
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    page.locator("#own input").set_input_files(bad)
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert "bad.png" in alert.inner_text()
    assert "Traceback" not in page.content()

    page.get_by_role("tab", name="Pictures").click()
    for side, value in (("more", 0), ("less", 200)):
        several = [picture(tmp_path / f"{side}{at}.png", value + at) for at in range(2)]
        page.locator(f"#{side} input").set_input_files(several)
        page.get_by_text(f"2 images: {side}0.png, {side}1.png").wait_for()
    page.get_by_role("button", name="Add these pictures").click()
    expect_drawing(page, re.compile(r'1 \* \(mean\("more-1/\*"\) - mean\("less-1/\*"\)\)$'))

    # Words stay words, whatever they look like.
    page.get_by_role("tab", name="Text").click()
    bad = "<img src=/x onerror=window.hit=1> {{this}} ${window.hit=1}"
    add_text(page, bad, "b")
    expect_drawing(page, re.compile(r"onerror=window\.hit=1> \{\{this\}\} \$\{window"))
    assert page.evaluate("window.hit") is None
    assert page.locator("img[src='/x']").count() == 0


def test_tissue_in_the_dark_by_keys_alone(visit: Open, tmp_path: Path) -> None:
    page = visit(color_scheme="dark")
    model = page.get_by_label("Model")
    model.focus()
    model.press("ArrowDown")
    page.get_by_role("option", name="histology").wait_for()
    model.press("Enter")
    page.get_by_text("Synthetic; not for diagnosis.").wait_for()
    page.get_by_label("More of", exact=True).focus()
    page.keyboard.type("malignant glands")
    page.keyboard.press("Tab")
    page.keyboard.type("benign glands")
    page.keyboard.press("Enter")
    expect_drawing(page, re.compile("malignant"))
    page.get_by_label("eosin", exact=True).focus()
    page.keyboard.press("Space")
    expect_drawing(page, re.compile(r'hold\("eosin"\)$'))
    text = page.locator("#strip").inner_text()
    assert "eosin (held)" in text
    assert "σ" in text
    assert "Doubtful" in text or "Can be believed" in text
    with page.expect_download() as download:
        page.get_by_role("link", name="Download pictures and recipe").press("Enter")
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as full:
        assert full.read("README.txt").startswith(b"Synthetic; not for diagnosis.")
    page.screenshot(path=tmp_path / "dark.png", full_page=True)

    # Every control has a name, and shows that it is the one in hand.
    unnamed, unseen = [], []
    page.locator("body").press("Tab")
    for _ in range(30):
        recorded = page.evaluate(FOCUSED)
        if recorded["tag"] != "BODY":
            unnamed += [] if recorded["name"].strip() else [recorded["html"]]
            unseen += [] if recorded["outline"] else [recorded["html"]]
        page.keyboard.press("Tab")
    assert not unnamed
    assert not unseen


FOCUSED = """() => {
  const one = document.activeElement, style = getComputedStyle(one);
  const label = one.labels && one.labels[0] ? one.labels[0].innerText : '';
  const name = one.getAttribute('aria-label') || label || one.innerText || one.title || '';
  const outline = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0;
  return {tag: one.tagName, name, outline, html: one.outerHTML.slice(0, 200)};
}"""


def focused(page: Any) -> str:
    text: str = page.evaluate(FOCUSED)["name"]
    return text


def test_what_the_reader_is_at_is_left_alone(visit: Open) -> None:
    from playwright.sync_api import expect

    page = visit()
    add_text(page, "a digit eight", "a digit three")
    expect_drawing(page, re.compile("three"))
    box = page.get_by_role("textbox", name="Expression")
    slider = page.get_by_label(re.compile("^range slider for 1"))
    number = page.get_by_label(re.compile("^number input for 1"))
    assert page.get_by_role("button", name="Reset to default value").count() == 0

    # A number beyond the slider widens it; an emptied box is not a number, nor a mistake. Nothing
    # of it waits for a drawing.
    number.fill("10")
    number.press("Tab")
    expect(slider).to_have_attribute("max", "10")
    number.fill("")
    number.press("Tab")
    expect(number).to_have_value("10")
    slider.fill("6")
    expect_drawing(page, re.compile(r"\+ 6 \*"))
    number.fill("")
    number.press("Tab")
    page.wait_for_timeout(1500)  # no answer that comes late moves it
    assert (number.input_value(), slider.get_attribute("max")) == ("6", "10")
    expect_drawing(page, re.compile(r"\+ 6 \*"))

    # What is being written stays while a drawing comes; the handle stays where it was.
    handle = page.get_by_label("Before and after")
    handle.fill("90")
    slider.fill("2")
    box.fill("seed(3) + half of a th")
    expect_drawing(page, re.compile(r"\+ 2 \*"))
    page.wait_for_timeout(300)
    assert box.input_value() == "seed(3) + half of a th"
    assert handle.input_value() == "90"
    at = "document.querySelector('.compare').style.getPropertyValue('--at')"
    assert page.evaluate(at) == "90%"
    page.get_by_role("button", name="Another sample").click()
    expect_drawing(page, re.compile(r"^seed\(8\)"))
    expect(box).to_have_value(re.compile(r"^seed\(8\)"))

    # A bad seed is one sentence, in sight from everywhere; the picture stays in sight too.
    page.get_by_label("Seed of a sample").fill("-1")
    page.get_by_role("alert").wait_for()
    assert "whole number" in page.get_by_role("alert").inner_text()
    page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    expect(page.get_by_role("alert")).to_be_in_viewport()
    expect(page.locator(".about")).to_be_in_viewport()

    # With its button gone, the focus is at hand.
    page.get_by_role("button", name="Remove direction 1").press("Enter")
    expect_drawing(page, "seed(8)")
    page.wait_for_function("document.activeElement !== document.body")
    assert focused(page) == "Text"


def test_a_narrow_page_begins_with_its_pictures(visit: Open, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    page = visit()
    page.set_viewport_size({"width": 600, "height": 800})
    tops = "['strip', 'own'].map((id) => document.getElementById(id).getBoundingClientRect().top)"
    strip, own = page.evaluate(tops)
    assert strip < own
    box = page.get_by_role("textbox", name="Expression")
    box.fill('seed(7) + text("a") - text("b")')
    box.press("Enter")
    expect_drawing(page, re.compile("text"))
    page.get_by_role("button", name="Settings").click()
    # On a busy machine the slider is there before it listens.
    slider, strip = page.get_by_label(re.compile("range slider for Pictures")), "#strip thead img"
    for pictures in (8, 7) * 5:
        slider.fill(str(pictures))
        page.wait_for_timeout(2_000)
        if page.locator(strip).count() == 9:
            break
    expect(page.locator(strip)).to_have_count(9)
    page.evaluate("window.scrollTo(0, 0)")
    expect(page.locator("#strip thead img").last).to_be_in_viewport(ratio=0.9)

    # What is dropped on the words is taken as what is dropped on the box.
    content = picture(tmp_path / "a.png", 10).read_bytes()
    page.evaluate(DROPPED, list(content))
    expect_drawing(page, re.compile(r'^image\("dropped.png"\)'))


DROPPED = """(bytes) => {
  const files = new DataTransfer();
  files.items.add(new File([new Uint8Array(bytes)], 'dropped.png', {type: 'image/png'}));
  const drop = new DragEvent('drop', {dataTransfer: files, bubbles: true, cancelable: true});
  document.querySelector('#own .picker span').dispatchEvent(drop);
}"""


def test_without_a_clipboard_copying_copies_still(browser: Any, url: str) -> None:
    # As on plain http from another machine.
    context = browser.new_context()
    context.add_init_script(
        "delete Navigator.prototype.clipboard;"
        "addEventListener('copy', () => { window.copied = String(document.getSelection()); });"
    )
    page = context.new_page()
    page.goto(url)
    page.locator("#strip caption").wait_for()
    page.get_by_role("button", name="Copy the expression").click()
    page.wait_for_function("window.copied === 'seed(7)'")
    context.close()


def test_a_page_finds_its_server_again(visit: Open, served: ServedModel) -> None:
    from running_server import run_server

    def app() -> Any:
        return create_app({"tiny": ServedModel("tiny", served.editor, "", 4)}, studio=True)

    with run_server(app(), served) as actual:
        page = visit(actual.url)
        port = int(actual.url.rpartition(":")[2])
    page.get_by_role("button", name="Another sample").click()
    page.get_by_text("Connection to the server was lost").wait_for()
    with run_server(app(), served, port):
        page.get_by_text("Connection to the server was lost").wait_for(state="detached")
        page.locator("#strip caption").wait_for()
        page.get_by_role("button", name="Another sample").click()
        expect_drawing(page, "seed(8)")


def test_a_signal_ends_the_server_though_a_page_is_open(visit: Open, line: Any) -> None:
    code = "from controlgen.cli.app import main; main()"
    words = [sys.executable, "-c", code, "serve", str(line.map_folder), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CONTROLGEN_TOKEN": "hush"}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            address = process.stdout.readline().split(" at ")[1].split()[0]
            page = visit(f"{address}/?token=hush")
            assert page.url == f"{address}/"
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
            assert time.monotonic() - begun < 10
            assert "Traceback" not in errors
        finally:
            process.kill()
