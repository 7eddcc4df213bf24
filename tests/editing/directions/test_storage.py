"""Direction files: round trip, and rejection of anything else."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from controlgen import __version__
from controlgen.editing.directions.storage import MAX_FILE_BYTES, load_direction, save_direction
from controlgen.errors import (
    ArtifactCorrupt,
    ConfigError,
    ControlGenError,
    DataError,
    Incompatible,
)

DIRECTION = np.linspace(-1, 1, 7, dtype=np.float32)
SPACE = "d1fb99cc9dd0"
MADE_BY = 'text("a bold digit") - text("a thin digit")'

numbers = arrays(
    np.float32,
    st.integers(1, 300),
    elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
)
names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,30}", fullmatch=True)
words = st.text(min_size=1, max_size=60).filter(str.isprintable)


def save_toy_direction(path: Path, direction: Any = DIRECTION, **changes: Any) -> Any:
    text: dict[str, Any] = {
        "name": "bold",
        "made_by": MADE_BY,
        "space": SPACE,
        "share_inside": 0.75,
    }
    return save_direction(path, direction, **{**text, **changes})


def metadata(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, framework="numpy") as opened:
        return dict(opened.metadata())


@given(numbers, names, words, words, st.floats(0, 1))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(
    tmp_path: Path, direction: Any, name: str, made_by: str, space: str, share: float
) -> None:
    path = tmp_path / "one.safetensors"
    note = save_toy_direction(
        path, direction, name=name, made_by=made_by, space=space, share_inside=share
    )
    actual = load_direction(path, space, len(direction))
    np.testing.assert_array_equal(actual.direction, direction)
    assert actual.direction.dtype == np.float32 and actual.direction.flags.writeable
    assert actual.metadata == note
    assert (note.name, note.made_by, note.share_inside) == (name, made_by, share)
    assert (note.size, note.version) == (len(direction), __version__)


def test_safetensors_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "bold.safetensors"
    save_toy_direction(path)
    assert [file.name for file in tmp_path.iterdir()] == ["bold.safetensors"]
    tensors = safetensors.numpy.load_file(path)
    assert list(tensors) == ["direction"]
    np.testing.assert_array_equal(tensors["direction"], DIRECTION)
    note = json.loads(metadata(path)["controlgen"])["note"]
    assert note["made_by"] == MADE_BY and note["size"] == 7 and note["space"] == SPACE


def test_the_same_direction_gives_the_same_bytes(tmp_path: Path) -> None:
    contents = []
    for at in range(4):
        save_toy_direction(tmp_path / f"{at}.safetensors")
        contents.append((tmp_path / f"{at}.safetensors").read_bytes())
    assert len(set(contents)) == 1


def test_share_slightly_above_one_is_clipped(tmp_path: Path) -> None:
    assert save_toy_direction(tmp_path / "a.safetensors", share_inside=1.0000002).share_inside == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Bold"}, "name"),
        ({"name": "-bold"}, "name"),
        ({"name": "../bold"}, "name"),
        ({"name": "bold\n"}, "name"),
        ({"name": ""}, "name"),
        ({"made_by": ""}, "made_by"),
        ({"made_by": "two\nlines"}, "printable"),
        ({"made_by": "\x1b[2J"}, "printable"),
        ({"made_by": "x" * 2_001}, "made_by"),
        ({"share_inside": np.nan}, "share_inside"),
        ({"direction": np.float32([1, np.nan])}, "finite"),
        ({"direction": np.float32([1, np.inf])}, "finite"),
        ({"direction": np.float32([[1, 2]])}, "vector"),
        ({"direction": np.float32([])}, "size"),
        ({"direction": np.zeros(MAX_FILE_BYTES // 4, np.float32)}, "too many"),
    ],
)
def test_invalid_direction_is_not_written(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        save_toy_direction(tmp_path / "a.safetensors", **{"direction": DIRECTION, **changes})
    assert len(str(error.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_unwritable_path_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ends in .safetensors"):
        save_toy_direction(tmp_path / "bold.json")
    with pytest.raises(ConfigError, match="cannot be written"):
        save_toy_direction(tmp_path / "nowhere" / "bold.safetensors")


def test_other_feature_space_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "bold.safetensors"
    save_toy_direction(path)
    with pytest.raises(Incompatible, match=f"{SPACE}.*0123456789ab"):
        load_direction(path, "0123456789ab", 7)
    with pytest.raises(Incompatible, match="has 7 numbers, this feature space 8"):
        load_direction(path, SPACE, 8)


def test_other_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "bold.safetensors"
    with pytest.raises(DataError, match="no such file"):
        load_direction(path, SPACE, 7)
    with pytest.raises(DataError, match="no such file"):
        load_direction(tmp_path, SPACE, 7)
    with pytest.raises(DataError, match="cannot be read|no such"):
        load_direction(tmp_path / ("x" * 400), SPACE, 7)
    path.write_bytes(bytes(MAX_FILE_BYTES + 1))
    with pytest.raises(DataError, match="larger than 1 MiB"):
        load_direction(path, SPACE, 7)
    for content in (b"", b"\x80\x04K\x01.", b"{}", b"PK\x03\x04" + bytes(40)):
        path.write_bytes(content)
        with pytest.raises(ArtifactCorrupt, match="not readable as safetensors"):
            load_direction(path, SPACE, 7)
    # Safetensors with other contents.
    for tensors in ({"weights": DIRECTION}, {"direction": DIRECTION, "more": DIRECTION}, {}):
        safetensors.numpy.save_file(tensors, path)
        with pytest.raises(ArtifactCorrupt, match="exactly one direction"):
            load_direction(path, SPACE, 7)
    safetensors.numpy.save_file({"direction": DIRECTION.astype(np.float64)}, path)
    with pytest.raises(ArtifactCorrupt, match="exactly one direction"):
        load_direction(path, SPACE, 7)
    for note in (None, {}, {"controlgen": "{"}, {"controlgen": "[]"}, {"controlgen": '{"note":1}'}):
        safetensors.numpy.save_file({"direction": DIRECTION}, path, note)
        with pytest.raises(ArtifactCorrupt, match="without a direction"):
            load_direction(path, SPACE, 7)


@pytest.mark.parametrize(
    "field", ["name", "made_by", "space", "size", "share_inside", "version", "sha256"]
)
def test_missing_field_is_reported(tmp_path: Path, field: str) -> None:
    path = tmp_path / "bold.safetensors"
    save_toy_direction(path)
    body = json.loads(metadata(path)["controlgen"])
    (body if field == "sha256" else body["note"]).pop(field)
    safetensors.numpy.save_file({"direction": DIRECTION}, path, {"controlgen": json.dumps(body)})
    message = "without a direction" if field == "sha256" else f"{field} is missing"
    with pytest.raises(ArtifactCorrupt, match=message):
        load_direction(path, SPACE, 7)


def forge(path: Path, direction: Any, **changes: Any) -> None:
    """Write a file with a valid SHA-256 and arbitrary metadata."""
    import hashlib

    save_toy_direction(path)
    body = json.loads(metadata(path)["controlgen"])
    body["note"].update(changes)
    text = json.dumps(body["note"], sort_keys=True).encode()
    body["sha256"] = hashlib.sha256(text + b"\n" + direction.tobytes()).hexdigest()
    safetensors.numpy.save_file({"direction": direction}, path, {"controlgen": json.dumps(body)})


def test_forged_file_is_validated(tmp_path: Path) -> None:
    path = tmp_path / "bold.safetensors"
    forge(path, DIRECTION)
    np.testing.assert_array_equal(load_direction(path, SPACE, 7).direction, DIRECTION)
    forge(path, np.float32([*DIRECTION[:6], np.nan]))
    with pytest.raises(ArtifactCorrupt, match="not finite"):
        load_direction(path, SPACE, 7)
    forge(path, DIRECTION[:6])
    with pytest.raises(ArtifactCorrupt, match="differs"):
        load_direction(path, SPACE, 7)
    for changes in ({"name": "../x"}, {"made_by": "\x1b[2J"}, {"format": 2}, {"\x1b[2J\n": 1}):
        forge(path, DIRECTION, **changes)
        with pytest.raises(ArtifactCorrupt) as error:
            load_direction(path, SPACE, 7)
        assert str(error.value).isprintable()


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_byte_is_detected(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "bold.safetensors"
    note = save_toy_direction(path)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        actual = load_direction(path, SPACE, 7)
    except ControlGenError as error:
        assert len(str(error).splitlines()) == 1
        return
    # Only whitespace in the JSON header may differ.
    assert actual.metadata == note
    np.testing.assert_array_equal(actual.direction, DIRECTION)


@given(st.data())
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_truncated_or_random_file_raises_controlgen_error(
    tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "bold.safetensors"
    save_toy_direction(path)
    content = path.read_bytes()
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    path.write_bytes(data.draw(st.sampled_from([cut, data.draw(st.binary(max_size=200))])))
    with pytest.raises(ControlGenError):
        load_direction(path, SPACE, 7)
