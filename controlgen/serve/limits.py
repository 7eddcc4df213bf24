"""What one request may ask, and how many may wait."""

from pydantic import Field

from controlgen.base_config import BaseConfig


class Limits(BaseConfig):
    """Bounds that hold for every request; beyond one the answer is 4xx and says which."""

    body_bytes: int = Field(32_000_000, ge=1_000, description="of a whole request")
    bodies_bytes: int = Field(
        128_000_000, ge=1_000, description="of all requests that arrive, wait or are at work"
    )
    json_values: int = Field(
        300_000, ge=1_000, description="numbers, texts and lists of one request, about"
    )
    image_bytes: int = Field(8_000_000, ge=100, description="of one image, as a file")
    image_pixels: int = Field(16_000_000, ge=1, description="of one image, before it is decoded")
    pixels: int = Field(
        64_000_000, ge=1, description="of all images of a request, before they are decoded"
    )
    images: int = Field(256, ge=1, description="in one request")
    rows: int = Field(64, ge=1, description="samples, latents, features or sources in one request")
    amounts: int = Field(16, ge=1, description="steps of one sweep")
    answers: int = Field(32, ge=1, le=32)
    refine: int = Field(50, ge=0, description="steps of descent of each picture")
    corrections: int = Field(8, ge=0)
    expression: int = Field(4_000, ge=10, description="characters")
    among: int = Field(20_000, ge=1, description="items of the bank that are searched")
    directions: int = Field(256, ge=1, description="kept for each model; the oldest goes first")
    waiting: int = Field(64, ge=1, description="requests, with the one at work")
    seconds: float = Field(30.0, gt=0, description="from arrival to answer")
