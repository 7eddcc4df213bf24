"""One suite for two: an Editor, and a Client of a server that holds the same map."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controlgen import Client, Editor
from controlgen.errors import ConfigError, ControlGenError, Incompatible
from controlgen.serve.app import create_app
from controlgen.serve.registry import ServedModel
from running_server import run_server

TEXT = {"text": "a digit eight", "neutral": "a digit three"}
ARRAYS = (
    "pixels",
    "latents",
    "asked",
    "obtained",
    "source_pixels",
    "source_latents",
    "source_features",
)


@pytest.fixture(params=["editor", "client"])
def model(request: Any, served: Any) -> Iterator[Any]:
    """Either; what it does is compared with the Editor that is served."""
    if request.param == "editor":
        yield served.editor
        return
    with Client(request.getfixturevalue("server").url) as client:
        yield client


def same(left_edit: Any, right_edit: Any) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(left_edit, name), getattr(right_edit, name), name)
    np.testing.assert_array_equal(left_edit.agreement, right_edit.agreement)
    np.testing.assert_array_equal(left_edit.progress, right_edit.progress)
    assert (left_edit.reachability is None) == (right_edit.reachability is None)
    assert left_edit.warnings == right_edit.warnings
    if right_edit.attributes is None:
        assert left_edit.attributes is None
    else:
        assert left_edit.attributes.names == right_edit.attributes.names
        np.testing.assert_array_equal(left_edit.attributes.after, right_edit.attributes.after)


def test_what_it_is(model: Any, served: Any) -> None:
    assert model.image_shape == served.editor.image_shape
    assert model.latent_size == served.editor.latent_size


def test_samples_features_and_latents(model: Any, served: Any) -> None:
    editor: Editor = served.editor
    actual, expected = model.sample(3, seed=7, start=2), editor.sample(3, seed=7, start=2)
    np.testing.assert_array_equal(actual.latents, expected.latents)
    np.testing.assert_array_equal(actual.pixels, expected.pixels)
    np.testing.assert_array_equal(model.generate(actual.latents), expected.pixels)
    features = editor.embed(expected.pixels)
    np.testing.assert_array_equal(model.embed(actual.pixels), features)
    np.testing.assert_array_equal(model.invert(features), editor.invert(features))
    for text in ("a digit eight", ["a digit eight", "an eight"]):
        np.testing.assert_array_equal(model.embed_text(text), editor.embed_text(text))


def test_directions(model: Any, served: Any) -> None:
    editor: Editor = served.editor
    pixels = editor.sample(4, seed=1).pixels
    recorded = editor.sample(40, seed=2).pixels
    measured = {"values": recorded.mean((1, 2, 3)), "of": recorded}
    for asked in (TEXT, {"more": pixels[:2], "less": pixels[2:]}, measured):
        np.testing.assert_array_equal(model.direction(**asked), editor.direction(**asked))
    # A name that is none is refused as that, whatever letters it has.
    with pytest.raises(ControlGenError) as text:
        model.direction(attribute='a") + seed(1')
    assert "attributes" in str(text.value), text.value
    words = 'text("a") + text("b") - 2 * text("c")'
    np.testing.assert_array_equal(model.parse(words), editor.direction_from_expression(words))


def test_directions_of_attributes(line: Any, tmp_path: Path) -> None:
    folder = line.refitted(tmp_path / "store", attributes={"kind": "strokes"})
    editor = Editor.load(folder)
    name, other = editor.attributes.names[:2]
    served = ServedModel("tiny", editor, "", 4)
    with run_server(create_app({"tiny": served}), served) as server, Client(server.url) as client:
        for asked in ({"attribute": name}, {"attribute": name, "hold": other}):
            expected = editor.direction(**asked)
            np.testing.assert_array_equal(client.direction(**asked), expected)
        client.direction(attribute=name, name="more")
        words = f'seed(1) + direction("more.safetensors") + hold("{other}")'
        assert client.answer(words).attributes.names == editor.attributes.names


def test_a_sweep_is_its_answers(server: Any, served: Any) -> None:
    words = 'seed(7) + text("a digit eight") - text("a digit three")'
    with Client(server.url) as client:
        actual = client.sweep(words, [-0.5, 1.0])
        for item, amount in zip(actual, (-0.5, 1.0), strict=True):
            same(item, served.editor.answer(words, amount=amount))
            assert item.recipe["amount"] == amount
            for name in ARRAYS:  # an analyst's own, to be changed
                assert getattr(item, name).flags.writeable, name


def test_what_cannot_be_sent_is_one_line(model: Any, served: Any) -> None:
    direction, source = served.editor.direction(**TEXT), served.editor.sample(1)
    for amount in (float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=f"^amount {amount}: must be"):
            model.edit(source, direction, amount)
        with pytest.raises(ConfigError, match=f"^amount {amount}: must be"):
            model.answer("seed(1) + seed(2)", amount)
    for pixels in (source.pixels / 255.0, source.pixels[:, 0], source.pixels.astype(np.int64)):
        with pytest.raises(Incompatible, match="pixels must be uint8" if pixels.ndim > 3 else None):
            model.edit(pixels, direction)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(39), "values of shape (39,) for 40 images; give one number per image"),
        (np.full(40, np.nan), "40 of 40 values are not finite"),
        (np.full(40, 0.1), "all 40 values are alike"),
        (["a"] * 40, "values= must be numbers"),
        (None, "values= and of="),
    ],
)
def test_values_that_make_no_direction_are_refused_in_the_same_words(
    model: Any, served: Any, values: Any, message: str
) -> None:
    pixels = served.editor.sample(40, seed=2).pixels
    with pytest.raises(ControlGenError) as caught:
        model.direction(values=values, of=pixels)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{}, {"residual": True, "amount": -0.5}, {"refine": 2}, {"amount": 0.0}]
)
def test_edits_of_samples_latents_and_pixels(model: Any, served: Any, options: Any) -> None:
    editor: Editor = served.editor
    direction, source = editor.direction(**TEXT), editor.sample(2, seed=3)
    for given in (source, source.latents, source.pixels):
        same(model.edit(given, direction, **options), editor.edit(given, direction, **options))


def test_expressions(model: Any, served: Any) -> None:
    words = 'seed(7) + 1.5 * (text("a digit eight") - slerp(seed(1), seed(2), 0.3))'
    same(model.answer(words, amount=0.5), served.editor.answer(words, amount=0.5))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sead(7)", "column 1: unknown name 'sead', did you mean 'seed'"),
        ('text("a") - text("b")', "a direction, not an image"),
        ('seed(1) + attribute("age")', "column 11"),
        ('image("/etc/passwd")', "column 1"),
        ("seed(1) +", "column 10"),
    ],
)
def test_a_mistake_is_told_in_the_same_words(model: Any, words: str, message: str) -> None:
    with pytest.raises(ControlGenError, match=r".*") as caught:
        model.answer(words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 5), (8,), (0, 8)])
def test_latents_of_another_shape_are_refused(model: Any, shape: tuple[int, ...]) -> None:
    if isinstance(model, Editor) and shape == (0, 8):
        pytest.skip("no rows are nothing to do, in a request they are a mistake")
    with pytest.raises(ControlGenError, match="shape"):
        model.generate(np.zeros(shape, np.float32))


def test_given_files_are_what_an_expression_names(server: Any, served: Any, tmp_path: Path) -> None:
    from controlgen.images import write_png

    editor: Editor = served.editor
    pixels = editor.sample(3, seed=5).pixels
    (tmp_path / "new").mkdir()
    names = ["a.png", "new/b.png", "new/c.png"]
    for name, pixel in zip(names, pixels, strict=True):
        write_png(tmp_path / name, pixel[None], {})
    here = f'image("{tmp_path}/a.png") + mean("{tmp_path}/new/*") - image("{tmp_path}/a.png")'
    there = here.replace(f"{tmp_path}/", "")
    with Client(server.url) as client:
        actual = client.answer(there, images={name: tmp_path / name for name in names})
    same(actual, editor.apply(here))
    assert sorted(actual.recipe["files"]) == names
