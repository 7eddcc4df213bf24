"""Screenshots of the studio for docs/, taken by a browser: run it after the export of a model.

python benchmarks/studio.py [CHROMIUM]
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin
from playwright.sync_api import expect, sync_playwright

from controlgen import __version__

ROOT = Path(__file__).parents[1]
MODELS = [ROOT / "artifacts" / "pretrained" / name for name in ("mnist", "histology")]
SEEDS = {"mnist": "29", "histology": "42"}
SERVE = "from controlgen.cli.app import main; main()"


def wait_for_strip(page: Any, words: str) -> None:
    """Wait until the strip shows an expression that contains these words."""
    expect(page.locator("#strip caption")).to_have_text(re.compile(re.escape(words)))


def digits(page: Any) -> None:
    """A thin digit becomes a bold one."""
    page.get_by_label("Seed of a sample").fill(SEEDS["mnist"])
    page.get_by_label("Seed of a sample").press("Enter")
    wait_for_strip(page, "seed(29)")
    page.get_by_label("More of", exact=True).fill("a bold upright digit")
    page.get_by_label("Less of", exact=True).fill("a thin slanted digit")
    page.get_by_role("button", name="Add this text").click()
    wait_for_strip(page, "+ 1 *")
    page.get_by_label(re.compile("^range slider for 1")).fill("0.5")
    wait_for_strip(page, "+ 0.5 *")


def tissue(page: Any) -> None:
    """More nuclei, and no more eosin."""
    page.get_by_label("Model").click()
    page.get_by_role("option", name="histology").click()
    page.get_by_text("Synthetic; not for diagnosis.").wait_for()
    page.get_by_label("Seed of a sample").fill(SEEDS["histology"])
    page.get_by_label("Seed of a sample").press("Enter")
    wait_for_strip(page, "seed(42)")
    page.get_by_role("tab", name="Measured").click()
    page.get_by_label("One sigma more of").click()
    page.get_by_role("option", name="nuclear area").click()
    page.get_by_role("button", name="Add what is measured").click()
    wait_for_strip(page, "nuclear_area")
    page.get_by_label("eosin", exact=True).check()
    wait_for_strip(page, "hold")


PAGES = {"mnist": digits, "histology": tissue}


def save_screenshot(path: Path, name: str, steps: Callable[[Any], None]) -> None:
    """Reduce the colours of a screenshot, and add provenance."""
    chunks = PngImagePlugin.PngInfo()
    provenance = {
        "synthetic": "true",
        "model": f"artifacts/pretrained/{name}",
        "seed": SEEDS[name],
        "recipe": f"the studio's page in a browser: {steps.__doc__}",
        "version": __version__,
    }
    for key, value in provenance.items():
        chunks.add_text(key, value)
    with Image.open(path) as opened:
        reduced = opened.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    reduced.save(path, pnginfo=chunks)


def main() -> None:
    """Serve the models and save a screenshot of each."""
    chromium = sys.argv[1] if len(sys.argv) > 1 else "/usr/bin/chromium"
    command = [sys.executable, "-c", SERVE, "serve", *map(str, MODELS), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split(" at ")[1].split()[0]
            with sync_playwright() as started:
                browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                for name, steps in PAGES.items():
                    page = browser.new_page(viewport={"width": 1200, "height": 900})
                    page.goto(url)
                    page.locator("#strip caption").wait_for()
                    steps(page)
                    page.locator("h1").first.click()  # no field has the focus
                    path = ROOT / "docs" / f"studio-{name}.png"
                    page.evaluate("window.scrollTo(0, 0)")  # the sticky header is at the top
                    page.screenshot(path=path, full_page=True)
                    save_screenshot(path, name, steps)
                browser.close()
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
