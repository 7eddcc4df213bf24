"""Paths of the API: responses, problem JSON, recipes that reproduce images, examples."""

import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from controlgen.serve.app import create_app
from controlgen.serve.serialization import encode_png
from request_bodies import TEXT, b64, image_file
from running_server import run_server

EDIT = f"seed(7) + 1.5 * ({TEXT})"


def image_of(response: Any, index: int = 0) -> bytes:
    return base64.b64decode(response.json()["pictures"][index]["image"])


def decode_grey(content: bytes) -> NDArray[np.uint8]:
    """A grey PNG (1 h w)."""
    with Image.open(io.BytesIO(content)) as opened:
        return np.asarray(opened)[None]


def without_provenance(content: bytes) -> bytes:
    """The same image as the server encodes it without provenance."""
    return encode_png(decode_grey(content)[None])


def test_health_and_models(server: Any, served: Any) -> None:
    health = server.get("/health").json()
    assert (health["status"], health["models"], health["waiting"]) == ("ok", ["tiny"], 0)
    (model,) = server.get("/v1/models").json()
    editor = served.editor
    assert model["weights"] == editor.weights
    assert model["latent_size"] == editor.latent_size
    assert model["space"]["text"] is True
    assert model["bank"] == editor.bank.n
    card = server.get("/v1/models/tiny").json()
    assert card == {**card, **model, "card": "# A card"}


def test_the_openapi_schema_lists_the_paths(server: Any) -> None:
    schema = server.get("/openapi.json").json()
    assert set(schema["paths"]) >= {
        "/health",
        "/v1/models",
        "/v1/models/{name}",
        "/v1/sample",
        "/v1/invert",
        "/v1/edit",
        "/v1/sweep",
        "/v1/nearest",
        "/v1/directions",
    }


def test_the_examples_of_the_schema_are_valid_with_several_models(served: Any) -> None:
    models = {"tiny": served, "other": replace(served, name="other")}
    with run_server(create_app(models), served) as server:
        schema = server.get("/openapi.json").json()
        requests = 0
        for path, methods in schema["paths"].items():
            content = methods.get("post", {}).get("requestBody", {"content": {}})["content"]
            if "application/json" in content:
                (example,) = content["application/json"]["examples"].values()
                response = server.post(path.removeprefix("/v1/"), example["value"])
                assert response.is_success, response.text
                requests += 1
        form = schema["paths"]["/v1/invert/upload"]["post"]["requestBody"]["content"]
        name = form["multipart/form-data"]["schema"]["$ref"].rpartition("/")[2]
        fields = schema["components"]["schemas"][name]["properties"]
        data = {key: field["examples"][0] for key, field in fields.items() if "examples" in field}
        response = httpx.post(
            f"{server.url}/v1/invert/upload", data=data, files={"image": image_file("PNG")}
        )
    assert (requests, response.status_code, response.json()["model"]) == (8, 200, "tiny")


def test_the_recipe_of_an_edit_reproduces_its_image(
    server: Any, line: Any, controlgen: Callable[..., Any], tmp_path: Path
) -> None:
    response = server.post("edit", {"expression": EDIT, "amount": 0.5, "refine": 2})
    body = response.json()
    assert response.status_code == 200
    assert body["start"] == "7"
    (picture,) = body["pictures"]
    assert -1 <= picture["agreement"] <= 1
    path = tmp_path / "edit.png"
    path.write_bytes(image_of(response))
    again = controlgen("edit", line.map_folder, "--recipe", path, "-o", tmp_path / "again.png")
    assert (again.code, again.err) == (0, ""), again
    assert (tmp_path / "again.png").read_bytes() == path.read_bytes()
    assert picture["recipe"]["expression"] == body["expression"] == EDIT.replace("'", '"')


def test_a_sweep_equals_its_edits(server: Any) -> None:
    amounts = [-1.0, 0.0, 0.5]
    sweep = server.post("sweep", {"expression": EDIT, "amounts": amounts, "arrays": "json"})
    assert [picture["amount"] for picture in sweep.json()["pictures"]] == amounts
    for index, amount in enumerate(amounts):
        edit = server.post("edit", {"expression": EDIT, "amount": amount})
        assert image_of(edit) == image_of(sweep, index)
    assert np.shape(sweep.json()["obtained"])[0] == 3


