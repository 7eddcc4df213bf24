"""Requests and answers of the API. Images are base64 of a file, numbers lists or base64 of .npy."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from controlgen.editing.feature_math import LARGEST

MODEL = Field(None, max_length=200, description="a model's name; the only one if left out")
# Parts of a relative path: none begins with a dot, none has a sign that a file name may not have.
PART = r'[^/\\.:*?"<>|\x00-\x1f][^/\\:*?"<>|\x00-\x1f]*'
FILE_NAME = f"^{PART}(/{PART})*$"
MOST = 1_000  # entries of any list, beside the limits of the server; found before they are read
ROW = 65_536  # numbers of one row
Seed = Annotated[int, Field(ge=0, lt=2**53)]
Base64 = Annotated[str, Field(description="base64 of a PNG, JPEG, TIFF or WebP file")]
Named = Annotated[str, Field(pattern=FILE_NAME, max_length=200)]
Images = Annotated[list[Base64], Field(min_length=1, max_length=MOST, fail_fast=True)]
Texts = Annotated[list[str], Field(min_length=1, max_length=MOST, fail_fast=True)]
Arrays = Annotated[
    Literal["none", "json", "npy"],
    Field(description="how latents and features are answered: not, as lists, as base64 of .npy"),
]
Shown = Annotated[
    Literal["png", "npy"],
    Field(
        description="npy: pixels and source_pixels (n c h w) as base64 of .npy, and no `sources`; "
        "each picture is a PNG either way"
    ),
]
# Beyond it float32 holds nothing of the source beside the direction.
Amount = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]


class Asked(BaseModel):
    """A request; what it does not know is refused by name."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Npy(Asked):
    """An array as base64 of a .npy file."""

    npy: str


# The first number that is none is told, and not each of thousands.
Row = Annotated[list[float], Field(max_length=ROW, fail_fast=True)]
Rows = Annotated[list[Row], Field(max_length=MOST, fail_fast=True)]
Numbers = Npy | Rows | Row


class Sources(Asked):
    """What is edited: samples, latents (n z), or images. One of them."""

    seed: Seed | None = None
    n: int = Field(1, ge=1, description="samples of the seed")
    start: int = Field(0, ge=0, lt=2**53, description="index of the first")
    latents: Numbers | None = None
    images: Images | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(part is not None for part in (self.seed, self.latents, self.images)) != 1:
            raise ValueError("give one of seed, latents and images")
        return self


class SampleRequest(Asked):
    """Samples start to start + n of a seed."""

    model: str | None = MODEL
    n: int = Field(1, ge=1)
    seed: Seed = 0
    start: int = Field(0, ge=0, lt=2**53)
    arrays: Arrays = "none"


class GenerateRequest(Asked):
    """Latents (n z) to images."""

    model: str | None = MODEL
    latents: Numbers


class EmbedRequest(Asked):
    """Images, or texts, to unit features (n d)."""

    model: str | None = MODEL
    images: Images | None = None
    texts: Texts | None = None
    arrays: Literal["json", "npy"] = "json"

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.images is None) == (self.texts is None):
            raise ValueError("give images or texts, one of them")
        return self


class InvertRequest(Asked):
    """Features (n d), or images, to latents (n z) and what they generate."""

    model: str | None = MODEL
    features: Numbers | None = None
    images: Images | None = None
    arrays: Arrays = "json"

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.features is None) == (self.images is None):
            raise ValueError("give features or images, one of them")
        return self


class Moved(Asked):
    """What an edit and a sweep share: an expression, or a source and a direction."""

    model: str | None = MODEL
    expression: str | None = Field(None, description="seed(7) + text('bold') - text('thin')")
    source: Sources | None = None
    direction: str | Numbers | None = Field(None, description="an expression, or (d) numbers")
    hold: list[str] = Field(
        [], max_length=32, fail_fast=True, description="measured attributes to be left alone"
    )
    residual: bool = False
    corrections: int | None = Field(None, ge=0)
    refine: int = Field(0, ge=0)
    images: dict[Named, Base64] = Field(
        {},
        max_length=MOST,
        description="files that the expression names, as in image('a.png'), mean('new/*')",
    )
    arrays: Arrays = "none"
    pixels: Shown = "png"

    @model_validator(mode="after")
    def _one(self) -> Self:
        pair = (self.source is not None, self.direction is not None)
        if (self.expression is not None) == all(pair) or any(pair) != all(pair):
            raise ValueError("give an expression, or a source and a direction")
        return self


class EditRequest(Moved):
    """One edit of each source; `answers` above 1 gives so many of one, best first."""

    amount: Amount = 1.0
    answers: int = Field(1, ge=1)


class SweepRequest(Moved):
    """The same edit of one source at several amounts."""

    amounts: list[Amount] = Field(
        [0.25, 0.5, 0.75, 1.0], min_length=1, max_length=MOST, fail_fast=True
    )


