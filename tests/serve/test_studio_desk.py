"""What the studio answers to its page's events, on a tiny map and without a browser."""

import asyncio
import io
import logging
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from controlgen import Editor
from controlgen.serve import serialization
from controlgen.serve.job_queue import JobQueue
from controlgen.serve.limits import Limits
from controlgen.serve.registry import ServedModel
from controlgen.serve.schemas import Measurement
from controlgen.serve.service import Service
from controlgen.serve.studio import showing
from controlgen.serve.studio.asking import Asking
from controlgen.serve.studio.desk import Desk
from controlgen.serve.studio.parcel import parcel
from controlgen.serve.studio.visits import Visits

Ask = Callable[..., dict[str, Any]]
EIGHT = ("a digit eight", "a digit three")


@pytest.fixture
def models(served: ServedModel) -> dict[str, ServedModel]:
    return {"tiny": ServedModel("tiny", served.editor, "", 4)}


@pytest.fixture
def desk(models: dict[str, ServedModel]) -> Iterator[Desk]:
    limits = Limits()
    work = JobQueue(limits)
    yield Desk(Asking(Service(models, limits), work), Visits("tiny"))
    work.close()


@pytest.fixture
def ask(desk: Desk) -> Ask:
    """One page that has been opened; `ask("seed", 3)` is an event of it."""

    def asked(event: str, *given: Any, page: str = "page") -> dict[str, Any]:
        return asyncio.run(desk.answer(getattr(desk, event), page, *given))

    asked("opened")
    return asked


def png(value: int = 90, shape: tuple[int, ...] = (20, 30, 3)) -> str:
    stream = io.BytesIO()
    picture = np.full(shape, value, np.uint8)
    picture[5:15, 10:20] = 255 - value
    Image.fromarray(picture).save(stream, "PNG")
    return serialization.to_base64(stream.getvalue())


def files(*names: str, data: str | None = None) -> dict[str, Any]:
    return {"files": [{"name": name, "data": png() if data is None else data} for name in names]}


def entries(desk: Desk) -> dict[str, bytes]:
    visit = desk.visits.of("page")
    assert visit.current is not None
    content = parcel(visit.current, desk.asking.served(visit))
    assert content == parcel(visit.current, desk.asking.served(visit))
    with zipfile.ZipFile(io.BytesIO(content)) as full:
        assert full.testzip() is None
        return {name: full.read(name) for name in full.namelist()}


def unpack(content: dict[str, bytes], folder: Path) -> None:
    for name, item in content.items():
        path = folder / name
        assert path.resolve().is_relative_to(folder.resolve())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item)


def test_the_page_begins_with_a_sample(ask: Ask) -> None:
    displayed = ask("opened")
    assert displayed["expression"] == "seed(7)"
    assert displayed["part0"] == {"visible": False}
    assert displayed["strip"].count("<img") == 2
    assert "Synthetic." in displayed["about"]
    assert 'picture = "result"' in displayed["recipe"]


def test_directions_sliders_and_history(ask: Ask, desk: Desk) -> None:
    displayed = ask("text", *EIGHT)
    assert (
        displayed["expression"] == 'seed(7) + 1 * (text("a digit eight") - text("a digit three"))'
    )
    assert displayed["slider0"]["label"].startswith("1. “a digit eight”")
    assert displayed["strip"].count("<img") == 5
    displayed = ask("axis", {"family": "sefa", "axis": 2})
    displayed = ask("slide", 0.3, -2, *[0] * 6)
    assert displayed["expression"].endswith(' - 2 * axis("sefa", 2)')
    assert "0.3 * (text" in displayed["recipe"]
    assert "slider0" not in displayed
    displayed = ask("removed", 0)
    assert displayed["expression"] == 'seed(7) - 2 * axis("sefa", 2)'
    assert ask("another")["expression"].startswith("seed(8)")
    assert ask("seed", 101)["expression"].startswith("seed(101)")

    # The last of the history is the first drawing; it comes back with its controls.
    number = min(int(item) for item in re.findall(r"drawing&quot;: (\d+)", displayed["past"]))
    displayed = ask("back", {"drawing": number})
    assert displayed["expression"] == "seed(7)"
    assert displayed["part0"] == {"visible": False}
    assert desk.visits.of("page").wish.parts == ()


def test_an_expression_by_hand_is_what_is_drawn(ask: Ask) -> None:
    text = "seed(3)+.5*(text('a')-text('b'))"
    displayed = ask("expression", text)
    assert displayed["expression"] == text
    assert displayed["slider0"]["value"] == 0.5
    assert "nan" not in displayed["strip"]
    assert ask("slide", 1.5)["expression"] == 'seed(3) + 1.5 * (text("a") - text("b"))'


