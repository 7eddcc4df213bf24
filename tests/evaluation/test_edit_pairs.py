"""Exemplars, pairs of source and target class, and their directions."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from controlgen.evaluation.edit_pairs import class_directions, select_edit_pairs, select_exemplars
from toy_protocol import CLASSES, ToySpace, make_context
from toy_two_sides import make_sides_config, make_sides_context


@pytest.fixture(scope="module")
def context():
    return make_context()


def test_text_exemplars_are_training_items_of_the_right_class(context):
    exemplars, selected_by, precision = select_exemplars(context)
    assert (selected_by, precision.mean) == ("text", 1.0)
    assert exemplars.shape == (CLASSES, 8)
    assert exemplars.max() < context.bank.train.stop


def test_judge_selects_exemplars_without_text():
    exemplars, selected_by, precision = select_exemplars(make_context(ToySpace()))
    assert (selected_by, precision.mean) == ("judge", 1.0)
    assert len(np.unique(exemplars)) == exemplars.size


def test_config_can_make_the_judge_select_exemplars_despite_text():
    judge = SimpleNamespace(
        classes=2,
        probabilities=lambda pixels: (
            np.c_[pixels[:, 0].mean((1, 2)), pixels[:, 2].mean((1, 2))] / 100
        ),
    )
    selected = {}
    for exemplars_by in ("auto", "judge"):
        config = make_sides_config(judge="probe", exemplars_by=exemplars_by)
        context = replace(make_sides_context(config), judge=judge)
        exemplars, selected_by, _ = select_exemplars(context)
        selected[selected_by] = exemplars
    assert set(selected) == {"text", "judge"}
    assert not np.array_equal(selected["text"], selected["judge"])


def test_edits_cover_every_ordered_pair_with_confident_sources(context):
    edits, missing = select_edit_pairs(context)
    pairs = {(int(b), int(a)) for b, a in zip(edits.before, edits.after, strict=True)}
    assert pairs == {(b, a) for b in range(CLASSES) for a in range(CLASSES) if a != b}
    assert not missing
    assert len(edits) == 60
    probabilities = context.judge.probabilities(edits.pixels)
    assert (probabilities.argmax(1) == edits.before).all()
    assert probabilities.max(1).min() > 0.9
    start = context.bank.held_out.start
    np.testing.assert_array_equal(edits.latents, context.bank.latents[start + edits.source])


def test_directions_are_differences_of_class_means(context):
    exemplars, _, _ = select_exemplars(context)
    edits, _ = select_edit_pairs(context)
    directions = class_directions(context, exemplars, edits)
    b, a = exemplars[edits.before[0]], exemplars[edits.after[0]]
    expected = context.bank.features[a].mean(0) - context.bank.features[b].mean(0)
    np.testing.assert_allclose(directions.features[0], expected, atol=1e-6)
    expected = context.bank.latents[a].mean(0) - context.bank.latents[b].mean(0)
    np.testing.assert_allclose(directions.latents[0], expected, atol=1e-6)