class NearestRequest(Asked):
    """Items of the bank whose features are nearest to a picture's."""

    model: str | None = MODEL
    expression: str
    n: int = Field(12, ge=1)
    among: int = Field(
        500,
        ge=1,
        description="the bank's first so many; drawn and embedded as they are first asked for",
    )
    images: dict[Named, Base64] = Field({}, max_length=MOST)


class DirectionRequest(Asked):
    """A direction: of an expression, an attribute, two texts, two groups, or a number an image.

    With a name it is kept; the one that had this name before is then gone.
    """

    model: str | None = MODEL
    name: str | None = Field(None, pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    expression: str | None = None
    attribute: str | None = Field(None, description="measured; one sigma of it")
    text: Texts | None = None
    neutral: Texts | None = None
    more: Images | None = None
    less: Images | None = None
    values: list[float] | None = Field(
        None,
        min_length=1,
        max_length=MOST,
        fail_fast=True,
        description="what was measured on each image of `of`",
    )
    of: Images | None = None
    hold: list[str] = Field([], max_length=32, fail_fast=True)
    images: dict[Named, Base64] = Field({}, max_length=MOST)
    arrays: Arrays = "none"

    @model_validator(mode="after")
    def _one(self) -> Self:
        alone = ("expression", "attribute")
        given = {
            name
            for name in (*alone, "text", "neutral", "more", "less", "values", "of")
            if getattr(self, name) is not None
        }
        pairs = ({"text", "neutral"}, {"more", "less"}, {"values", "of"})
        if given not in (*({name} for name in alone), *pairs):
            raise ValueError(
                "give an expression, or text and neutral, or more and less, or an attribute, or "
                "values and of"
            )
        return self


class Health(BaseModel):
    """Whether it works, and how much waits."""

    status: Literal["ok"] = "ok"
    version: str
    models: list[str]
    waiting: int


class SpaceOut(BaseModel):
    """A model's feature space."""

    kind: str
    size: int = Field(description="d")
    fingerprint: str
    text: bool = Field(description="whether it reads text")


class ModelOut(BaseModel):
    """What there is to know of a model before anything is asked of it."""

    name: str
    about: str
    weights: str = Field(description="fingerprint of all that a picture depends on")
    image_shape: tuple[int, int, int] = Field(description="c h w")
    latent_size: int = Field(description="z")
    space: SpaceOut
    map: str
    bank: int | None = Field(description="items that can be drawn again and searched")
    attributes: list[str] = Field(description="measured, and can be held")
    axes: list[str] = Field(description="families of axes that need no label")
    directions: list[str] = Field(description="kept here, for direction('NAME') in an expression")
    reachability: bool = Field(description="whether answers say how far they can be believed")


class ModelCard(ModelOut):
    """The same with the model's card in Markdown."""

    card: str


class ImagesOut(BaseModel):
    """PNG files as base64, with the latents (n z) and features (n d) where asked for."""

    model: str
    images: list[str]
    latents: Any = None
    features: Any = None


class FeaturesOut(BaseModel):
    """Unit features (n d)."""

    model: str
    features: Any


class Measurement(BaseModel):
    """One attribute of one picture, in its own unit and as a change in sigmas of the bank."""

    before: float
    after: float
    sigmas: float
    held: bool


class Picture(BaseModel):
    """One answer: what came out, how near it is to what was asked, and how to draw it again."""

    image: str = Field(description="base64 of a PNG; that of an expression carries the recipe")
    amount: float | None
    agreement: float = Field(description="cosine of the features asked for and obtained, -1..1")
    progress: float | None = Field(description="the same of the changes")
    reachability: float | None = Field(None, description="0..1; null where the map has none")
    warning: str = ""
    measured: dict[str, Measurement] = {}
    recipe: dict[str, Any] | None = Field(None, description="null where arrays were given")


class Answer(BaseModel):
    """Sources and what came of them. Rows of arrays are in the order of `pictures`."""

    model: str
    expression: str | None
    start: str | None = Field(description="where the picture starts, in words")
    share: float | None = Field(description="of the change, that the bank's images span; 0..1")
    sources: list[str] = Field(description="base64 of PNG files; none beside source_pixels")
    pictures: list[Picture]
    latents: Any = None
    asked: Any = None
    obtained: Any = None
    pixels: Any = None
    source_pixels: Any = None
    source_latents: Any = None
    source_features: Any = None


class Neighbour(BaseModel):
    """An item of the bank; `bank(ITEM)` names it in an expression."""

    item: int
    cosine: float
    image: str


class Neighbours(BaseModel):
    """The nearest first."""

    model: str
    neighbours: list[Neighbour]


class DirectionOut(BaseModel):
    """A direction; where it is kept, an expression calls it `direction("FILE")`."""

    model: str
    file: str | None
    replaced: bool = Field(False, description="whether another one of this name is gone by it")
    made_by: str
    share: float = Field(description="that the bank's images span, 0..1")
    direction: Any = None


class Problem(BaseModel):
    """RFC 9457: what went wrong, in one line that says the way out."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str = Field(description="the request's id, as in the log")
