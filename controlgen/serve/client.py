"""Client of the HTTP API, with the methods and results of Editor."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import numpy as np

from controlgen.editing.apply import EditSettings, validate_amount
from controlgen.editing.directions.regression import ValuesLike, validate_values
from controlgen.editing.edit import Samples
from controlgen.errors import ConfigError, DataError, Incompatible
from controlgen.serve.auth import token_bytes
from controlgen.serve.http_pool import ConnectionPool
from controlgen.serve.remote_edit import RemoteEdit, decode_edit
from controlgen.serve.serialization import (
    decode_images,
    decode_json_array,
    encode_images,
    encode_json_array,
    to_base64,
)
from controlgen.types import Direction, Features, Latents, Pixels, Shape

MODEL_FIELDS = {"name", "image_shape", "latent_size"}  # that a description of a model must have


class Client:
    """Client of `controlgen serve`; its results and arrays equal those of an Editor bit for bit.

    Threads may share a client. Every method raises as the Editor's method of the same name, with
    RequestRejected for what the server rejects.

    Args:
        url: Address of the server.
        model: Name of a model; optional if only one is served.
        token: The server's token, if it has one.
        patience: Seconds for which requests to a busy server are repeated.
        timeout: Seconds without any data from the server after which a request fails.

    Raises:
        RequestRejected: The server rejects the request; the message is the server's.
        ConfigError: The address or the token is invalid, or `model` must be given.
        DataError: No `controlgen serve` responds at the address.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        model: str | None = None,
        token: str = "",
        patience: float = 60.0,
        timeout: float = 60.0,
    ) -> None:
        self.url, self.model = url, model
        if not token.strip().isprintable():
            raise ConfigError("token: has characters that are not allowed in an HTTP header")
        # latin-1 maps each byte to a character; the token itself may have any characters.
        bearer = f"Bearer {token_bytes(token).decode('latin-1')}"
        headers = {"Authorization": bearer} if token.strip() else {}
        headers["Content-Type"] = "application/json"
        self._pool = ConnectionPool(url, headers, timeout, patience)
        about = self._describe_model()
        self.model = about["name"]
        self.image_shape: Shape = tuple(about["image_shape"])
        self.latent_size: int = about["latent_size"]
        self.about: Mapping[str, Any] = about

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Samples:
        """Samples start..start+n of a seed; see `Editor.sample`.

        Returns:
            Latents (n z) and Pixels (n c h w).
        """
        body = self._post("sample", n=n, seed=seed, start=start, arrays="npy")
        return Samples(
            decode_json_array(body["latents"]),
            decode_images(body["images"]),
        )

    def generate(self, latents: Latents) -> Pixels:
        """Generate images from latents.

        Args:
            latents: Latents (n z).

        Returns:
            Pixels (n c h w).
        """
        return decode_images(self._post("generate", latents=encode_json_array(latents))["images"])

    def embed(self, pixels: Pixels) -> Features:
        """Embed images.

        Args:
            pixels: Pixels (n c h w), uint8.

        Returns:
            Features (n d), rows of unit length.
        """
        body = self._post("embed", images=_encode_pngs(pixels), arrays="npy")
        return decode_json_array(body["features"])

    def embed_text(self, text: str | Sequence[str]) -> Direction:
        """Embed one or more texts.

        Args:
            text: A text, or several.

        Returns:
            Their unit mean feature (d).
        """
        texts = [text] if isinstance(text, str) else list(text)
        features = decode_json_array(self._post("embed", texts=texts, arrays="npy")["features"])
        return np.asarray(features[0])

    def invert(self, features: Features) -> Latents:
        """Map features to latents.

        Args:
            features: Features (n d).

        Returns:
            Latents (n z).
        """
        body = self._post("invert", features=encode_json_array(features), arrays="npy")
        return decode_json_array(body["latents"])

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
        name: str | None = None,
    ) -> Direction:
        """Make a direction (d) in feature space; see `Editor.direction`. Give exactly one kind.

        Args:
            text: Texts that describe the goal, with `neutral`.
            neutral: Texts that describe the start.
            more: Images (n c h w) of the goal, with `less`.
            less: Images (n c h w) of the start.
            attribute: Name of a measured attribute.
            values: One number for each image, with `of`.
            of: The images (n c h w) that the values belong to.
            hold: Attributes that the linear model must leave constant.
            name: Save the direction on the server, where direction("NAME.safetensors") names it in
                expressions. It replaces the previous one of this name.
        """
        body: dict[str, Any] = {}
        if attribute is not None:
            body["attribute"] = attribute
        for field_name, texts in (("text", text), ("neutral", neutral)):
            if texts is not None:
                body[field_name] = [texts] if isinstance(texts, str) else list(texts)
        if values is not None and of is not None:
            validate_values(values, of)  # here, because JSON cannot express NaN or inf
            body |= {"values": np.asarray(values, np.float64).tolist(), "of": _encode_pngs(of)}
        elif values is not None or of is not None:
            raise ConfigError("direction: values= and of= go together")
        for field_name, pixels in (("more", more), ("less", less)):
            if pixels is not None:
                body[field_name] = _encode_pngs(pixels)
        response = self._post("directions", **body, hold=_names(hold), name=name, arrays="npy")
        return decode_json_array(response["direction"])

    def direction_from_expression(
        self, expression: str, hold: str | Sequence[str] = ()
    ) -> Direction:
        """Make a direction from an expression; see `Editor.direction_from_expression`.

        Args:
            expression: It may name texts, seeds, bank items and directions saved on the server.
            hold: Attributes that the linear model must leave constant.

        Returns:
            The direction (d).
        """
        body = self._post("directions", expression=expression, hold=_names(hold), arrays="npy")
        return decode_json_array(body["direction"])

    parse = direction_from_expression
    """The same as `direction_from_expression`."""

    def edit(
        self,
        source: Latents | Pixels | Samples,
        direction: Direction,
        amount: float = 1.0,
        residual: bool = False,
        hold: str | Sequence[str] = (),
        corrections: int | None = None,
        refine: int = 0,
    ) -> RemoteEdit:
        """Edit sources along a direction; see `Editor.edit`.

        Args:
            source: Latents (n z), Pixels (n c h w) of real images, or Samples.
            direction: The change (d) of features.
            amount: Multiple of the direction.
            residual: Preserve more of a generated source.
            hold: Attributes to keep constant.
            corrections: Feedback iterations.
            refine: Gradient steps on the latents towards the target.
        """
        if isinstance(source, Samples):
            source = source.latents
        settings = EditSettings(amount, residual, tuple(_names(hold)), corrections, refine)
        sources = (
            {"latents": encode_json_array(source)}
            if source.ndim == 2
            else {"images": _encode_pngs(source)}
        )
        return self._edit(settings, source=sources, direction=encode_json_array(direction))

    def apply(
        self,
        expression: str,
        amount: float = 1.0,
        residual: bool = False,
        corrections: int | None = None,
        refine: int = 0,
        images: Mapping[str, bytes | Path] | None = None,
    ) -> RemoteEdit:
        """Edit as an expression says; see `Editor.apply`.

        Args:
            expression: An expression that denotes an image.
            amount: Multiple of the direction.
            residual: Preserve more of a generated source.
            corrections: Feedback iterations.
            refine: Gradient steps on the latents towards the target.
            images: Files by the names that the expression uses.
        """
        settings = EditSettings(amount, residual, (), corrections, refine)
        return self._edit(settings, expression=expression, images=_encode_files(images))

    answer = apply
    """The same as `apply`."""

    def sweep(
        self,
        expression: str,
        amounts: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        residual: bool = False,
        corrections: int | None = None,
        refine: int = 0,
        images: Mapping[str, bytes | Path] | None = None,
    ) -> list[RemoteEdit]:
        """Apply an expression at several amounts in one request.

        Args:
            expression: An expression that denotes an image.
            amounts: Multiples of the direction.
            residual: Preserve more of a generated source.
            corrections: Feedback iterations.
            refine: Gradient steps on the latents towards the target.
            images: Files by the names that the expression uses.

        Returns:
            The result of `apply` for each amount.
        """
        for amount in amounts:
            validate_amount(amount)
        response = self._post(
            "sweep",
            expression=expression,
            amounts=list(amounts),
            residual=residual,
            corrections=corrections,
            refine=refine,
            images=_encode_files(images),
            arrays="npy",
            pixels="npy",
        )
        edit = decode_edit(response)
        arrays = ("pixels", "latents", "target_features", "features")
        return [
            replace(
                edit,
                response={**response, "pictures": [picture]},
                **{name: getattr(edit, name)[row : row + 1] for name in arrays},
            )
            for row, picture in enumerate(response["pictures"])
        ]

    def nearest(
        self, expression: str, n: int = 12, among: int = 500
    ) -> list[tuple[int, float, Pixels]]:
        """Search the bank for the items nearest to an expression.

        Args:
            expression: An expression that denotes an image.
            n: Number of items.
            among: Search the first items of the bank; the server generates and embeds them when
                they are first needed.

        Returns:
            Index, cosine and Pixels (1 c h w) of each item, nearest first.
        """
        body = self._post("nearest", expression=expression, n=n, among=among)
        return [
            (
                neighbour["item"],
                neighbour["cosine"],
                decode_images([neighbour["image"]]),
            )
            for neighbour in body["neighbours"]
        ]

    def direction_file(self, name: str) -> bytes:
        """Download a saved direction.

        Args:
            name: Its name, without the suffix.

        Returns:
            The content of a direction file, which the commands of `controlgen` read.
        """
        path = f"{self._model_path}/directions/{quote(name, safe='')}.safetensors"
        return self._pool.send("GET", path)

    def _edit(self, settings: EditSettings, **body: Any) -> RemoteEdit:
        response = self._post("edit", **body, **asdict(settings), arrays="npy", pixels="npy")
        return decode_edit(response)

    @property
    def _model_path(self) -> str:
        return f"/v1/models/{quote(self.model or '', safe='')}"

    def _describe_model(self) -> dict[str, Any]:
        path = "/v1/models" if self.model is None else self._model_path
        body = self._parse_json(self._pool.send("GET", path))
        models: list[dict[str, Any]] = body if isinstance(body, list) else [body]
        # Other servers may respond at this path as well.
        if not all(isinstance(model, dict) and model.keys() >= MODEL_FIELDS for model in models):
            raise self._foreign_server()
        if len(models) != 1:
            names = ", ".join(model["name"] for model in models)
            raise ConfigError(f"{self.url}: serves {names}; choose one with model=...")
        return models[0]

    def _post(self, path: str, **body: Any) -> dict[str, Any]:
        content = json.dumps({"model": self.model, **body}).encode()
        response: dict[str, Any] = self._parse_json(self._pool.send("POST", f"/v1/{path}", content))
        return response

    def _parse_json(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError:
            raise self._foreign_server() from None

    def _foreign_server(self) -> DataError:
        return DataError(
            f"{self.url}: the server is no `controlgen serve`; give the address that it printed"
        )


def _names(hold: str | Sequence[str]) -> list[str]:
    return [hold] if isinstance(hold, str) and hold else list(hold)


def _encode_pngs(pixels: Pixels) -> list[str]:
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or pixels.shape[1] not in (1, 3):
        raise Incompatible("pixels must be uint8 0..255 of shape (n, c, h, w)")
    return encode_images(pixels)


def _encode_files(images: Mapping[str, bytes | Path] | None) -> dict[str, str]:
    return {
        name: to_base64(source.read_bytes() if isinstance(source, Path) else source)
        for name, source in (images or {}).items()
    }
