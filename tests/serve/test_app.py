"""The API: what each path answers, and that a picture's recipe draws it again."""

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
from request_bodies import TEXT, b64, image_file
from running_server import run_server

EDIT = f"seed(7) + 1.5 * ({TEXT})"


def picture_of(answer: Any, at: int = 0) -> bytes:
    return base64.b64decode(answer.json()["pictures"][at]["image"])


def test_health_and_models(server: Any, served: Any) -> None:
    health = server.get("/health").json()
    assert (health["status"], health["models"], health["waiting"]) == ("ok", ["tiny"], 0)
    (listed,) = server.get("/v1/models").json()
    editor = served.editor
    assert listed["weights"] == editor.weights
    assert listed["latent_size"] == editor.latent_size
    assert listed["space"]["text"] is True
    assert listed["bank"] == editor.bank.n
    card = server.get("/v1/models/tiny").json()
    assert card == {**card, **listed, "card": "# A card"}


def test_the_schema_is_whole_and_its_examples_work(server: Any) -> None:
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


def test_examples_of_the_schema_work_where_several_models_are_served(served: Any) -> None:
    models = {"tiny": served, "other": replace(served, name="other")}
    with run_server(create_app(models), served) as server:
        schema = server.get("/openapi.json").json()
        parts, asked = schema["components"]["schemas"], 0
        for path, methods in schema["paths"].items():
            content = methods.get("post", {}).get("requestBody", {"content": {}})["content"]
            if "application/json" in content:
                name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
                (example,) = parts[name]["examples"]
                answer = server.post(path.removeprefix("/v1/"), example)
                assert answer.is_success, answer.text
                asked += 1
        form = schema["paths"]["/v1/invert/upload"]["post"]["requestBody"]["content"]
        name = form["multipart/form-data"]["schema"]["$ref"].rpartition("/")[2]
        data = {
            field: item["examples"][0]
            for field, item in parts[name]["properties"].items()
            if "examples" in item
        }
        answer = httpx.post(
            f"{server.url}/v1/invert/upload", data=data, files={"image": image_file("PNG")}
        )
    assert (asked, answer.status_code, answer.json()["model"]) == (8, 200, "tiny")


def test_an_edit_carries_a_recipe_that_draws_it_again(
    server: Any, line: Any, controlgen: Callable[..., Any], tmp_path: Path
) -> None:
    answer = server.post("edit", {"expression": EDIT, "amount": 0.5, "refine": 2})
    text = answer.json()
    assert answer.status_code == 200
    assert text["start"] == "7"
    (picture,) = text["pictures"]
    assert -1 <= picture["agreement"] <= 1
    path = tmp_path / "edit.png"
    path.write_bytes(picture_of(answer))
    again = controlgen("edit", line.map_folder, "--recipe", path, "-o", tmp_path / "again.png")
    assert (again.code, again.err) == (0, ""), again
    assert (tmp_path / "again.png").read_bytes() == path.read_bytes()
    assert picture["recipe"]["expression"] == text["expression"] == EDIT.replace("'", '"')


def test_a_sweep_is_its_edits(server: Any) -> None:
    amounts = [-1.0, 0.0, 0.5]
    swept = server.post("sweep", {"expression": EDIT, "amounts": amounts, "arrays": "json"})
    assert [picture["amount"] for picture in swept.json()["pictures"]] == amounts
    for at, amount in enumerate(amounts):
        edited = server.post("edit", {"expression": EDIT, "amount": amount})
        assert picture_of(edited) == picture_of(swept, at)
    assert np.shape(swept.json()["obtained"])[0] == 3


def test_png_where_png_is_asked_for(server: Any) -> None:
    answer = server.post("edit", {"expression": EDIT}, Accept="image/png")
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == picture_of(server.post("edit", {"expression": EDIT}))
    # Of a sweep the end of the way.
    asked = {"expression": EDIT, "amounts": [0.5, 1.0]}
    assert server.post("sweep", asked, Accept="image/png").content == answer.content


