"""Specs: what is refused and how it is named, overrides, and what a fingerprint depends on."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from controlgen.base_config import BaseConfig, apply_overrides, read_toml, runtime_field
from controlgen.config import TrainConfig
from controlgen.errors import ConfigError, ControlGenError
from controlgen.schedules import CosineSchedule


class Inner(BaseConfig):
    width: int = Field(4, ge=1)
    speed: CosineSchedule = CosineSchedule(start=1.0, end=0.5)
    folder: Path | None = runtime_field(None)


class Outer(BaseConfig):
    name: str = "a"
    share: float = Field(0.5, gt=0, lt=1)
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner = Inner()
    parts: tuple[Inner, ...] = ()
    workers: int = runtime_field(1, ge=1)


outers = st.builds(
    Outer,
    name=st.text(st.characters(codec="utf-8"), max_size=8),
    share=st.floats(0.01, 0.99),
    sizes=st.lists(st.integers(-(2**40), 2**40), max_size=4).map(tuple),
    inner=st.builds(Inner, width=st.integers(1, 99), folder=st.none() | st.just(Path("somewhere"))),
    parts=st.lists(st.builds(Inner, width=st.integers(1, 9)), max_size=2).map(tuple),
    workers=st.integers(1, 64),
)


@given(outers)
def test_effective_settings_build_the_same_spec(spec: Outer) -> None:
    again = Outer.parse(spec.to_dict())
    assert again == spec
    assert again.fingerprint() == spec.fingerprint()


def test_toml_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('name = "b"\nsizes = [3]\n[inner]\nwidth = 7\nspeed = 2\n', encoding="utf-8")
    assert Outer.load(path) == Outer(
        name="b", sizes=(3,), inner=Inner(width=7, speed=CosineSchedule(start=2, end=2))
    )


@pytest.mark.parametrize(
    ("values", "mistake"),
    [
        ({"nmae": "x"}, "unknown key nmae"),
        ({"inner": {"widht": 3}}, "unknown key inner.widht"),
        ({"parts": [{"width": 1}, {"colour": 1}]}, "unknown key parts.1.colour"),
        ({"inner": {"width": 0}}, "inner.width: "),
        ({"share": float("nan")}, "share: "),
        ({"share": "fast"}, "share: "),
        ({"inner": {"speed": {"start": 1}}}, "inner.speed.end is missing"),
    ],
)
def test_mistakes_are_named_by_their_dotted_path(values: dict[str, Any], mistake: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Outer.parse(values, "run.toml")
    message = str(caught.value)
    assert message.startswith("run.toml: ")
    assert mistake in message
    assert "\n" not in message


def test_every_mistake_is_in_the_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        Outer.parse({"share": 2, "a": 1, "b": 1})
    for part in ("share: ", "unknown key a", "unknown key b"):
        assert part in str(caught.value)


def test_a_training_config_names_an_unknown_key(tiny_config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(ConfigError, match=r"unknown key objective\.(r3gan\.)?gama"):
        tiny_config(objective={"kind": "r3gan", "gama": 1})
    with pytest.raises(ConfigError, match="r3gan.*wgan-gp"):
        tiny_config(objective={"kind": "nonesuch"})
    with pytest.raises(ConfigError, match="accumulate must divide batch_size"):
        tiny_config(batch_size=8, accumulate=3)


def test_overrides_are_read_as_toml() -> None:
    values = {"inner": {"width": 1}, "sizes": [1]}
    untouched = copy.deepcopy(values)
    overrides = [
        "inner.width=5",
        "sizes=[7, 8]",
        "name=plain words",
        "share = 0.25",
        "inner.speed=3",
    ]
    spec = Outer.parse(apply_overrides(values, overrides))
    assert (spec.inner.width, spec.sizes, spec.name, spec.share) == (5, (7, 8), "plain words", 0.25)
    assert spec.inner.speed == CosineSchedule(start=3, end=3)
    assert values == untouched


def test_an_override_without_a_value_takes_the_setting_away() -> None:
    values = {"a": {"b": 1, "c": 2}, "d": {"e": 3}}
    overrides = ["a.b=", "d= ", "nothing.there=", "a.c=", "a.c=5"]
    assert apply_overrides(values, overrides) == {"a": {"c": 5}, "nothing": {}}
    assert values == {"a": {"b": 1, "c": 2}, "d": {"e": 3}}
    assert apply_overrides({}, ['a=""']) == {"a": ""}


def test_later_overrides_win_and_sections_are_made() -> None:
    assert apply_overrides({}, ["a.b.c=1", "a.b.c=2", 'a.d="x=y"']) == {
        "a": {"b": {"c": 2}, "d": "x=y"}
    }


@pytest.mark.parametrize("bad", ["inner.width", "=3", "inner..width=3", ".width=3", "name.x=3"])
def test_a_malformed_override_is_quoted(bad: str) -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"name": "a", "inner": {}}, [bad])
    assert bad in str(caught.value)


def test_overrides_do_not_escape_the_check_for_unknown_keys() -> None:
    with pytest.raises(ConfigError, match=r"unknown key inner\.widht"):
        Outer.parse(apply_overrides({}, ["inner.widht=3"]))


def test_a_date_in_a_file_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("share = 2024-01-01\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="share"):
        Outer.load(path, ["name=b"])


@pytest.mark.parametrize("content", [None, b"name = ", b"\xff\xfe", b"a = 1\na = 2"])
def test_unreadable_files_are_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_toml(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, ControlGenError)


def test_specs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Outer().name = "b"  # type: ignore[misc]


def test_the_fingerprint_ignores_runtime_fields_at_any_depth() -> None:
    plain = Outer(parts=(Inner(),))
    shifted = Outer(workers=9, inner=Inner(folder=Path("x")), parts=(Inner(folder=Path("y")),))
    assert plain != shifted
    assert plain.fingerprint() == shifted.fingerprint()
    assert "workers" not in plain.identity()
    assert "workers" in plain.to_dict()


def test_the_fingerprint_changes_with_everything_else() -> None:
    prints = [
        Outer().fingerprint(),
        Outer(name="b").fingerprint(),
        Outer(share=0.25).fingerprint(),
        Outer(sizes=(2, 1)).fingerprint(),
        Outer(inner=Inner(width=5)).fingerprint(),
        Outer(inner=Inner(speed=CosineSchedule(start=1, end=1))).fingerprint(),
        Outer(parts=(Inner(),)).fingerprint(),
        Outer().fingerprint("parent"),
        Outer().fingerprint("parent", "other"),
        Outer().fingerprint(version=2),
    ]
    assert len(set(prints)) == len(prints)
    assert all(len(text) == 12 and int(text, 16) >= 0 for text in prints)


def test_a_training_fingerprint(tiny_config: Callable[..., TrainConfig]) -> None:
    plain = tiny_config().fingerprint()
    assert tiny_config(checkpoint_images=7, device="auto").fingerprint() == plain
    changes: list[dict[str, Any]] = [
        {"seed": 4},
        {"batch_size": 16},
        {"accumulate": 2},
        {"precision": "bf16"},
        {"objective": {"kind": "wgan-gp"}},
        {"dataset": {"kind": "digits", "split": "test"}},
        {"learning_rate": 1e-3},
    ]
    assert len({plain, *(tiny_config(**change).fingerprint() for change in changes)}) == 8