def test_accept_png_returns_one_image(server: Any) -> None:
    response = server.post("edit", {"expression": EDIT}, Accept="image/png")
    assert response.headers["content-type"] == "image/png"
    assert response.content == image_of(server.post("edit", {"expression": EDIT}))
    # For a sweep, the image of the last amount.
    body = {"expression": EDIT, "amounts": [0.5, 1.0]}
    assert server.post("sweep", body, Accept="image/png").content == response.content


def test_an_internal_error_carries_the_request_id(server: Any, monkeypatch: Any) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("controlgen.editing.Editor.sample", fail)
    response = server.post("sample", {}, **{"X-Request-ID": "mine-2"})
    assert (response.status_code, response.headers["x-request-id"]) == (500, "mine-2")
    assert response.json()["instance"] == "mine-2"


def test_a_long_detail_is_shortened_in_the_middle(server: Any) -> None:
    response = server.post("edit", {"expression": EDIT, "x" * 100_000: 1})
    detail = response.json()["detail"]
    assert len(detail) == 300, detail
    assert " ... " in detail
    assert detail.endswith("Extra inputs are not permitted")


def test_a_replaced_direction_is_reported(server: Any) -> None:
    for expression, replaced in ((TEXT, False), (TEXT, False), ("seed(1) - seed(2)", True)):
        body = server.post("directions", {"name": "taken", "expression": expression}).json()
        assert body["replaced"] is replaced


def test_an_upload_is_not_written_to_disk(server: Any, monkeypatch: Any) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("the upload is written to a file")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", fail)
    for content in (bytes(4_000_000), b"," * 400_000):
        files = {"image": ("x.png", content)}
        response = httpx.post(f"{server.url}/v1/invert/upload", files=files)
        assert response.status_code == 422
        assert "not an image" in response.json()["detail"]


def test_arrays_as_lists_and_as_npy_are_equal(server: Any, served: Any) -> None:
    lists = server.post("sample", {"n": 2, "seed": 4, "arrays": "json"}).json()["latents"]
    packed = server.post("sample", {"n": 2, "seed": 4, "arrays": "npy"}).json()["latents"]
    array = np.load(io.BytesIO(base64.b64decode(packed["npy"])), allow_pickle=False)
    np.testing.assert_array_equal(np.float32(lists), array)
    assert server.post("sample", {}).json()["latents"] is None
    # Requests take both formats.
    for latents in (lists, packed):
        images = server.post("generate", {"latents": latents}).json()["images"]
        assert images == [
            b64(without_provenance(base64.b64decode(image)))
            for image in server.post("sample", {"n": 2, "seed": 4}).json()["images"]
        ]


@pytest.mark.parametrize(
    ("path", "request_body"),
    [
        ("edit", {"expression": EDIT}),
        ("edit", {"expression": EDIT, "answers": 3}),
        ("edit", {"source": {"seed": 3, "n": 2}, "direction": TEXT}),
        ("sweep", {"expression": EDIT, "amounts": [-1.0, 0.5]}),
    ],
)
def test_pixels_as_arrays_equal_the_png_files(
    server: Any, path: str, request_body: dict[str, Any]
) -> None:
    as_png = server.post(path, request_body).json()
    as_npy = server.post(path, {**request_body, "pixels": "npy"}).json()
    assert as_npy.pop("sources") == [] and as_png["pixels"] is as_png["source_pixels"] is None
    images = [picture["image"] for picture in as_png["pictures"]]
    for name, files in (("pixels", images), ("source_pixels", as_png.pop("sources"))):
        content = base64.b64decode(as_npy.pop(name)["npy"])
        pixels = np.load(io.BytesIO(content), allow_pickle=False)
        assert (pixels.dtype, pixels.ndim) == (np.uint8, 4)
        np.testing.assert_array_equal(pixels, [decode_grey(base64.b64decode(f)) for f in files])
        del as_png[name]
    assert as_npy == as_png  # all other fields are equal


def test_invert_accepts_features_images_and_an_upload(server: Any, served: Any) -> None:
    content = image_file("PNG", size=(32, 32))
    by_json = server.post("invert", {"images": [b64(content)]}).json()
    uploaded = httpx.post(
        f"{server.url}/v1/invert/upload", files={"image": ("x.png", content)}, timeout=60
    )
    assert uploaded.json() == by_json
    by_features = server.post("invert", {"features": by_json["features"]}).json()
    assert by_features["latents"] == by_json["latents"]
    assert np.shape(by_json["latents"]) == (1, served.editor.latent_size)


