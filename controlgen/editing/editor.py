"""The Editor: directions in feature space, and edits along them."""

from collections.abc import Sequence
from functools import cached_property

from controlgen.editing.apply import (
    EditSettings,
    edit_in_feature_space,
    edit_in_latent_space,
    edit_resolved,
    interpolate_features,
)
from controlgen.editing.attribute_model import require_attributes
from controlgen.editing.directions.axes import Axis
from controlgen.editing.directions.axis_effects import AxisCache
from controlgen.editing.directions.contrast import embed_texts, make_direction
from controlgen.editing.directions.regression import ValuesLike
from controlgen.editing.edit import Edit, Samples
from controlgen.editing.expressions.parser import Expr
from controlgen.editing.expressions.resolver import (
    ResolvedEdit,
    resolve_direction,
    resolve_edit,
    resolve_feature,
)
from controlgen.editing.feature_math import slerp
from controlgen.editing.generative_model import GenerativeModel
from controlgen.types import Direction, Latents, Pixels
from controlgen.utils.parallel import single_threaded_torch


class Editor(GenerativeModel):
    """Edits images in feature space: real images as pixels, generated ones as latents.

    Results do not depend on the number of CPU cores. In the signatures below n is the number of
    images, c h w their shape, z the latent size and d the feature size.
    """

    def embed_text(self, text: str | Sequence[str]) -> Direction:
        """Embed one or more texts as their unit mean feature (d).

        Raises:
            ConfigError: A text is empty, or the feature space does not embed text.
        """
        with single_threaded_torch():
            return embed_texts(self.space, text)

    def attribute(self, name: str, hold: str | Sequence[str] = ()) -> Direction:
        """The most likely change (d) of features that is worth one sigma of a measured attribute.

        Args:
            name: The attribute.
            hold: Attributes that the linear model must leave constant.

        Raises:
            ConfigError: The map has no such attribute, or features cannot separate it from `hold`.
        """
        return require_attributes(self.attributes).direction(name, hold)

    def direction(
        self,
        *,
        text: str | Sequence[str] | None = None,
        neutral: str | Sequence[str] | None = None,
        more: Pixels | None = None,
        less: Pixels | None = None,
        attribute: str | None = None,
        values: ValuesLike | None = None,
        of: Pixels | None = None,
        hold: str | Sequence[str] = (),
    ) -> Direction:
        """Compute a direction in feature space from texts, images, an attribute, or given values.

        Of two texts or two groups of images it is the difference of the mean unit features,
        projected onto the span of the bank's features. Of an attribute or of values it is the most
        likely change worth one sigma. Give exactly one kind.

        Args:
            text: Texts that describe the goal, with `neutral`.
            neutral: Texts that describe the start.
            more: Images (n c h w) of the goal, with `less`.
            less: Images (n c h w) of the start.
            attribute: Name of a measured attribute.
            values: One number for each of at least 32 images, with `of`.
            of: The images (n c h w) that the values belong to.
            hold: Attributes that the linear model must leave constant.

        Returns:
            The change (d) of features that amount 1 stands for.

        Raises:
            ConfigError: A part is missing or empty, two kinds are given, an attribute is unknown or
                cannot be separated, or values are too few, not finite, all equal, or unrelated to
                the features.
            Incompatible: `of` are not pixels of this model.
        """
        return make_direction(self, text, neutral, more, less, attribute, values, of, hold)

    def direction_from_expression(
        self, expression: str, hold: str | Sequence[str] = ()
    ) -> Direction:
        """A direction (d) from an expression such as text("a thin one") - text("a bold one").

        An image term counts as its feature. The direction is projected onto the span of the bank's
        features; each attribute("NAME") is worth one sigma, also with `hold`.

        Raises:
            ConfigError: The expression has a mistake; the message gives its column.
            DataError: A file cannot be read.
        """
        return resolve_direction(self, expression, _hold_names(hold)).direction

    parse = direction_from_expression
    """The same as `direction_from_expression`."""

    def feature_from_expression(self, expression: str | Expr) -> Direction:
        """The target of an image expression as a unit feature (d). Raises as `resolve`."""
        return resolve_feature(self, expression)

    feature = feature_from_expression
    """The same as `feature_from_expression`."""

    def resolve(self, expression: str | Expr, hold: str | Sequence[str] = ()) -> ResolvedEdit:
        """Find start point and direction of an expression such as seed(7) + 2 * attribute("ink").

        The first unscaled image, seed or bank term is the start point; without one it is the bank
        mean. The rest is the direction, projected onto the span of the bank's features.

        Args:
            expression: An expression that denotes an image.
            hold: Attributes to keep constant, in addition to the expression's own.

        Returns:
            Start point, direction (d) and canonical expression, for `apply`.

        Raises:
            ConfigError: The expression has a mistake; the message gives its column.
            DataError: A file cannot be read.
        """
        return resolve_edit(self, expression, _hold_names(hold))

    query = resolve
    """The same as `resolve`."""

    def constrain(self, direction: Direction, hold: str | Sequence[str] = ()) -> Direction:
        """Project a direction (d) onto the span of the bank's features, with `hold` constant."""
        inside = self.statistics.project(direction)
        if not len(hold):
            return inside
        return require_attributes(self.attributes).project_out(inside, hold)

    within = constrain
    """The same as `constrain`."""

    @cached_property
    def axes(self) -> AxisCache:
        """Unsupervised directions, fitted once for each family."""
        return AxisCache(self)

    def axis(self, family: str, index: int) -> Axis:
        """Unsupervised direction `index`, from 1, of the family "sefa", "ganspace" or "pca".

        Raises:
            ConfigError: There is no such family or index.
        """
        return self.axes.axis(family, index)

    def apply(
        self,
        expression: str | ResolvedEdit,
        amount: float = 1.0,
        residual: bool = False,
        corrections: int | None = None,
        refine: int = 0,
    ) -> Edit:
        """Edit as an expression says. Arguments and errors are those of `edit` and `resolve`."""
        resolved = self.resolve(expression) if isinstance(expression, str) else expression
        settings = EditSettings(amount, residual, corrections=corrections, refine=refine)
        return edit_resolved(self, resolved, settings)

    answer = apply
    """The same as `apply`."""

    def edit(
        self,
        source: Latents | Pixels | Samples,
        direction: Direction,
        amount: float = 1.0,
        residual: bool = False,
        hold: str | Sequence[str] = (),
        corrections: int | None = None,
        refine: int = 0,
    ) -> Edit:
        """Move sources in feature space, map the targets to latents, generate and embed them.

        Args:
            source: Latents (n z), Pixels (n c h w) of real images, or Samples.
            direction: The change (d) of features.
            amount: Multiple of the direction, up to 1e6 in size.
            residual: Add the difference of two inversions to the source's own latent,
                z0 + h(c + delta) - h(c). This preserves more of a generated source, and amount 0
                is the identity.
            hold: Attributes to keep constant: the linear model projects them out of the direction,
                and feedback returns them to the values of the source's pixels.
            corrections: Feedback iterations (default 8 with `hold`, else 0), each of which measures
                the results and adds what is missing to the target; other attributes follow the
                direction if it is a sum of attribute directions. The best result of each image is
                returned. See `controlgen.editing.attribute_feedback`.
            refine: Gradient steps on the latents towards the target; no result gets worse. Each
                feedback iteration refines too, and so does a residual edit of a real image at
                amount 0, because its latent is an inversion.

        Returns:
            Pixels, latents and features of the results, with their targets and sources.

        Raises:
            Incompatible: The direction is of another size.
            ConfigError: A number is not finite or out of range, or the map does not measure `hold`.
        """
        settings = EditSettings(amount, residual, _hold_names(hold), corrections, refine)
        return edit_in_feature_space(self, source, direction, settings)

    def edit_latents(
        self, source: Latents | Pixels | Samples, direction: Latents, amount: float = 1.0
    ) -> Edit:
        """Move sources in latent space, z0 + amount * direction (z), for comparison.

        There is no target in feature space: `target_features` are the features of the result.
        """
        return edit_in_latent_space(self, source, direction, amount)

    def interpolate(
        self,
        start: Latents | Pixels | Samples,
        end: Latents | Pixels | Samples,
        position: float,
        refine: int = 0,
    ) -> Edit:
        """Edit n sources to `position`, 0..1, on the great circle between two features.

        Args:
            start: Sources at position 0, as in `edit`.
            end: Sources at position 1.
            position: 0..1.
            refine: Refinement steps, as in `edit`.

        Raises:
            ConfigError: `refine` is below 0.
        """
        return interpolate_features(self, start, end, position, refine)

    def interpolate_latents(self, start: Latents, end: Latents, position: float) -> Pixels:
        """Pixels of the latents between two, by spherical interpolation, for comparison."""
        return self.generate(slerp(start, end, position))


def _hold_names(hold: str | Sequence[str]) -> tuple[str, ...]:
    return (hold,) if isinstance(hold, str) and hold else tuple(hold)
