"""Events of one page that come together, at a busy time or after the server began anew."""

import asyncio
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from controlgen.errors import DataError
from controlgen.serve.job_queue import JobQueue
from controlgen.serve.limits import Limits
from controlgen.serve.registry import ServedModel
from controlgen.serve.service import Service
from controlgen.serve.studio import showing, visits
from controlgen.serve.studio.asking import Asking
from controlgen.serve.studio.desk import Desk
from controlgen.serve.studio.visits import Visits
from tests.serve.test_studio_desk import EIGHT, files

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def desk(served: ServedModel) -> Iterator[Desk]:
    limits = Limits()
    work = JobQueue(limits)
    models = {"tiny": ServedModel("tiny", served.editor, "", 4)}
    yield Desk(Asking(Service(models, limits), work), Visits("tiny"))
    work.close()


@pytest.fixture
def ask(desk: Desk) -> Ask:
    def asked(event: str, *given: Any) -> dict[str, Any]:
        return asyncio.run(desk.answer(getattr(desk, event), "page", *given))

    asked("opened")
    return asked


def together(desk: Desk, *events: tuple[Any, ...]) -> list[dict[str, Any]]:
    """What the page shows after events that all came before the first was answered."""

    async def both() -> list[dict[str, Any]]:
        jobs = [desk.answer(getattr(desk, name), "page", *given) for name, *given in events]
        return await asyncio.gather(*jobs)

    return asyncio.run(both())


def test_two_clicks_during_a_drawing_both_count(desk: Desk, ask: Ask) -> None:
    together(desk, ("text", *EIGHT), ("axis", {"family": "sefa", "axis": 2}), ("another",))
    assert str(desk.visits.of("page").wish) == (
        'seed(8) + 1 * (text("a digit eight") - text("a digit three")) + 1 * axis("sefa", 2)'
    )


def test_a_slider_and_a_button_mean_what_was_seen_when_they_were_used(desk: Desk, ask: Ask) -> None:
    for place in (1, 2, 3):
        ask("axis", {"family": "sefa", "axis": place})
    # By the time of the second removal, the third direction stands where the second was.
    together(desk, ("removed", 0), ("removed", 1), ("slide", 2, 2, 0.5, *[0] * 5))
    assert str(desk.visits.of("page").wish) == 'seed(7) + 0.5 * axis("sefa", 3)'


def test_a_page_cannot_wait_without_end(desk: Desk, ask: Ask) -> None:
    displayed = together(desk, *[("another",)] * (visits.TURNS + 1))
    text = [item for item in displayed if "wait already" in item["message"]]
    assert len(text) == 1
    assert desk.visits.of("page").wish.seed == 7 + visits.TURNS


def test_sliders_are_never_moved_by_what_was_asked_with_them(ask: Ask) -> None:
    ask("axis", {"family": "sefa", "axis": 1})
    # A late answer would take a slider out of the hand that has moved it on.
    displayed = ask("slide", 10, *[0] * 7)
    assert displayed["expression"] == 'seed(7) + 10 * axis("sefa", 1)'
    assert not [name for name in displayed if name.startswith("slider")]
    # An emptied box is about to be written in: its direction stays as it was.
    displayed = ask("slide", None, *[0] * 7)
    assert "alert" not in displayed["message"]
    assert displayed["expression"] == 'seed(7) + 10 * axis("sefa", 1)'
    assert set(ask("left", None, *[0] * 7)) == {"message"}
    # What the browser makes of a number as its box is left is drawn; the same is not drawn again.
    displayed = ask("left", 3, *[0] * 7)
    assert displayed["expression"] == 'seed(7) + 3 * axis("sefa", 1)'
    assert not [name for name in displayed if name.startswith("slider")]
    assert set(ask("left", 3, *[0] * 7)) == {"message"}


def test_a_mistake_leaves_the_box_that_is_typed_in(ask: Ask) -> None:
    for seed in (-1, 1.5, None):
        displayed = ask("seed", seed)
        assert "whole number" in displayed["message"]
        assert "seed" not in displayed
    assert ask("hold", ["nothing"])["seed"] == 7


