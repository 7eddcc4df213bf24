"""A small client of the HTTP API, with the names and answers of Editor."""

import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from controlgen.editing.directions.regression import Given, checked
from controlgen.editing.edit import Edit, Measured, Samples
from controlgen.errors import ConfigError, ControlGenError, DataError, Incompatible
from controlgen.serve import serialization
from controlgen.serve.auth import bare
from controlgen.serve.http_pool import Connections, Said
from controlgen.types import Direction, Features, Latents, Pixels, Shape

NEEDED = {"name", "image_shape", "latent_size"}  # of what is told about a model
AGAIN = (429, 503)  # answers after which the same request may be sent again


class Refused(ControlGenError):
    """The server said no; `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answered(Edit):
    """An Edit made elsewhere: what was measured there is told, not measured again."""

    told: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """What the picture was made from; None for an edit of arrays."""
        recipe: Mapping[str, Any] | None = self.told["pictures"][0]["recipe"]
        return recipe

    @property
    def png(self) -> bytes:
        """The first picture as a PNG file, which carries its recipe."""
        return serialization.from_base64(self.told["pictures"][0]["image"], "picture")

    @property
    def reachability(self) -> NDArray[np.float32] | None:
        """See Edit."""
        values = [one["reachability"] for one in self.told["pictures"]]
        return None if None in values else np.asarray(values, np.float32)

    @property
    def warnings(self) -> tuple[str, ...]:
        """See Edit."""
        return tuple(one["warning"] for one in self.told["pictures"])

    @property
    def attributes(self) -> Measured | None:
        """See Edit."""
        rows = [one["measured"] for one in self.told["pictures"]]
        if not rows[0]:
            return None
        before, after = (
            np.array([[row[name][side] for name in rows[0]] for row in rows])
            for side in ("before", "after")
        )
        return Measured(tuple(rows[0]), before, after)


class Client:
    """Speaks to `controlgen serve`. Answers and arrays are those of an Editor, bit for bit.

    `patience` seconds is how long a busy server is asked again, `timeout` how long nothing may
    come of it. Threads may share a client. Raises Refused with the server's own line, ConfigError
    for what is no address or no token, DataError where nobody answers.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        model: str | None = None,
        token: str = "",
        patience: float = 60.0,
        timeout: float = 60.0,
    ) -> None:
        self.url, self.model, self.patience = url, model, patience
        if not token.strip().isprintable():
            raise ConfigError("token: has signs that no header can hold; give it as it was set")
        # Each byte as a letter, for a token may have letters that headers know nothing of.
        bearer = f"Bearer {bare(token).decode('latin-1')}"
        headers = {"Authorization": bearer} if token.strip() else {}
        headers["Content-Type"] = "application/json"
        self._server = Connections(url, headers, timeout)
        about = self._described()
        self.model = about["name"]
        self.image_shape: Shape = tuple(about["image_shape"])
        self.latent_size: int = about["latent_size"]
        self.about: Mapping[str, Any] = about

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the connections go."""
        self._server.close()

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Samples:
        """See Editor.sample."""
        told = self._post("sample", n=n, seed=seed, start=start, arrays="npy")
        return Samples(_array(told["latents"]), _pixels(told["images"]))

    def generate(self, latents: Latents) -> Pixels:
        """See Editor.generate."""
        return _pixels(self._post("generate", latents=_npy(latents))["images"])

    def embed(self, pixels: Pixels) -> Features:
        """See Editor.embed."""
        return _array(self._post("embed", images=_pngs(pixels), arrays="npy")["features"])

    def embed_text(self, text: str | Sequence[str]) -> Direction:
        """See Editor.embed_text."""
        texts = [text] if isinstance(text, str) else list(text)
        features = _array(self._post("embed", texts=texts, arrays="npy")["features"])
        return np.asarray(features[0])

    def invert(self, features: Features) -> Latents:
        """See Editor.invert."""
        return _array(self._post("invert", features=_npy(features), arrays="npy")["latents"])

    def direction(
        self,
        *,
        text: str | Sequence[str] | None = None,
        neutral: str | Sequence[str] | None = None,
        more: Pixels | None = None,
        less: Pixels | None = None,
        attribute: str | None = None,
        values: Given | None = None,
        of: Pixels | None = None,
        hold: str | Sequence[str] = (),
        name: str | None = None,
    ) -> Direction:
        """See Editor.direction; one with a `name` is kept there, for direction("NAME.safetensors").

        One of the same name that was kept there is then gone. Only `attribute` may be given alone.
        """
        asked: dict[str, Any] = {}
        if attribute is not None:
            asked["attribute"] = attribute
        for side, words in (("text", text), ("neutral", neutral)):
            if words is not None:
                asked[side] = [words] if isinstance(words, str) else list(words)
        if values is not None and of is not None:
            # What is no number is refused here, for JSON has no word for it.
            checked(values, of)
            asked |= {"values": np.asarray(values, np.float64).tolist(), "of": _pngs(of)}
        elif values is not None or of is not None:
            raise ConfigError("direction: values= and of= go together")
        for side, pixels in (("more", more), ("less", less)):
            if pixels is not None:
                asked[side] = _pngs(pixels)
        told = self._post("directions", **asked, hold=_names(hold), name=name, arrays="npy")
        return _array(told["direction"])

    def parse(self, expression: str, hold: str | Sequence[str] = ()) -> Direction:
        """See Editor.parse; only texts, seeds and what the server keeps can be in it."""
        told = self._post("directions", expression=expression, hold=_names(hold), arrays="npy")
        return _array(told["direction"])

    def edit(
        self,
        source: Latents | Pixels | Samples,
        direction: Direction,
        amount: float = 1.0,
        residual: bool = False,
        hold: str | Sequence[str] = (),
        corrections: int | None = None,
        refine: int = 0,
    ) -> Answered:
        """See Editor.edit."""
        if isinstance(source, Samples):
            source = source.latents
        given = {"latents": _npy(source)} if source.ndim == 2 else {"images": _pngs(source)}
        return self._moved(
            source=given,
            direction=_npy(direction),
            amount=amount,
            residual=residual,
            hold=_names(hold),
            corrections=corrections,
            refine=refine,
        )

    def answer(
        self,
        query: str,
        amount: float = 1.0,
        residual: bool = False,
        corrections: int | None = None,
        refine: int = 0,
        images: Mapping[str, bytes | Path] | None = None,
    ) -> Answered:
        """See Editor.answer. `images` are files by the names that the expression calls them."""
        return self._moved(
            expression=query,
            amount=amount,
            residual=residual,
            corrections=corrections,
            refine=refine,
            images=_files(images or {}),
        )

    def sweep(
        self,
        query: str,
        amounts: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        residual: bool = False,
        corrections: int | None = None,
        refine: int = 0,
        images: Mapping[str, bytes | Path] | None = None,
    ) -> list[Answered]:
        """One `answer` for each amount, in one request."""
        for amount in amounts:
            _check(amount=amount)
        told = self._post(
            "sweep",
            expression=query,
            amounts=list(amounts),
            residual=residual,
            corrections=corrections,
            refine=refine,
            images=_files(images or {}),
            arrays="npy",
            pixels="npy",
        )
        whole = _answered(told)
        rows = {name: getattr(whole, name) for name in ("pixels", "latents", "asked", "obtained")}
        return [
            replace(
                whole,
                told={**told, "pictures": [told["pictures"][at]]},
                **{name: row[at : at + 1] for name, row in rows.items()},
            )
            for at in range(len(amounts))
        ]

    def nearest(self, query: str, n: int = 12, among: int = 500) -> list[tuple[int, float, Pixels]]:
        """Items of the bank by likeness: index, cosine and Pixels (1 c h w), the nearest first.

        Of the bank's first `among`; the server draws and embeds those as they are first asked for.
        """
        told = self._post("nearest", expression=query, n=n, among=among)["neighbours"]
        return [(one["item"], one["cosine"], _pixels([one["image"]])) for one in told]

    def direction_file(self, name: str) -> bytes:
        """A kept direction as a file, for `controlgen edit` and others."""
        return self._send("GET", f"{self._about}/directions/{quote(name, safe='')}.safetensors")

    def _moved(self, **asked: Any) -> Answered:
        _check(amount=asked["amount"])
        return _answered(self._post("edit", **asked, arrays="npy", pixels="npy"))

    @property
    def _about(self) -> str:
        return f"/v1/models/{quote(self.model or '', safe='')}"

    def _described(self) -> dict[str, Any]:
        path = "/v1/models" if self.model is None else self._about
        told = self._read(self._send("GET", path))
        served: list[dict[str, Any]] = told if isinstance(told, list) else [told]
        # Others answer at this path as well.
        if not all(isinstance(one, dict) and one.keys() >= NEEDED for one in served):
            raise self._another()
        if len(served) != 1:
            names = ", ".join(one["name"] for one in served)
            raise ConfigError(f"{self.url}: serves {names}; say which, model=...")
        return served[0]

    def _post(self, path: str, **asked: Any) -> dict[str, Any]:
        body = json.dumps({"model": self.model, **asked}).encode()
        told: dict[str, Any] = self._read(self._send("POST", f"/v1/{path}", body))
        return told

    def _read(self, content: bytes) -> Any:
        try:
            return json.loads(content)
        except ValueError:
            raise self._another() from None

    def _another(self) -> DataError:
        return DataError(
            f"{self.url}: what answers there is no `controlgen serve`; give the address it printed"
        )

    def _send(self, method: str, path: str, body: bytes | None = None) -> bytes:
        end = time.monotonic() + self.patience
        while True:
            answer = self._server.request(method, path, body)
            if 200 <= answer.status < 300:
                return answer.content
            wait = _wait(answer)
            if answer.status not in AGAIN or time.monotonic() + wait > end:
                break
            time.sleep(wait)
        try:
            said = json.loads(answer.content)["detail"]
        except (ValueError, KeyError, TypeError):
            said = f"answered {answer.status}"
        raise Refused(f"{self.url}: {said}", answer.status)


def _wait(answer: Said) -> float:
    # Seconds until it may be asked again; what stands before a server may say them as a date.
    told = answer.headers.get("Retry-After", "")
    try:
        if told.isdecimal():
            return float(told) or 1.0
        left = (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 1.0
    return max(left, 1.0)


def _answered(told: Mapping[str, Any]) -> Answered:
    return Answered(
        pixels=_plain(told["pixels"]),
        latents=_array(told["latents"]),
        asked=_array(told["asked"]),
        obtained=_array(told["obtained"]),
        source_pixels=_plain(told["source_pixels"]),
        source_latents=_array(told["source_latents"]),
        source_features=_array(told["source_features"]),
        told=told,
    )


def _check(**numbers: float | None) -> None:
    # JSON has no others; said as an Editor says it.
    for name, value in numbers.items():
        if value is not None and not np.isfinite(value):
            raise ConfigError(f"{name} {value}: must be a finite number")


def _names(hold: str | Sequence[str]) -> list[str]:
    return [hold] if isinstance(hold, str) and hold else list(hold)


def _npy(array: NDArray[np.float32]) -> dict[str, str]:
    return {"npy": serialization.to_base64(serialization.npy(np.asarray(array, np.float32)))}


def _array(told: Mapping[str, str]) -> NDArray[np.float32]:
    return serialization.from_npy(serialization.from_base64(told["npy"], "answer"), "answer")


def _plain(told: Mapping[str, str]) -> Pixels:
    # Pixels as they are: no file is decoded.
    return serialization.array_of(serialization.from_base64(told["npy"], "answer"), "answer")


def _pngs(pixels: Pixels) -> list[str]:
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or pixels.shape[1] not in (1, 3):
        raise Incompatible("pixels must be uint8 0..255 of shape (n, c, h, w)")
    return [serialization.to_base64(serialization.png(one[None])) for one in pixels]


def _pixels(images: Sequence[str]) -> Pixels:
    planes = []
    for text in images:
        content = serialization.from_base64(text, "answer")
        with Image.open(io.BytesIO(content), formats=["PNG"]) as opened:
            plane = np.asarray(opened, np.uint8)
        planes.append(plane[None] if plane.ndim == 2 else plane.transpose(2, 0, 1))
    return np.stack(planes)


def _files(images: Mapping[str, bytes | Path]) -> dict[str, str]:
    contents = {
        name: one.read_bytes() if isinstance(one, Path) else one for name, one in images.items()
    }
    return {name: serialization.to_base64(content) for name, content in contents.items()}