def test_nearest(server: Any, served: Any) -> None:
    body = {"expression": "bank(5)", "n": 3, "among": 50}
    neighbours = server.post("nearest", body).json()["neighbours"]
    assert neighbours[0]["item"] == 5
    assert neighbours[0]["cosine"] == pytest.approx(1, abs=1e-5)
    editor = served.editor
    expected = editor.bank_index.nearest(editor.feature_from_expression("bank(5)"), 3, 50)
    assert [neighbour["item"] for neighbour in neighbours] == expected.items.tolist()


def test_directions_are_made_saved_used_and_downloaded(
    server: Any, served: Any, line: Any, controlgen: Callable[..., Any], tmp_path: Path
) -> None:
    groups = {"more": [b64(image_file("PNG"))] * 2, "less": [b64(image_file("JPEG"))]}
    saved = server.post("directions", {"name": "rough", **groups})
    assert (saved.status_code, saved.json()["file"]) == (201, "rough.safetensors")
    assert saved.json()["made_by"] == "images: 2 minus 1"
    unnamed = server.post("directions", {"expression": TEXT, "arrays": "json"}).json()
    assert unnamed["file"] is None
    direction = served.editor.direction_from_expression(TEXT)
    np.testing.assert_array_equal(np.float32(unnamed["direction"]), direction)
    assert "rough.safetensors" in server.get("/v1/models/tiny").json()["directions"]
    edit = server.post("edit", {"expression": 'seed(1) + direction("rough.safetensors")'})
    # The downloaded file next to the recipe reproduces the image.
    file = server.get("/v1/models/tiny/directions/rough.safetensors")
    (tmp_path / "rough.safetensors").write_bytes(file.content)
    (tmp_path / "edit.png").write_bytes(image_of(edit))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        again = controlgen("edit", line.map_folder, "--recipe", "edit.png", "-o", "again.png")
    assert (again.code, again.err) == (0, ""), again
    assert (tmp_path / "again.png").read_bytes() == image_of(edit)
    # Beyond the limit the oldest direction is dropped.
    for index in range(served.max_directions):
        server.post("directions", {"name": f"d{index}", "expression": TEXT})
    directions = server.get("/v1/models/tiny").json()["directions"]
    assert directions == [f"d{index}.safetensors" for index in range(served.max_directions)]


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("edit", {}, 422, "give an expression, or a source and a direction"),
        ("edit", {"expression": "seed(1)", "direction": [1.0]}, 422, "give an expression, or"),
        ("edit", {"expression": "sead(1)"}, 422, "column 1: unknown name 'sead'"),
        ("edit", {"expression": EDIT, "amount": "x"}, 422, "amount: Input should be a valid"),
        ("edit", {"expression": EDIT, "amuont": 1}, 422, "amuont: Extra inputs"),
        ("sweep", {"expression": EDIT, "amounts": [1.0, -1e20]}, 422, "amounts.1: Input should be"),
        ("edit", {"source": {"seed": 1}, "direction": TEXT, "amount": 1e7}, 422, "amount: Input"),
        ("edit", {"expression": "seed(7) + 1e19 * seed(8)"}, 422, "column 11: this is too large"),
        ("edit", {"expression": "seed(7) - seed(8)"}, 422, "a direction, not an image"),
        ("edit", {"expression": EDIT, "hold": ["ink"]}, 422, "attributes"),
        ("edit", {"expression": EDIT, "answers": 0}, 422, "greater than or equal to 1"),
        ("edit", {"expression": "x" * 5000}, 422, "at most 4000"),
        ("edit", {"expression": EDIT, "model": "other"}, 404, "not served; choose from tiny"),
        ("edit", {"source": {"seed": 1}, "direction": [1.0, 2.0]}, 409, "direction of shape"),
        ("edit", {"source": {}, "direction": [1.0]}, 422, "one of seed, latents and images"),
        ("edit", {"source": {"seed": 1}, "direction": {"npy": "AAAA"}}, 422, "not a .npy file"),
        ("edit", {"source": {"seed": 1}, "direction": {"npy": "?"}}, 422, "not valid base64"),
        ("edit", {"expression": EDIT, "images": {"../a.png": "AA"}}, 422, "should match"),
        ("edit", {"expression": EDIT, "images": {"/a.png": "AA"}}, 422, "should match"),
        ("edit", {"expression": EDIT, "images": {"a/.x": "AA"}}, 422, "should match"),
        ("sample", {"n": 65}, 422, "n: 65 is more than the 64"),
        ("sample", {"seed": -1}, 422, "seed"),
        ("edit", {"source": {"images": ["AA"] * 65}, "direction": [1.0]}, 422, "65 is more than"),
        ("sweep", {"expression": EDIT, "amounts": [0.0] * 17}, 422, "17 is more than the 16"),
        ("edit", {"expression": EDIT, "refine": 51}, 422, "51 is more than the 50"),
        ("generate", {"latents": [[1.0], [1.0, 2.0]]}, 422, "rows of different lengths"),
        ("generate", {"latents": [[1.0]]}, 409, "latents of shape"),
        ("generate", {"latents": []}, 409, "latents of shape"),
        ("embed", {"texts": [" "]}, 422, "text"),
        ("edit", {"expression": EDIT, "amount": 1e39}, 422, "amount: Input should be less than"),
        ("edit", {"expression": EDIT, "amount": -1e30}, 422, "amount: Input should be greater"),
        ("sweep", {"expression": EDIT, "amounts": [0.0, 1e30]}, 422, "amounts.1: Input should be"),
        ("edit", {"source": {"seed": 1}, "direction": [1e30] * 24}, 422, "beyond 1e+06"),
        ("edit", {"source": {"seed": 1}, "direction": [1e39] * 24}, 422, "not finite"),
        ("edit", {"source": {"latents": [[1e30] * 8]}, "direction": TEXT}, 422, "beyond 1e+06"),
        ("generate", {"latents": [[-1e30] * 8]}, 422, "latents: holds numbers beyond 1e+06"),
        ("generate", {"latents": [[1e39] * 8]}, 422, "latents: holds numbers that are not finite"),
        ("invert", {"features": [[1e30] * 24]}, 422, "features: holds numbers beyond 1e+06"),
        ("invert", {"features": [[1e39] * 24]}, 422, "features: holds numbers that are not"),
        ("directions", {"attribute": "ink"}, 422, "no measured attributes"),
        ("directions", {"attribute": "ink", "expression": TEXT}, 422, "or an attribute"),
        ("nearest", {"expression": TEXT}, 422, "a direction, not an image"),
        ("nearest", {"expression": "bank(0)", "n": 9, "among": 5}, 422, "n = 9 among 5"),
        ("directions", {"name": "Bold", "expression": TEXT}, 422, "should match"),
        ("directions", {"text": ["a"], "less": ["AA"]}, 422, "give an expression, or text and"),
    ],
)
def test_a_mistake_is_one_line_of_problem_json(
    server: Any, path: str, body: Any, status: int, message: str
) -> None:
    response = server.post(path, body)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert message in problem["detail"]
    assert "\n" not in problem["detail"]
    assert problem["instance"] == response.headers["x-request-id"]


