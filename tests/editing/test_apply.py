"""What edits ask for, as arithmetic: changes add up, and what is taken away again leaves nothing.

Only of what is asked, a point of the unit sphere; what the map answers to it is another matter.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlgen import Editor
from controlgen.editing.apply import Start
from controlgen.editing.feature_math import LARGEST
from controlgen.editing.feature_pca import Statistics
from controlgen.errors import ConfigError

EIGHT = 'text("a digit eight") - text("a digit three")'
BOLD = 'text("a bold digit") - text("a thin digit")'
AMOUNTS = st.floats(-2, 2, width=32)
FEW = settings(max_examples=15)  # each makes and embeds pictures


def asked(editor: Editor, source: Any, direction: Any, amount: float = 1.0) -> Any:
    return editor.edit(source, direction, amount).asked


def began(editor: Editor, features: Any) -> Start:
    """A source that is seen as these features."""
    source = editor.sample(len(features))
    return Start(source.latents, source.pixels, features)


@FEW
@given(AMOUNTS, AMOUNTS)
def test_changes_added_in_either_order_ask_for_the_same(editor: Editor, a: float, b: float) -> None:
    """A sum of changes is one change; nothing is brought back to the sphere between its terms."""
    there = editor.query(f"seed(7) + ({a:.6f}) * ({EIGHT}) + ({b:.6f}) * ({BOLD})")
    back = editor.query(f"seed(7) + ({b:.6f}) * ({BOLD}) + ({a:.6f}) * ({EIGHT})")
    found = [editor.answer(query).asked for query in (there, back)]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@FEW
@given(AMOUNTS)
def test_a_change_less_itself_asks_for_the_source(editor: Editor, amount: float) -> None:
    """In one sum, where it is taken away before anything is brought back to the sphere."""
    scaled = f"({amount:.6f}) * ({EIGHT})"
    edit = editor.answer(f"seed(7) + {scaled} - {scaled}")
    np.testing.assert_allclose(edit.asked, edit.source_features, atol=1e-5)


@FEW
@given(AMOUNTS, st.integers(0, 99))
def test_the_way_back_is_as_much_shorter_as_the_sphere_took(
    editor: Editor, amount: float, seed: int
) -> None:
    """An edit by d and then one by -d do not meet the source: between them |f + d| is lost.

    The way back is d over that length, and along it exactly the source's feature is asked for.
    """
    direction, source = editor.parse(EIGHT), editor.sample(1, seed)
    features = editor.embed(source.pixels)
    there = asked(editor, source, direction, amount)
    length = float(np.linalg.norm(features + np.float32(amount) * direction))
    back = asked(editor, began(editor, there), direction, -amount / length)
    np.testing.assert_allclose(back, features, atol=1e-4)


@FEW
@given(AMOUNTS, st.integers(0, 99))
def test_there_and_back_stays_between_the_source_and_the_direction(
    editor: Editor, amount: float, seed: int
) -> None:
    """Without that shortening it lands in their plane, off by at most what the sphere took."""
    direction, source = editor.parse(EIGHT), editor.sample(1, seed)
    features = editor.embed(source.pixels)
    there = asked(editor, source, direction, amount)
    back = asked(editor, began(editor, there), direction, -amount)
    length = float(np.linalg.norm(features + np.float32(amount) * direction))
    wanted = features + np.float32((1 - length) * amount) * direction
    np.testing.assert_allclose(back, wanted / np.linalg.norm(wanted), atol=1e-4)


@FEW
@given(AMOUNTS, AMOUNTS)
def test_one_edit_after_another_weighs_the_first_by_the_length_it_left(
    editor: Editor, a: float, b: float
) -> None:
    """So two edits in turn do not commute, and ask for what one edit by a weighted sum does."""
    eight, bold = editor.parse(EIGHT), editor.parse(BOLD)
    source = editor.sample(1, 7)
    first = asked(editor, source, eight, a)
    both = asked(editor, began(editor, first), bold, b)
    length = float(np.linalg.norm(editor.embed(source.pixels) + np.float32(a) * eight))
    once = asked(editor, source, np.float32(a) * eight + np.float32(b * length) * bold)
    np.testing.assert_allclose(both, once, atol=1e-4)


MOVES: dict[str, Callable[[Editor, Any, float], Any]] = {
    "edit": lambda editor, way, amount: editor.edit(editor.sample(1), way, amount),
    "latents": lambda editor, way, amount: editor.edit_latents(
        editor.sample(1), way[: editor.latent_size], amount
    ),
    "answer": lambda editor, way, amount: editor.answer(f"seed(0) + {EIGHT}", amount),
}


@pytest.mark.parametrize("name", MOVES)
def test_amounts_beyond_a_million_are_refused(editor: Editor, name: str) -> None:
    direction = editor.parse(EIGHT)
    for amount in (np.nan, -np.inf, 2 * LARGEST, 1e20, -1e39, 1e300):
        with pytest.raises(ConfigError, match=r"^amount .*: must be a finite number, up to 1e\+06"):
            MOVES[name](editor, direction, amount)
    edit = MOVES[name](editor, direction, -LARGEST)
    np.testing.assert_allclose(np.linalg.norm(edit.asked, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("number", [np.nan, np.inf, 2e6, 3e38])
def test_directions_beyond_a_million_are_refused(editor: Editor, number: float) -> None:
    direction = editor.parse(EIGHT)
    direction[3] = number
    for name in ("edit", "latents"):
        with pytest.raises(ConfigError, match="direction: must hold finite numbers, up to"):
            MOVES[name](editor, direction, 1.0)


@given(st.floats(1e-30, 1e30))
def test_the_share_inside_does_not_depend_on_the_length(length: float) -> None:
    plane = Statistics(np.zeros(3, np.float32), np.eye(3, dtype=np.float32)[:2], np.ones(2))
    direction = np.float32([3, 0, 4]) * np.float32(length)
    assert plane.share_inside(direction) == pytest.approx(9 / 25, rel=1e-5)
    assert plane.share_inside(np.zeros(3, np.float32)) == 0