def test_an_error_of_ours_carries_the_id_of_its_request(server: Any, monkeypatch: Any) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("controlgen.editing.Editor.sample", broken)
    answer = server.post("sample", {}, **{"X-Request-ID": "mine-2"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "mine-2")
    assert answer.json()["instance"] == "mine-2"


def test_a_long_detail_is_cut_and_keeps_the_way_out(server: Any) -> None:
    answer = server.post("edit", {"expression": EDIT, "x" * 100_000: 1})
    detail = answer.json()["detail"]
    assert len(detail) == 300, detail
    assert " ... " in detail
    assert detail.endswith("Extra inputs are not permitted")


def test_a_name_taken_again_is_told(server: Any) -> None:
    for expression, replaced in ((TEXT, False), (TEXT, False), ("seed(1) - seed(2)", True)):
        result = server.post("directions", {"name": "taken", "expression": expression}).json()
        assert result["replaced"] is replaced


def test_an_upload_is_not_written_to_the_disk(server: Any, monkeypatch: Any) -> None:
    def written(*_: Any) -> None:
        raise AssertionError("a file was begun")

    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", written)
    files = {"image": ("x.png", bytes(4_000_000))}
    answer = httpx.post(f"{server.url}/v1/invert/upload", files=files)
    assert (answer.status_code, "not an image" in answer.json()["detail"]) == (422, True)


def test_arrays_as_lists_and_as_npy_are_the_same(server: Any, served: Any) -> None:
    lists = server.post("sample", {"n": 2, "seed": 4, "arrays": "json"}).json()["latents"]
    packed = server.post("sample", {"n": 2, "seed": 4, "arrays": "npy"}).json()["latents"]
    array = np.load(io.BytesIO(base64.b64decode(packed["npy"])), allow_pickle=False)
    np.testing.assert_array_equal(np.float32(lists), array)
    assert server.post("sample", {}).json()["latents"] is None
    # Both go back in as well.
    for given in (lists, packed):
        result = server.post("generate", {"latents": given}).json()["images"]
        assert result == [
            b64(png_without(base64.b64decode(image)))
            for image in server.post("sample", {"n": 2, "seed": 4}).json()["images"]
        ]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("edit", {"expression": EDIT}),
        ("edit", {"expression": EDIT, "answers": 3}),
        ("edit", {"source": {"seed": 3, "n": 2}, "direction": TEXT}),
        ("sweep", {"expression": EDIT, "amounts": [-1.0, 0.5]}),
    ],
)
def test_pixels_as_arrays_are_those_of_the_pictures(
    server: Any, path: str, asked: dict[str, Any]
) -> None:
    samples = server.post(path, asked).json()
    text = server.post(path, {**asked, "pixels": "npy"}).json()
    assert text.pop("sources") == [] and samples["pixels"] is samples["source_pixels"] is None
    pictures = [picture["image"] for picture in samples["pictures"]]
    for name, files in (("pixels", pictures), ("source_pixels", samples.pop("sources"))):
        content = base64.b64decode(text.pop(name)["npy"])
        actual = np.load(io.BytesIO(content), allow_pickle=False)
        assert (actual.dtype, actual.ndim) == (np.uint8, 4)
        np.testing.assert_array_equal(
            actual, [plane(base64.b64decode(picture)) for picture in files]
        )
        del samples[name]
    assert text == samples  # nothing else is told in another way


def plane(content: bytes) -> NDArray[np.uint8]:
    """A grey PNG (1 h w)."""
    with Image.open(io.BytesIO(content)) as opened:
        return np.asarray(opened)[None]


def png_without(content: bytes) -> bytes:
    """The same picture as the server writes it where it has no provenance to tell."""
    from controlgen.serve.serialization import encode_png

    return encode_png(plane(content)[None])


