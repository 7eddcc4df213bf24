"""The controls of the studio, to and from an expression; and what a visit keeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlgen.editing.expressions.parser import parse, quote
from controlgen.errors import ConfigError, DataError
from controlgen.serve.schemas import EditResponse
from controlgen.serve.studio import visits
from controlgen.serve.studio.visits import Drawing, Settings, Visit, Visits, safe_name
from controlgen.serve.studio.wishes import MOST, Part, Wish, names_in, read

EIGHT = 'text("a digit eight") - text("a digit three")'
CHANGES = st.sampled_from(
    [
        EIGHT,
        'axis("sefa", 2)',
        'attribute("ink")',
        'direction("bold.safetensors")',
        'mean("more-1/*") - mean("less-1/*")',
        'axis("pca", 1) - axis("pca", 2)',
        'text("a \\"quoted\\" word \\\\ and ${x} {{y}}")',
    ]
)
AMOUNTS = st.integers(-60, 60).map(lambda steps: steps / 20)


@st.composite
def wishes(draw: st.DrawFn) -> Wish:
    start = draw(st.sampled_from(["seed(7)", "seed(7, 3)", 'image("a.png")', "bank(12)"]))
    changes = draw(st.lists(CHANGES, unique=True, max_size=MOST))
    hold = draw(st.lists(st.sampled_from(["ink", "slant"]), unique=True))
    return Wish(start, tuple(Part(change, draw(AMOUNTS)) for change in changes), tuple(hold))


@given(wishes())
def test_what_the_controls_say_is_read_back_from_the_expression(wish: Wish) -> None:
    assert read(str(wish)) == wish


def test_an_expression_by_hand_moves_the_sliders() -> None:
    wish = read(f'{EIGHT} + seed(4) - 2 * attribute("ink") + axis("sefa", 1) / 4 + hold("slant")')
    assert wish.start == "seed(4)"
    assert wish.seed == 4
    assert wish.parts == (
        Part(EIGHT, 1.0),
        Part('attribute("ink")', -2.0),
        Part('axis("sefa", 1)', 0.25),
    )
    assert wish.hold == ("slant",)


@pytest.mark.parametrize(
    "text",
    [
        "slerp(seed(1), seed(2), 0.3)",
        'text("a digit eight")',
        "seed(1) + " + " + ".join(f'axis("sefa", {at})' for at in range(1, MOST + 2)),
        'seed(1) + 2 * (axis("sefa", 1) + hold("ink"))',
        'seed(1) + axis("sefa", 1) + 2 * axis("sefa", 1)',
    ],
)
def test_what_has_no_sliders_stays_as_it_stands(text: str) -> None:
    wish = read(text)
    assert not wish.parts
    assert parse(str(wish)) == parse(text)
    assert wish.moves
    assert wish.seed is None


def test_a_start_alone_moves_nothing() -> None:
    assert not Wish().moves
    assert Wish().with_part(EIGHT).moves


def test_numbers_stand_as_they_are_read() -> None:
    parts = tuple(
        Part(f'axis("sefa", {at})', amount) for at, amount in enumerate([0.3, -0.7, -0.0])
    )
    assert str(Wish(parts=parts)) == (
        'seed(7) + 0.3 * axis("sefa", 0) - 0.7 * axis("sefa", 1) + 0 * axis("sefa", 2)'
    )


def test_directions_are_bounded_and_stand_once() -> None:
    wish = Wish()
    for at in range(1, MOST + 1):
        wish = wish.with_part(f'axis("sefa", {at})')
    with pytest.raises(ConfigError, match="remove one"):
        wish.with_part('axis("pca", 1)')
    with pytest.raises(ConfigError, match="move its slider"):
        wish.with_part("axis('sefa',1)")


def test_all_directions_are_one_change() -> None:
    wish = Wish("seed(3)", (Part(EIGHT, 1.5), Part('axis("sefa", 1)', -2.0)))
    assert wish.changes() == f'1.5 * ({EIGHT}) + (-2 * axis("sefa", 1))'
    parse(wish.changes())
    with pytest.raises(ConfigError, match="no direction"):
        Wish().changes()


def test_labels_are_short_words() -> None:
    assert Part(EIGHT).label == "“a digit eight”, less “a digit three”"
    assert Part('attribute("nuclear_area")').label == "measured nuclear area (in sigmas)"
    assert Part('mean("more-2/*") - mean("less-2/*")').label == "pictures more-2, less less-2"
    assert len(Part(f"text({quote('x' * 300)})").label) <= 90


def test_only_files_that_are_named_go_with_a_request() -> None:
    names = ["a.png", "b.png", "more-1/a.png", "more-1/b.png", "less-1/c.png"]
    assert names_in('image("b.png") + mean("more-1/*") - mean("less-1")', names) == names[1:]
    assert names_in("seed(1)", names) == []


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("a b.PNG", "a-b.png"),
        ("../../etc/passwd.png", "passwd.png"),
        ("C:\\temp\\x.jpeg", "x.jpeg"),
        ("<img src=x>.tif", "img-src-x.tif"),
        ("…….webp", "image.webp"),
        ("x" * 300 + ".png", "x" * 40 + ".png"),
    ],
)
def test_names_of_uploads_are_made_safe(given: str, safe: str) -> None:
    assert safe_name(given) == safe


@pytest.mark.parametrize("given", ["a.svg", "a", ".png", "recipe.toml", "x.png.exe"])
def test_what_is_no_image_by_its_name_is_refused(given: str) -> None:
    with pytest.raises(DataError, match="no image file"):
        safe_name(given)


def test_uploads_never_take_each_others_names() -> None:
    visit = Visit("mnist")
    names = [visit.take(item, "abcd") for item in ("a.png", "A.png", "a.png", "b/a.png")]
    assert len({item.lower() for item in names}) == 4
    assert visit.take("a.png", "abcd", visit.folder("more")) == "more-1/a.png"
    assert visit.group("more") == ["more-1/a.png"]


def test_uploads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "UPLOADED", 10)
    visit = Visit("mnist")
    visit.take("a.png", "12345678")
    with pytest.raises(DataError, match="forget them"):
        visit.take("b.png", "12345678")


def test_visits_are_bounded_and_the_silent_ones_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "VISITS", 3)
    saved = Visits("mnist")
    first = saved.of("a")
    for name in ("b", "c", "a", "d"):
        saved.of(name)
    assert saved.of("a") is first
    assert len(saved) == 3
    assert saved.by_token(first.token) is first
    assert saved.by_token("no") is None
    assert saved.by_token("nö") is None

    monkeypatch.setattr(visits, "ALL_UPLOADED", 12)
    first.take("a.png", "12345678")
    saved.of("d").take("a.png", "12345678")
    assert saved.of("d").images
    assert not saved.of("a").images


def drawing(
    number: int, wish: Wish, settings: Settings | None = None, live: bool = True
) -> Drawing:
    answer = EditResponse(
        model="m", expression=None, start=None, share=None, sources=[], pictures=[]
    )
    return Drawing(number, "m", wish, settings or Settings(), str(wish), answer, live=live)


def test_a_slider_that_moves_leaves_one_place_in_the_history() -> None:
    now = 100.0
    visit = Visit("m", clock=lambda: now)
    for number in range(10):
        now += 0.1
        visit.keep(drawing(number, Wish(parts=(Part(EIGHT, number / 10),))))
    assert [item.number for item in visit.past] == [9]
    now += 10
    visit.keep(drawing(10, Wish(parts=(Part(EIGHT, 2.0),))))
    now += 0.1
    visit.keep(drawing(11, Wish(parts=(Part('axis("sefa", 1)', 2.0),))))
    now += 0.1
    other = Settings(residual=True)
    visit.keep(drawing(12, Wish(parts=(Part('axis("sefa", 1)', 2.0),)), other))
    assert [item.number for item in visit.past] == [9, 10, 11, 12]
    visit.keep(drawing(13, Wish("seed(1)"), live=False))
    visit.keep(drawing(14, Wish("seed(2)"), live=False))
    assert len(visit.past) == 6
    for number in range(15, 100):
        now += 10
        visit.keep(drawing(number, Wish(f"seed({number})")))
    assert len(visit.past) == visits.PAST
    assert visit.find(99) is visit.current
    with pytest.raises(DataError, match="no longer kept"):
        visit.find(9)
