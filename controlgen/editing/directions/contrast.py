"""Feature directions from texts, groups of images, attributes or given values."""

from collections.abc import Sequence

from controlgen.editing import feature_math
from controlgen.editing.directions.regression import ValuesLike, direction_from_values
from controlgen.editing.expressions.parser import is_valid_utf8
from controlgen.editing.protocols import EditorProtocol
from controlgen.errors import ConfigError
from controlgen.features import FeatureSpace
from controlgen.types import Direction, Pixels

Texts = str | Sequence[str]


def embed_texts(space: FeatureSpace, texts: Texts) -> Direction:
    """The unit mean (d) of text features. Raises ConfigError as `Editor.embed_text`."""
    embed_text = getattr(space, "embed_text", None)
    if embed_text is None:
        raise ConfigError("this feature space does not embed text; use groups of images instead")
    rows = [texts] if isinstance(texts, str) else list(texts)
    for text in rows:
        if not is_valid_utf8(text):
            raise ConfigError(f"text {text!a}: is not valid UTF-8")
    return feature_math.mean(embed_text(rows))


def text_direction(model: EditorProtocol, text: Texts, neutral: Texts) -> Direction:
    """The direction (d) from neutral texts to others. Raises ConfigError for an empty text."""
    direction: Direction = model.embed_text(text) - model.embed_text(neutral)
    return direction


def group_direction(model: EditorProtocol, more: Pixels, less: Pixels) -> Direction:
    """The direction (d) between group means. Raises ConfigError where a group is empty."""
    if not len(more) or not len(less):
        raise ConfigError("direction: each group needs at least one image")
    return feature_math.mean(model.embed(more)) - feature_math.mean(model.embed(less))


def make_direction(
    model: EditorProtocol,
    text: Texts | None,
    neutral: Texts | None,
    more: Pixels | None,
    less: Pixels | None,
    attribute: str | None,
    values: ValuesLike | None,
    of: Pixels | None,
    hold: str | Sequence[str],
) -> Direction:
    """A direction (d) from two texts, two groups of images, an attribute, or values of images.

    Raises as `Editor.direction`.
    """
    arguments: dict[str, object] = {
        "text": text,
        "neutral": neutral,
        "more": more,
        "less": less,
        "attribute": attribute,
        "values": values,
        "of": of,
    }
    given = {name for name, value in arguments.items() if value is not None}
    if attribute is not None and given == {"attribute"}:
        return model.attribute(attribute, hold)
    if text is not None and neutral is not None and given == {"text", "neutral"}:
        return model.constrain(text_direction(model, text, neutral), hold)
    if more is not None and less is not None and given == {"more", "less"}:
        return model.constrain(group_direction(model, more, less), hold)
    if values is not None and of is not None and given == {"values", "of"}:
        return direction_from_values(model, values, of, hold)
    raise ConfigError(
        "direction: give text= and neutral=, or more= and less=, or attribute=, or values= and of="
    )
