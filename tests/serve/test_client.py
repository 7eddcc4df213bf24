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
    "target_features",
    "features",
    "source_pixels",
    "source_latents",
    "source_features",
)


@pytest.fixture(params=["editor", "client"])
def model(request: Any, served: Any) -> Iterator[Any]:
    """Either of the two; tests compare it with the served Editor."""
    if request.param == "editor":
        yield served.editor
        return
    with Client(request.getfixturevalue("server").url) as client:
        yield client


def assert_same_edit(actual: Any, expected: Any) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), name)
    np.testing.assert_array_equal(actual.target_similarity, expected.target_similarity)
    np.testing.assert_array_equal(actual.direction_similarity, expected.direction_similarity)
    assert (actual.reachability is None) == (expected.reachability is None)
    assert actual.warnings == expected.warnings
    if expected.attributes is None:
        assert actual.attributes is None
    else:
        assert actual.attributes.names == expected.attributes.names
        np.testing.assert_array_equal(actual.attributes.after, expected.attributes.after)


def test_image_shape_and_latent_size(model: Any, served: Any) -> None:
    assert model.image_shape == served.editor.image_shape
    assert model.latent_size == served.editor.latent_size


def test_a_token_with_control_characters_is_rejected(server: Any) -> None:
    with pytest.raises(ConfigError, match="^token: has characters") as caught:
        Client(server.url, token="hush\nhush")
    assert "hush" not in str(caught.value)


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
    many = editor.sample(40, seed=2).pixels
    values = {"values": many.mean((1, 2, 3)), "of": many}
    for arguments in (TEXT, {"more": pixels[:2], "less": pixels[2:]}, values):
        np.testing.assert_array_equal(model.direction(**arguments), editor.direction(**arguments))
    # An unknown name is rejected as such, whatever characters it has.
    with pytest.raises(ControlGenError, match="attributes"):
        model.direction(attribute='a") + seed(1')
    expression = 'text("a") + text("b") - 2 * text("c")'
    direction = editor.direction_from_expression(expression)
    np.testing.assert_array_equal(model.direction_from_expression(expression), direction)


def test_directions_of_attributes(line: Any, tmp_path: Path) -> None:
    folder = line.refitted(tmp_path / "store", attributes={"kind": "strokes"})
    editor = Editor.load(folder)
    name, other = editor.attributes.names[:2]
    served = ServedModel("tiny", editor, "", 4)
    with run_server(create_app({"tiny": served}), served) as server, Client(server.url) as client:
        for arguments in ({"attribute": name}, {"attribute": name, "hold": other}):
            direction = editor.direction(**arguments)
            np.testing.assert_array_equal(client.direction(**arguments), direction)
        client.direction(attribute=name, name="more")
        expression = f'seed(1) + direction("more.safetensors") + hold("{other}")'
        assert client.apply(expression).attributes.names == editor.attributes.names


def test_a_sweep_equals_its_edits(server: Any, served: Any) -> None:
    expression = 'seed(7) + text("a digit eight") - text("a digit three")'
    with Client(server.url) as client:
        edits = client.sweep(expression, [-0.5, 1.0])
        for edit, amount in zip(edits, (-0.5, 1.0), strict=True):
            assert_same_edit(edit, served.editor.apply(expression, amount=amount))
            assert edit.recipe["amount"] == amount
            for name in ARRAYS:
                assert getattr(edit, name).flags.writeable, name


def test_invalid_arguments_are_one_line(model: Any, served: Any) -> None:
    direction, source = served.editor.direction(**TEXT), served.editor.sample(1)
    for amount in (float("nan"), float("inf")):
        with pytest.raises(ConfigError, match=f"^amount {amount}: must be"):
            model.edit(source, direction, amount)
        with pytest.raises(ConfigError, match=f"^amount {amount}: must be"):
            model.apply("seed(1) + seed(2)", amount)
    for pixels in (source.pixels / 255.0, source.pixels[:, 0], source.pixels.astype(np.int64)):
        with pytest.raises(Incompatible, match="pixels must be uint8" if pixels.ndim > 3 else None):
            model.edit(pixels, direction)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.arange(39), "values of shape (39,) for 40 images; give one number per image"),
        (np.full(40, np.nan), "40 of 40 values are not finite"),
        (np.full(40, 0.1), "all 40 values are"),
        (["a"] * 40, "values= must be"),
        (None, "values= and of="),
    ],
)
def test_invalid_values_have_the_same_message(
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
    direction, samples = editor.direction(**TEXT), editor.sample(2, seed=3)
    for source in (samples, samples.latents, samples.pixels):
        edit = model.edit(source, direction, **options)
        assert_same_edit(edit, editor.edit(source, direction, **options))


def test_expressions(model: Any, served: Any) -> None:
    expression = 'seed(7) + 1.5 * (text("a digit eight") - slerp(seed(1), seed(2), 0.3))'
    expected = served.editor.apply(expression, amount=0.5)
    assert_same_edit(model.apply(expression, amount=0.5), expected)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("sead(7)", "column 1: unknown name 'sead', did you mean 'seed'"),
        ('text("a") - text("b")', "a direction, not an image"),
        ('seed(1) + attribute("age")', "column 11"),
        ('image("/etc/passwd")', "column 1"),
        ("seed(1) +", "column 10"),
    ],
)
def test_mistakes_in_expressions_have_the_same_message(
    model: Any, expression: str, message: str
) -> None:
    with pytest.raises(ControlGenError, match=r".*") as caught:
        model.apply(expression)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 5), (8,), (0, 8)])
def test_latents_of_another_shape_are_rejected(model: Any, shape: tuple[int, ...]) -> None:
    if isinstance(model, Editor) and shape == (0, 8):
        pytest.skip("an Editor accepts no rows; a request without rows is a mistake")
    with pytest.raises(ControlGenError, match="shape"):
        model.generate(np.zeros(shape, np.float32))


def test_an_expression_names_the_files_of_its_request(
    server: Any, served: Any, tmp_path: Path
) -> None:
    from controlgen.images import write_png

    editor: Editor = served.editor
    pixels = editor.sample(3, seed=5).pixels
    (tmp_path / "new").mkdir()
    names = ["a.png", "new/b.png", "new/c.png"]
    for name, image in zip(names, pixels, strict=True):
        write_png(tmp_path / name, image[None], {})
    local = f'image("{tmp_path}/a.png") + mean("{tmp_path}/new/*") - image("{tmp_path}/a.png")'
    remote = local.replace(f"{tmp_path}/", "")
    with Client(server.url) as client:
        edit = client.apply(remote, images={name: tmp_path / name for name in names})
    assert_same_edit(edit, editor.apply(local))
    assert sorted(edit.recipe["files"]) == names
