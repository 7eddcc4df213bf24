"""The arithmetic of edits' target features, points of the unit sphere, whatever the map returns."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlgen import Editor
from controlgen.editing.apply import EditSource
from controlgen.editing.feature_math import MAX_MAGNITUDE
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.errors import ConfigError

EIGHT = 'text("a digit eight") - text("a digit three")'
BOLD = 'text("a bold digit") - text("a thin digit")'
AMOUNTS = st.floats(-2, 2, width=32)
FEW = settings(max_examples=15)  # each generates and embeds images


def target(editor: Editor, source: Any, direction: Any, amount: float = 1.0) -> Any:
    return editor.edit(source, direction, amount).target_features


def source_at(editor: Editor, features: Any) -> EditSource:
    """A source with these features."""
    source = editor.sample(len(features))
    return EditSource(source.latents, source.pixels, features)


@FEW
@given(AMOUNTS, AMOUNTS)
def test_sums_commute(editor: Editor, a: float, b: float) -> None:
    """A sum is one direction: nothing is normalised between its terms."""
    forward = editor.resolve(f"seed(7) + ({a:.6f}) * ({EIGHT}) + ({b:.6f}) * ({BOLD})")
    reverse = editor.resolve(f"seed(7) + ({b:.6f}) * ({BOLD}) + ({a:.6f}) * ({EIGHT})")
    actual = [editor.apply(query).target_features for query in (forward, reverse)]
    np.testing.assert_allclose(actual[0], actual[1], atol=1e-5)


@FEW
@given(AMOUNTS)
def test_a_direction_less_itself_has_the_source_as_target(editor: Editor, amount: float) -> None:
    """In a single sum: it cancels before the normalisation."""
    scaled = f"({amount:.6f}) * ({EIGHT})"
    edit = editor.apply(f"seed(7) + {scaled} - {scaled}")
    np.testing.assert_allclose(edit.target_features, edit.source_features, atol=1e-5)


@FEW
@given(AMOUNTS, st.integers(0, 99))
def test_the_inverse_edit_is_shorter_by_the_normalisation(
    editor: Editor, amount: float, seed: int
) -> None:
    """An edit by d and then by -d misses the source, because f + d was normalised in between.

    The inverse of the edit by d is the edit by -d / |f + d|.
    """
    direction, source = editor.direction_from_expression(EIGHT), editor.sample(1, seed)
    features = editor.embed(source.pixels)
    edited = target(editor, source, direction, amount)
    length = float(np.linalg.norm(features + np.float32(amount) * direction))
    back = target(editor, source_at(editor, edited), direction, -amount / length)
    np.testing.assert_allclose(back, features, atol=1e-4)


@FEW
@given(AMOUNTS, st.integers(0, 99))
def test_a_direction_and_its_negative_stay_in_their_plane(
    editor: Editor, amount: float, seed: int
) -> None:
    """Without that scale the second edit misses the source by what the normalisation removed."""
    direction, source = editor.direction_from_expression(EIGHT), editor.sample(1, seed)
    features = editor.embed(source.pixels)
    edited = target(editor, source, direction, amount)
    back = target(editor, source_at(editor, edited), direction, -amount)
    length = float(np.linalg.norm(features + np.float32(amount) * direction))
    expected = features + np.float32((1 - length) * amount) * direction
    np.testing.assert_allclose(back, expected / np.linalg.norm(expected), atol=1e-4)


@FEW
@given(AMOUNTS, AMOUNTS)
def test_two_edits_in_turn_are_one_edit_by_a_weighted_sum(
    editor: Editor, a: float, b: float
) -> None:
    """The weight is the length before normalisation, so edits in turn do not commute."""
    eight, bold = editor.direction_from_expression(EIGHT), editor.direction_from_expression(BOLD)
    source = editor.sample(1, 7)
    first = target(editor, source, eight, a)
    both = target(editor, source_at(editor, first), bold, b)
    length = float(np.linalg.norm(editor.embed(source.pixels) + np.float32(a) * eight))
    once = target(editor, source, np.float32(a) * eight + np.float32(b * length) * bold)
    np.testing.assert_allclose(both, once, atol=1e-4)


EDITS: dict[str, Callable[[Editor, Any, float], Any]] = {
    "edit": lambda editor, direction, amount: editor.edit(editor.sample(1), direction, amount),
    "latents": lambda editor, direction, amount: editor.edit_latents(
        editor.sample(1), direction[: editor.latent_size], amount
    ),
    "apply": lambda editor, _, amount: editor.apply(f"seed(0) + {EIGHT}", amount),
}


@pytest.mark.parametrize("name", EDITS)
def test_amounts_beyond_a_million_are_refused(editor: Editor, name: str) -> None:
    direction = editor.direction_from_expression(EIGHT)
    for amount in (np.nan, -np.inf, 2 * MAX_MAGNITUDE, 1e20, -1e39, 1e300):
        with pytest.raises(ConfigError, match=r"^amount .*: must be a finite number, up to 1e\+06"):
            EDITS[name](editor, direction, amount)
    edit = EDITS[name](editor, direction, -MAX_MAGNITUDE)
    np.testing.assert_allclose(np.linalg.norm(edit.target_features, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("number", [np.nan, np.inf, 2e6, 3e38])
def test_directions_beyond_a_million_are_refused(editor: Editor, number: float) -> None:
    direction = editor.direction_from_expression(EIGHT)
    direction[3] = number
    for name in ("edit", "latents"):
        with pytest.raises(ConfigError, match="direction: must hold finite numbers, up to"):
            EDITS[name](editor, direction, 1.0)


@given(st.floats(1e-30, 1e30))
def test_the_explained_share_does_not_depend_on_the_length(length: float) -> None:
    plane = FeaturePCA(np.zeros(3, np.float32), np.eye(3, dtype=np.float32)[:2], np.ones(2))
    direction = np.float32([3, 0, 4]) * np.float32(length)
    assert plane.explained_share(direction) == pytest.approx(9 / 25, rel=1e-5)
    assert plane.explained_share(np.zeros(3, np.float32)) == 0
