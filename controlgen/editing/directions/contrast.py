"""Changes in feature space from what one has: texts, groups of images, what was measured."""

from collections.abc import Sequence

from controlgen.editing import feature_math
from controlgen.editing.directions.regression import Given, direction_of_values
from controlgen.editing.expressions.parser import is_text
from controlgen.editing.protocols import Model
from controlgen.errors import ConfigError
from controlgen.features import FeatureSpace
from controlgen.types import Direction, Pixels

Texts = str | Sequence[str]


def of_texts(space: FeatureSpace, texts: Texts) -> Direction:
    """The mean unit feature (d) of texts. Raises ConfigError as `Editor.embed_text`."""
    embed_text = getattr(space, "embed_text", None)
    if embed_text is None:
        raise ConfigError("this feature space has no text; use image groups instead")
    rows = [texts] if isinstance(texts, str) else list(texts)
    for text in rows:
        if not is_text(text):
            raise ConfigError(f"text {text!a}: holds bytes that are no letters; write it in UTF-8")
    return feature_math.mean(embed_text(rows))


def change_of_texts(model: Model, text: Texts, neutral: Texts) -> Direction:
    """The change (d) from neutral texts to others. Raises ConfigError where there is no text."""
    change: Direction = model.embed_text(text) - model.embed_text(neutral)
    return change


def change_of_groups(model: Model, more: Pixels, less: Pixels) -> Direction:
    """The change (d) between the means of two groups. Raises ConfigError where one is empty."""
    if not len(more) or not len(less):
        raise ConfigError("direction: each group needs at least one image")
    return feature_math.mean(model.embed(more)) - feature_math.mean(model.embed(less))


def direction(
    model: Model,
    text: Texts | None,
    neutral: Texts | None,
    more: Pixels | None,
    less: Pixels | None,
    attribute: str | None,
    values: Given | None,
    of: Pixels | None,
    hold: str | Sequence[str],
) -> Direction:
    """A change (d) from two texts, two groups of images, an attribute, or numbers of images.

    Raises as `Editor.direction`.
    """
    sides: dict[str, object] = {"text": text, "neutral": neutral, "more": more, "less": less}
    sides |= {"attribute": attribute, "values": values, "of": of}
    given = {name for name, value in sides.items() if value is not None}
    if attribute is not None and given == {"attribute"}:
        return model.attribute(attribute, hold)
    if text is not None and neutral is not None and given == {"text", "neutral"}:
        return model.within(change_of_texts(model, text, neutral), hold)
    if more is not None and less is not None and given == {"more", "less"}:
        return model.within(change_of_groups(model, more, less), hold)
    if values is not None and of is not None and given == {"values", "of"}:
        return direction_of_values(model, values, of, hold)
    raise ConfigError(
        "direction: give text= and neutral=, or more= and less=, or attribute=, or values= and of="
    )