def test_axes_are_those_of_their_pictures_and_go_with_their_start(ask: Ask, desk: Desk) -> None:
    displayed = ask("axes", "sefa")["axes"]
    assert re.findall(r"family&quot;: &quot;(\w+)&quot;, &quot;axis&quot;: (\d)", displayed) == [
        ("sefa", str(place)) for place in range(1, 7)
    ]
    added = ask("axis", {"family": "sefa", "axis": 2})
    assert added["expression"] == 'seed(7) + 1 * axis("sefa", 2)'
    assert "axes" not in added
    assert ask("seed", 9)["axes"] == ""
    assert "axes" not in ask("seed", 10)
    ask("axes", "pca")
    assert ask("expression", "seed(3)")["axes"] == ""


def test_images_are_kept_all_or_none(ask: Ask, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    given = files("a.png", "b.png", "c.png")
    given["files"][1]["data"] = "R0lGODlh"
    assert "b.png" in ask("gather", "more", given)["message"]
    assert not desk.visits.of("page").images
    # Neither where the last of them has no room, or no image's name.
    monkeypatch.setattr(visits, "UPLOADS", 2)
    assert "may not hold" in ask("gather", "more", files("a.png", "b.png", "c.png"))["message"]
    assert "no image file" in ask("gather", "more", files("a.png", "b.svg"))["message"]
    assert not desk.visits.of("page").images
    assert "2 images: a.png, b.png" in ask("gather", "more", files("a.png", "b.png"))["more"]
    with pytest.raises(DataError, match="forget them"):
        desk.visits.of("page").take("c.png", "x")


def test_a_page_opened_at_a_busy_time_says_what_it_is(served: ServedModel) -> None:
    limits = Limits(waiting=1)
    work, go = JobQueue(limits), threading.Event()
    models = {"tiny": ServedModel("tiny", served.editor, "", 4)}
    desk = Desk(Asking(Service(models, limits), work), Visits("tiny"))
    work.submit(lambda: go.wait(30))
    displayed = asyncio.run(desk.answer(desk.opened, "page"))
    assert "requests wait already" in displayed["message"]
    assert "Synthetic" in displayed["about"]
    assert {"attribute", "hold", "seed"} <= set(displayed)
    assert "alert" not in asyncio.run(desk.answer(desk.forget, "page"))["message"]
    go.set()
    while work.pending:
        threading.Event().wait(0.01)
    # It was known all the time, so the next event is done and not put off.
    assert asyncio.run(desk.answer(desk.another, "page"))["expression"] == "seed(8)"
    work.close()


def test_downloads_are_looked_for_while_pages_come(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = Visits("tiny")
    for name in ("a", "b"):
        reference.of(name)

    def compared(left: bytes, other: bytes) -> bool:
        reference.of("another")
        return left == other

    monkeypatch.setattr(secrets, "compare_digest", compared)
    assert reference.by_token("nobody's") is None
    assert reference.by_token(reference.of("b").token) is reference.of("b")


def test_steps_and_the_past_are_told_apart(ask: Ask, desk: Desk) -> None:
    ask("text", *EIGHT)
    displayed = ask("settings", 8, False, 0)
    heads = re.findall(r"<span>([\d.]+)</span>", displayed["strip"])
    assert heads == ["0.125", "0.25", "0.375", "0.5", "0.625", "0.75", "0.875"]
    # Drawings that begin alike end differently, and the whole of each is in its title.
    ask("settings", 2, False, 0)
    for start in ("seed(7)", "seed(8)"):
        for place in (1, 2):
            ask("expression", f'{start} + 1 * text("a digit that is long") + axis("sefa", {place})')
    past = ask("opened")["past"]
    captions = re.findall(r"<span>(.*?)</span>", past)[:4]
    assert len(set(captions)) == 4
    assert captions[0].startswith("seed(8) + 1 * ")
    assert captions[0].endswith("axis(&quot;sefa&quot;, 2)")
    samples = desk.visits.of("page").current
    assert samples is not None
    assert f'title="{showing.escape(f"tiny: {samples.text}")}"' in past