def test_the_largest_allowed_numbers_give_finite_results(server: Any, served: Any) -> None:
    z, d = served.editor.latent_size, served.editor.space.size
    source = {"latents": [[1e6] * z, [-1e6] * z]}
    for path, body in (
        ("generate", source),
        ("invert", {"features": [[1e6] * d]}),
        ("edit", {"source": source, "direction": [1e6] * d, "amount": -1e6, "residual": True}),
    ):
        response = server.post(path, body)
        assert response.status_code == 200, response.text
        pictures = response.json().get("pictures", [])
        assert all(-1 <= picture["agreement"] <= 1 for picture in pictures)


def test_unknown_paths_and_invalid_json(server: Any) -> None:
    assert server.get("/v1/models/none").status_code == 404
    assert server.get("/v1/models/tiny/directions/none").status_code == 404
    for response in (server.get("/v1/none"), server.get("/v1/edit")):
        assert response.headers["content-type"] == "application/problem+json"
    headers = {"content-type": "application/json"}
    for content in (b"{", b'{"latents": ' + b"[" * 310_000):
        response = httpx.post(f"{server.url}/v1/edit", content=content, headers=headers)
        assert response.status_code == 400, response.text
    infinite = json.dumps({"expression": "seed(1)", "amount": float("inf")})
    response = httpx.post(f"{server.url}/v1/edit", content=infinite)
    assert response.status_code == 422


@pytest.mark.parametrize(
    "content",
    [b'{"latents": [' + b"[1.5]," * 160_000 + b"[1.5]]}", b"{" + b'"a":1,' * 10_001 + b'"b":2}'],
)
def test_json_with_very_many_values_is_one_problem(server: Any, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{server.url}/v1/generate", content=content, headers=headers)
    assert response.status_code == 422
    assert len(response.json()["detail"]) <= 300