@pytest.mark.parametrize(
    ("event", "given", "message"),
    [
        ("expression", ["seed(7) + nonsense(3)"], "unknown name"),
        ("expression", ["x" * 5_000], "characters"),
        ("expression", ['image("/etc/passwd")'], "was not uploaded"),
        ("expression", ['seed(1) + direction("../a.safetensors")'], "was not uploaded"),
        ("text", ["", ""], "more of"),
        ("text", ["a", " "], "contrary"),
        ("seed", [-1], "whole number"),
        ("seed", [1.5], "whole number"),
        ("seed", ["x"], "number"),
        ("slide", [float("inf")], None),
        ("hold", [["nothing"]], "attributes"),
        ("attribute", [""], "choose"),
        ("attribute", ["ink"], "attributes"),
        ("saved", [None], "choose"),
        ("axes", ["none"], "there is"),
        ("axis", [{"family": "sefa", "axis": 99}], "there are only"),
        ("axis", [{"family": "sefa"}], "number"),
        ("groups", [], "at least one"),
        ("keep", ["Bad name!"], "small letters"),
        ("keep", ["bold"], "no direction"),
        ("variants", [9_999], "answer"),
        ("settings", [4, False, 9_999], "refine"),
        ("settings", [None, False, 0], "whole number"),
        ("seed", [None], "whole number"),
        ("model", ["other"], "not served"),
        ("back", [{"drawing": 99}], "no longer kept"),
        ("image", [{}], "no image"),
        ("image", [{"files": [{"name": 3}]}], "no image"),
        ("image", [{"too_large": "a.png"}], "too large"),
        ("image", [files("a.png", "b.png")], "at most 1"),
        ("image", [files("a.svg")], "no image file"),
        ("image", [files("a.png", data="")], "empty"),
        ("image", [files("a.png", data="????")], "base64"),
        ("image", [files("a.png", data="R0lGODlh")], "GIF"),
        (
            "image",
            [files("a.png", data=serialization.to_base64(b"\x89PNG\r\n\x1a\n" + b"x" * 40))],
            "damaged",
        ),
    ],
)
def test_mistakes_are_one_sentence(
    ask: Ask, event: str, given: list[Any], message: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    displayed = ask(event, *given)
    if message is not None:
        assert 'role="alert"' in displayed["message"]
        assert message in displayed["message"]
        assert "Traceback" not in displayed["message"]
        assert "strip" not in displayed
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    # Nothing of it stays.
    assert ask("opened")["expression"] == "seed(7)"


def test_what_nobody_foresaw_is_told_without_a_word_of_it(
    ask: Ask, desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("/secret/path")

    monkeypatch.setattr(Service, "sweep", broken)
    displayed = ask("another")
    assert "log says more" in displayed["message"]
    assert "secret" not in str(displayed)
    assert "/secret/path" in caplog.text


def test_a_forgotten_page_begins_anew(ask: Ask) -> None:
    displayed = ask("slide", 1.0, page="another page")
    assert "begins anew" in displayed["message"]
    assert displayed["expression"] == "seed(7)"


def test_a_full_queue_is_told_and_nothing_is_lost(models: dict[str, ServedModel]) -> None:
    limits = Limits(waiting=1)
    work, go = JobQueue(limits), threading.Event()
    desk = Desk(Asking(Service(models, limits), work), Visits("tiny"))
    asyncio.run(desk.answer(desk.opened, "page"))
    work.submit(lambda: go.wait(30))
    displayed = asyncio.run(desk.answer(desk.another, "page"))
    assert "requests wait already" in displayed["message"]
    go.set()
    work.close()
    assert desk.visits.of("page").wish.seed == 7


def test_words_of_others_are_escaped(ask: Ask) -> None:
    bad = '"><img src=x onerror=alert(1)><script>'
    displayed = ask("text", bad, "b")
    assert "<script" not in str(displayed["strip"])
    assert "<img src=x" not in str(displayed["strip"]) + str(displayed["past"])
    assert "onerror=alert(1)&gt;" in displayed["strip"]
    text = ask("expression", f"seed(1) + {bad}")["message"]
    assert "<img" not in text


def test_a_zip_draws_its_result_again(
    ask: Ask, desk: Desk, models: dict[str, ServedModel], line: Any, controlgen: Any,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    ask("image", files("My scan.PNG"))
    ask("text", *EIGHT)
    ask("keep", "bold")
    ask("removed", 0)
    ask("saved", "bold.safetensors")
    for side in ("more", "less"):
        ask("gather", side, files("a.png", "b.png", data=png(30 if side == "more" else 200)))
    displayed = ask("groups")
    assert "alert" not in displayed["message"], displayed["message"]
    content = entries(desk)
    assert set(content) == {
        "README.txt", "recipe.toml", "My-scan.png", "bold.safetensors",
        "more-1/a.png", "more-1/b.png", "less-1/a.png", "less-1/b.png",
        "pictures/step-1.png", "pictures/step-2.png", "pictures/step-3.png",
        "pictures/result.png",
    }  # fmt: skip
    assert models["tiny"].editor.weights in content["README.txt"].decode()
    assert content["recipe.toml"].decode() == displayed["recipe"]

    # Unpacked elsewhere, with nothing but the model's folder.
    unpack(content, tmp_path)
    monkeypatch.chdir(tmp_path)
    answer = controlgen("edit", line.map_folder, "--recipe", "recipe.toml", "-o", "again.png")
    assert answer.code == 0, answer.err
    assert (tmp_path / "again.png").read_bytes() == content["pictures/result.png"]
    # Each picture carries its own recipe as well.
    answer = controlgen("edit", line.map_folder, "--recipe", "pictures/step-2.png", "-o", "2.png")
    assert answer.code == 0, answer.err
    assert (tmp_path / "2.png").read_bytes() == content["pictures/step-2.png"]


def test_a_zip_says_when_a_direction_is_no_longer_the_same(ask: Ask, desk: Desk) -> None:
    ask("text", *EIGHT)
    ask("keep", "bold")
    ask("removed", 0)
    ask("saved", "bold.safetensors")
    before = entries(desk)["bold.safetensors"]
    # What others keep under the name afterwards is not what was drawn with.
    ask("opened", page="other")
    ask("text", "x", "y", page="other")
    ask("keep", "bold", page="other")
    assert entries(desk)["bold.safetensors"] == before


def test_settings_change_how_it_is_drawn(ask: Ask, desk: Desk) -> None:
    ask("text", *EIGHT)
    displayed = ask("settings", 2, True, 1)
    assert displayed["strip"].count("<img") == 3
    assert "residual = true" in displayed["recipe"]
    assert "refine = 1" in displayed["recipe"]
    text = ask("settings", 1_000, False, 0)["message"]
    assert "from 1 to 8" in text
    assert desk.visits.of("page").settings.steps == 2


def test_axes_are_walked_from_the_start(ask: Ask) -> None:
    displayed = ask("axes", "sefa")["axes"]
    assert displayed.count("<li>") == 6
    assert "minus 3 sigmas" in displayed
    ask("image", files("a.png"))
    other = ask("axes", "pca")["axes"]
    assert "Add axis 1" in other
    assert ask("axis", {"family": "pca", "axis": 1})["expression"].endswith('+ 1 * axis("pca", 1)')


def test_images_are_forgotten_with_what_was_drawn_of_them(ask: Ask, desk: Desk) -> None:
    ask("image", files("a.png"))
    displayed = ask("forget")
    assert displayed["expression"] == "seed(7)"
    visit = desk.visits.of("page")
    assert not visit.images
    assert not any(item.images for item in visit.past)


@pytest.mark.parametrize("kind", ["cycle-mlp", "flow"])
def test_many_answers(kind: str, line: Any, tmp_path: Path, controlgen: Any) -> None:
    folder = line.map_folder
    if kind == "flow":
        quick = {"kind": kind, "width": 32, "depth": 1, "match_steps": 60, "cycle_steps": 0}
        folder = line.refitted(tmp_path / "many", map=quick)
    limits = Limits()
    work = JobQueue(limits)
    served = {"many": ServedModel("many", Editor.load(folder), "", 4)}
    desk = Desk(Asking(Service(served, limits), work), Visits("many"))

    async def page() -> dict[str, Any]:
        await desk.answer(desk.opened, "page")
        await desk.answer(desk.text, "page", *EIGHT)
        return await desk.answer(desk.variants, "page", 3)

    displayed = asyncio.run(page())
    assert displayed["variants"].count("<figure>") == 3
    # Each says how far it is believed, where the map knows.
    assert "believed" not in displayed["variants"]
    drawing = desk.visits.of("page").current
    assert drawing is not None and drawing.variants is not None
    doubted = drawing.variants.pictures[0].model_copy(
        update={"reachability": 0.1, "warning": "too <far> out"}
    )
    text = showing.variants(
        replace(drawing, variants=drawing.variants.model_copy(update={"pictures": [doubted]}))
    )
    assert "doubtful 0.10" in text and "too &lt;far&gt; out" in text
    content = entries(desk)
    unpack(content, tmp_path)
    out = tmp_path / "sheet.png"
    answer = controlgen("edit", folder, "--recipe", tmp_path / "answers.toml", "-o", out)
    assert answer.code == 0, answer.err
    assert out.is_file()
    work.close()


def test_what_is_believed_and_measured_is_told_in_words(ask: Ask, desk: Desk) -> None:
    ask("text", *EIGHT)
    drawing = desk.visits.of("page").current
    assert drawing is not None
    result = drawing.answer.pictures[-1]
    assert showing.believed_in_words(result) == ""
    believed = result.model_copy(update={"reachability": 0.824})
    assert showing.believed_in_words(believed) == "Can be believed: 0.82."
    doubted = result.model_copy(update={"reachability": 0.1, "warning": "too <far> out"})
    assert showing.believed_in_words(doubted) == "Doubtful, 0.10: too <far> out."

    measured = {"nuclear_area": Measurement(before=0.2, after=0.35, sigmas=1.26, held=True)}
    pictures = [
        picture.model_copy(update={"measured": measured}) for picture in drawing.answer.pictures
    ]
    pictures[-1] = doubted.model_copy(update={"measured": measured})
    text = showing.strip(
        type(drawing)(**{**vars(drawing), "answer": drawing.answer.model_copy(
            update={"pictures": pictures}
        )})
    )  # fmt: skip
    assert "nuclear area (held)" in text
    assert "0.35 <small>(+1.3 σ)</small>" in text
    assert "too &lt;far&gt; out" in text
