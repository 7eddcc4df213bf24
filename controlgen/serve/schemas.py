"""Requests and responses. Images are base64 of a file, numbers lists or base64 of .npy."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from controlgen.editing.apply import EditSettings
from controlgen.editing.feature_math import MAX_MAGNITUDE

MODEL = Field(None, max_length=200, description="name of a model; optional if only one is served")
# Parts of a relative path: none starts with a dot or has a character that file names may not have.
PART = r'[^/\\.:*?"<>|\x00-\x1f][^/\\:*?"<>|\x00-\x1f]*'
FILE_NAME = f"^{PART}(/{PART})*$"
MAX_ITEMS = 1_000  # items of any list, checked during validation; the server's limits come later
MAX_ROW = 65_536  # numbers of one row
Seed = Annotated[int, Field(ge=0, lt=2**53)]
Base64 = Annotated[str, Field(description="base64 of a PNG, JPEG, TIFF or WebP file")]
FileName = Annotated[str, Field(pattern=FILE_NAME, max_length=200)]
Images = Annotated[list[Base64], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]
Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]
ArrayFormat = Annotated[
    Literal["none", "json", "npy"],
    Field(description="format of latents and features: none, lists, or base64 of .npy"),
]
PixelFormat = Annotated[
    Literal["png", "npy"],
    Field(
        description="npy: pixels and source_pixels (n c h w) as base64 of .npy, and no `sources`; "
        "the image of each picture is a PNG in both cases"
    ),
]
# Beyond this float32 keeps nothing of the source next to the direction.
Amount = Annotated[float, Field(ge=-MAX_MAGNITUDE, le=MAX_MAGNITUDE)]


class RequestModel(BaseModel):
    """A request; unknown fields are rejected by name."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Npy(RequestModel):
    """An array as base64 of a .npy file."""

    npy: str


# Validation stops at the first invalid number, and does not list thousands.
Row = Annotated[list[float], Field(max_length=MAX_ROW, fail_fast=True)]
Rows = Annotated[list[Row], Field(max_length=MAX_ITEMS, fail_fast=True)]
Numbers = Npy | Rows | Row


class Sources(RequestModel):
    """The sources of an edit: samples of a seed, latents (n z), or images."""

    seed: Seed | None = None
    n: int = Field(1, ge=1, description="samples of the seed")
    start: int = Field(0, ge=0, lt=2**53, description="index of the first")
    latents: Numbers | None = None
    images: Images | None = None

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        if sum(part is not None for part in (self.seed, self.latents, self.images)) != 1:
            raise ValueError("give one of seed, latents and images")
        return self


class SampleRequest(RequestModel):
    """Samples start to start + n of a seed."""

    model: str | None = MODEL
    n: int = Field(1, ge=1)
    seed: Seed = 0
    start: int = Field(0, ge=0, lt=2**53)
    arrays: ArrayFormat = "none"


class GenerateRequest(RequestModel):
    """Latents (n z) to images."""

    model: str | None = MODEL
    latents: Numbers


class EmbedRequest(RequestModel):
    """Images, or texts, to unit features (n d)."""

    model: str | None = MODEL
    images: Images | None = None
    texts: Texts | None = None
    arrays: Literal["json", "npy"] = "json"

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        if (self.images is None) == (self.texts is None):
            raise ValueError("give either images or texts")
        return self


class InvertRequest(RequestModel):
    """Features (n d), or images, to latents (n z) and the images that these generate."""

    model: str | None = MODEL
    features: Numbers | None = None
    images: Images | None = None
    arrays: ArrayFormat = "json"

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        if (self.features is None) == (self.images is None):
            raise ValueError("give either features or images")
        return self


class EditBase(RequestModel):
    """The common fields of an edit and a sweep: an expression, or a source and a direction."""

    model: str | None = MODEL
    expression: str | None = Field(None, description="seed(7) + text('bold') - text('thin')")
    source: Sources | None = None
    direction: str | Numbers | None = Field(None, description="an expression, or (d) numbers")
    hold: list[str] = Field(
        [], max_length=32, fail_fast=True, description="measured attributes to keep constant"
    )
    residual: bool = False
    corrections: int | None = Field(None, ge=0)
    refine: int = Field(0, ge=0)
    images: dict[FileName, Base64] = Field(
        {},
        max_length=MAX_ITEMS,
        description="files that the expression names, as in image('a.png'), mean('new/*')",
    )
    arrays: ArrayFormat = "none"
    pixels: PixelFormat = "png"

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        pair = (self.source is not None, self.direction is not None)
        if (self.expression is not None) == all(pair) or any(pair) != all(pair):
            raise ValueError("give an expression, or a source and a direction")
        return self

    def settings(self, amount: float) -> EditSettings:
        """The settings of the edit at one amount."""
        return EditSettings(amount, self.residual, tuple(self.hold), self.corrections, self.refine)


class EditRequest(EditBase):
    """An edit of each source; `answers` above 1 returns candidates for one source, best first."""

    amount: Amount = 1.0
    answers: int = Field(1, ge=1)


class SweepRequest(EditBase):
    """The same edit of one source at several amounts."""

    amounts: list[Amount] = Field(
        [0.25, 0.5, 0.75, 1.0], min_length=1, max_length=MAX_ITEMS, fail_fast=True
    )