def test_invert_takes_features_images_and_an_upload(server: Any, served: Any) -> None:
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
    text = server.post("nearest", {"expression": "bank(5)", "n": 3, "among": 50}).json()
    actual = text["neighbours"]
    assert actual[0]["item"] == 5
    assert actual[0]["cosine"] == pytest.approx(1, abs=1e-5)
    expected = served.editor.gallery.nearest(served.editor.feature("bank(5)"), 3, 50)
    assert [item["item"] for item in actual] == expected.items.tolist()


def test_directions_are_made_kept_used_and_fetched(
    server: Any, served: Any, line: Any, controlgen: Callable[..., Any], tmp_path: Path
) -> None:
    groups = {"more": [b64(image_file("PNG"))] * 2, "less": [b64(image_file("JPEG"))]}
    result = server.post("directions", {"name": "rough", **groups})
    assert (result.status_code, result.json()["file"]) == (201, "rough.safetensors")
    assert result.json()["made_by"] == "images: 2 minus 1"
    unnamed = server.post("directions", {"expression": TEXT, "arrays": "json"}).json()
    assert unnamed["file"] is None
    np.testing.assert_array_equal(np.float32(unnamed["direction"]), served.editor.parse(TEXT))
    assert "rough.safetensors" in server.get("/v1/models/tiny").json()["directions"]
    answer = server.post("edit", {"expression": 'seed(1) + direction("rough.safetensors")'})
    # The same file beside the recipe draws the picture again.
    file = server.get("/v1/models/tiny/directions/rough.safetensors")
    (tmp_path / "rough.safetensors").write_bytes(file.content)
    (tmp_path / "edit.png").write_bytes(picture_of(answer))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        again = controlgen("edit", line.map_folder, "--recipe", "edit.png", "-o", "again.png")
    assert (again.code, again.err) == (0, ""), again
    assert (tmp_path / "again.png").read_bytes() == picture_of(answer)
    # No more than so many are kept; the oldest goes.
    for at in range(served.most_directions):
        server.post("directions", {"name": f"d{at}", "expression": TEXT})
    saved = server.get("/v1/models/tiny").json()["directions"]
    assert saved == [f"d{at}.safetensors" for at in range(served.most_directions)]


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
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
        ("edit", {"expression": EDIT, "model": "other"}, 404, "not served; there is tiny"),
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
    server: Any, path: str, body: Any, status: int, says: str
) -> None:
    answer = server.post(path, body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    text = answer.json()
    assert text["status"] == status
    assert says in text["detail"]
    assert "\n" not in text["detail"]
    assert text["instance"] == answer.headers["x-request-id"]


def test_the_largest_numbers_that_are_taken_are_answered(server: Any, served: Any) -> None:
    z, d = served.editor.latent_size, served.editor.space.size
    source = {"latents": [[1e6] * z, [-1e6] * z]}
    for path, body in (
        ("generate", source),
        ("invert", {"features": [[1e6] * d]}),
        ("edit", {"source": source, "direction": [1e6] * d, "amount": -1e6, "residual": True}),
    ):
        answer = server.post(path, body)
        assert answer.status_code == 200, answer.text
        assert all(-1 <= item["agreement"] <= 1 for item in answer.json().get("pictures", []))


def test_other_paths_and_broken_json(server: Any) -> None:
    assert server.get("/v1/models/none").status_code == 404
    assert server.get("/v1/models/tiny/directions/none").status_code == 404
    for answer in (server.get("/v1/none"), server.get("/v1/edit")):
        assert answer.headers["content-type"] == "application/problem+json"
    kind = {"content-type": "application/json"}
    broken = httpx.post(f"{server.url}/v1/edit", content=b"{", headers=kind)
    assert broken.status_code == 400
    infinite = json.dumps({"expression": "seed(1)", "amount": float("inf")})
    answer = httpx.post(f"{server.url}/v1/edit", content=infinite)
    assert answer.status_code == 422
