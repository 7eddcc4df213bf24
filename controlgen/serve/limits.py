"""Limits of a request and of the queue."""

from pydantic import Field

from controlgen.base_config import BaseConfig


class Limits(BaseConfig):
    """Limits that hold for every request; a request beyond one gets a 4xx that names it."""

    body_bytes: int = Field(32_000_000, ge=1_000, description="of a whole request")
    bodies_bytes: int = Field(
        128_000_000, ge=1_000, description="of all requests that arrive, wait or run"
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
    refine: int = Field(50, ge=0, description="gradient steps of each image")
    corrections: int = Field(8, ge=0)
    expression: int = Field(4_000, ge=10, description="characters")
    among: int = Field(20_000, ge=1, description="bank items that are searched")
    directions: int = Field(
        256, ge=1, description="saved directions of each model; the oldest is dropped first"
    )
    waiting: int = Field(64, ge=1, description="requests, including the one that runs")
    seconds: float = Field(30.0, gt=0, description="from arrival to response")