class NearestRequest(RequestModel):
    """Bank items whose features are nearest to an expression's."""

    model: str | None = MODEL
    expression: str
    n: int = Field(12, ge=1)
    among: int = Field(
        500,
        ge=1,
        description="search only the first items of the bank; they are generated when first needed",
    )
    images: dict[FileName, Base64] = Field({}, max_length=MAX_ITEMS)


class DirectionRequest(RequestModel):
    """A direction from an expression, an attribute, two texts, two groups, or values of images.

    A direction with a name is saved and replaces the previous one of this name.
    """

    model: str | None = MODEL
    name: str | None = Field(None, pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    expression: str | None = None
    attribute: str | None = Field(None, description="a measured attribute; one sigma of it")
    text: Texts | None = None
    neutral: Texts | None = None
    more: Images | None = None
    less: Images | None = None
    values: list[float] | None = Field(
        None,
        min_length=1,
        max_length=MAX_ITEMS,
        fail_fast=True,
        description="one measured value for each image of `of`",
    )
    of: Images | None = None
    hold: list[str] = Field([], max_length=32, fail_fast=True)
    images: dict[FileName, Base64] = Field({}, max_length=MAX_ITEMS)
    arrays: ArrayFormat = "none"

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        names = ("expression", "attribute", "text", "neutral", "more", "less", "values", "of")
        present = {name for name in names if getattr(self, name) is not None}
        pairs = ({"text", "neutral"}, {"more", "less"}, {"values", "of"})
        if present not in ({"expression"}, {"attribute"}, *pairs):
            raise ValueError(
                "give an expression, or text and neutral, or more and less, or an attribute, or "
                "values and of"
            )
        return self


class Health(BaseModel):
    """State of the server; `waiting` counts requests in the queue."""

    status: Literal["ok"] = "ok"
    version: str
    models: list[str]
    waiting: int


class SpaceInfo(BaseModel):
    """A model's feature space."""

    kind: str
    size: int = Field(description="d")
    fingerprint: str
    text: bool = Field(description="whether it embeds text")


class ModelInfo(BaseModel):
    """A served model."""

    name: str
    about: str
    weights: str = Field(description="fingerprint of everything that an image depends on")
    image_shape: tuple[int, int, int] = Field(description="c h w")
    latent_size: int = Field(description="z")
    space: SpaceInfo
    map: str
    bank: int | None = Field(description="items that can be regenerated and searched")
    attributes: list[str] = Field(description="measured attributes, which can be held")
    axes: list[str] = Field(description="families of unsupervised axes")
    directions: list[str] = Field(
        description="saved directions, for direction('NAME') in an expression"
    )
    reachability: bool = Field(description="whether edits have a confidence score")


class ModelCard(ModelInfo):
    """A served model, with its card in Markdown."""

    card: str


class ImagesResponse(BaseModel):
    """PNG files as base64, with the requested latents (n z) and features (n d)."""

    model: str
    images: list[str]
    latents: Any = None
    features: Any = None


class FeaturesResponse(BaseModel):
    """Unit features (n d)."""

    model: str
    features: Any


class Measurement(BaseModel):
    """An attribute before and after, in its own unit, and the change in sigmas of the bank."""

    before: float
    after: float
    sigmas: float
    held: bool


class EditedImage(BaseModel):
    """An edited image, its similarity to the target, and the recipe that reproduces it."""

    image: str = Field(description="base64 of a PNG; for an expression it carries the recipe")
    amount: float | None
    agreement: float = Field(description="cosine of target and resulting features, -1..1")
    progress: float | None = Field(
        description="cosine of target and resulting change of features, -1..1"
    )
    reachability: float | None = Field(
        None, description="calibrated confidence, 0..1; null without a confidence model"
    )
    warning: str = ""
    measured: dict[str, Measurement] = {}
    recipe: dict[str, Any] | None = Field(None, description="null for a source and a direction")


class EditResponse(BaseModel):
    """Sources and results. Rows of arrays are in the order of `pictures`."""

    model: str
    expression: str | None
    start: str | None = Field(description="the start point, in words")
    share: float | None = Field(
        description="share of the change in the span of the bank's features, 0..1"
    )
    sources: list[str] = Field(description="base64 of PNG files; empty with source_pixels")
    pictures: list[EditedImage]
    latents: Any = None
    asked: Any = None
    obtained: Any = None
    pixels: Any = None
    source_pixels: Any = None
    source_latents: Any = None
    source_features: Any = None


class Neighbour(BaseModel):
    """A bank item, which is `bank(ITEM)` in an expression."""

    item: int
    cosine: float
    image: str


class NearestResponse(BaseModel):
    """Bank items, nearest first."""

    model: str
    neighbours: list[Neighbour]


class DirectionResponse(BaseModel):
    """A direction; a saved one is `direction("FILE")` in an expression."""

    model: str
    file: str | None
    replaced: bool = Field(False, description="whether it replaces another direction of this name")
    made_by: str
    share: float = Field(description="share in the span of the bank's features, 0..1")
    direction: Any = None


class Problem(BaseModel):
    """RFC 9457: one line that says what is wrong and what to do."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str = Field(description="request id, as in the log")
