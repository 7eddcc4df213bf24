"""CLIP spaces through open_clip: the shipped clip-mini, a folder, a hub repository, or ARCH/TAG.

CLIP: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision".
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from controlgen.base_config import BaseConfig, runtime_field
from controlgen.errors import ArtifactCorrupt, ArtifactMissing, ConfigError, ControlGenError
from controlgen.features._torchvision import ensure_torchvision
from controlgen.features.base import TorchSpace
from controlgen.features.preprocessing import Preprocessing, unit_rows
from controlgen.types import Features

CONFIG = "open_clip_config.json"
HUB = "hf-hub:"
TEXTS_AT_ONCE = 256


class OpenClipSpace(TorchSpace):
    """An image encoder and a text encoder that share one unit sphere."""

    def __init__(
        self,
        network: Any,
        tokenizer: Callable[[list[str]], torch.Tensor],
        preprocessing: Preprocessing,
    ) -> None:
        self.tokenizer = tokenizer
        self.encode_text: Callable[[torch.Tensor], torch.Tensor] = network.encode_text
        super().__init__(network, network.encode_image, preprocessing)

    def embed_text(self, texts: list[str]) -> Features:
        """Texts -> Features (n d). Raises ConfigError for an empty list or a blank text."""
        if not texts or not all(text.strip() for text in texts):
            raise ConfigError("text: empty or blank; describe the image in a few words")
        device = next(self.network.parameters()).device
        rows = []
        with torch.no_grad():
            for first in range(0, len(texts), TEXTS_AT_ONCE):
                tokens = self.tokenizer(list(texts[first : first + TEXTS_AT_ONCE])).to(device)
                rows.append(unit_rows(self.encode_text(tokens)).cpu().numpy())
        return np.concatenate(rows)


class OpenClipConfig(BaseConfig):
    """A CLIP model.

    `model` is the name of a folder under a pretrained directory ("clip-mini"), a path to a folder
    with an open_clip_config.json, "hf-hub:org/name", or "ARCH/TAG" as open_clip lists them. The
    last two download their weights on first use. Weights are read from safetensors only.
    """

    kind: Literal["open_clip"] = "open_clip"
    model: str = "clip-mini"
    cache: Path | None = runtime_field(None)

    @property
    def name(self) -> str:
        """The name of metrics in this space: ARCH-TAG, org-name, or the folder's."""
        if self.model.startswith(HUB):
            return self.model.removeprefix(HUB).replace("/", "-")
        folder = (Path(self.model) / CONFIG).is_file() or self.model.count("/") != 1
        return Path(self.model).name if folder else self.model.replace("/", "-")

    def open(self, search: Sequence[Path] = ()) -> OpenClipSpace:
        """Load the model; a plain name is looked up in `search` first, then in
        artifacts/pretrained.

        Raises ArtifactMissing if there is no such folder or weights file, ArtifactCorrupt if the
        weights do not match their config, ConfigError for an unknown tag or a failed download.
        """
        source = self._source(search)
        ensure_torchvision()
        import open_clip
        from open_clip.factory import load_checkpoint

        # Weights are loaded separately from the model, so that only safetensors are ever opened.
        try:
            with _quiet():
                network: Any = open_clip.create_model(
                    source.architecture,
                    load_weights=False,
                    pretrained_image=False,
                    pretrained_text=False,
                    force_quick_gelu=source.quick_gelu,
                    force_preprocess_cfg=source.preprocess,
                    cache_dir=self._cache_dir(),
                )
                load_checkpoint(network, str(source.weights))
                tokenizer = open_clip.get_tokenizer(
                    source.architecture, cache_dir=self._cache_dir()
                )
        except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
            raise ArtifactCorrupt(
                f"{self.model}: its weights do not fit its config ({_first_line(error)}); "
                "fetch or train the model again"
            ) from None
        return OpenClipSpace(network, tokenizer, _preprocessing(network.visual.preprocess_cfg))

    def _source(self, search: Sequence[Path]) -> "_Source":
        if self.model.startswith(HUB):
            return self._from_hub(self.model.removeprefix(HUB))
        folder = self._folder(search)
        if folder is not None:
            return _Source(f"local-dir:{folder}", _safetensors_in(folder))
        if self.model.count("/") == 1 and not self.model.startswith((".", "/")):
            return self._from_tag(*self.model.split("/"))
        raise ArtifactMissing(
            f"features.model {self.model}: no folder of that name with an {CONFIG}; "
            f"train it with the clip flow, or name a folder, {HUB}org/name or ARCH/TAG"
        )

    def _folder(self, search: Sequence[Path]) -> Path | None:
        path = Path(self.model)
        places = [path]
        if len(path.parts) == 1:
            package = Path(__file__).resolve().parents[2]
            homes = [*search, Path("artifacts/pretrained"), package / "artifacts" / "pretrained"]
            places = [home / path for home in homes] + places
        return next((place for place in places if (place / CONFIG).is_file()), None)

    def _from_hub(self, repository: str) -> "_Source":
        ensure_torchvision()
        from open_clip.pretrained import download_pretrained_from_hf

        with _one_line(self.model):
            download_pretrained_from_hf(repository, CONFIG, cache_dir=self._cache_dir())
            weights = download_pretrained_from_hf(repository, cache_dir=self._cache_dir())
        return _Source(self.model, _only_safetensors(self.model, weights))

    def _from_tag(self, architecture: str, tag: str) -> "_Source":
        ensure_torchvision()
        import open_clip
        from open_clip.pretrained import download_pretrained, get_pretrained_cfg

        # Unknown names, and addresses of pickles, are refused before any download.
        tagged = get_pretrained_cfg(architecture, tag)
        if architecture not in open_clip.list_models() or not tagged:
            raise ConfigError(
                f"features.model {self.model}: neither a folder nor a model of open_clip; "
                "open_clip.list_pretrained() lists ARCH and TAG"
            )
        if not tagged.get("hf_hub"):
            raise ConfigError(
                f"features.model {self.model}: published as a pickle only, which is never opened; "
                "choose a tag with safetensors"
            )
        with _one_line(self.model):
            weights = download_pretrained(tagged, cache_dir=self._cache_dir())
        quick_gelu = bool(tagged.get("quick_gelu", False))
        weights_path = _only_safetensors(self.model, weights)
        return _Source(architecture, weights_path, quick_gelu, dict(tagged))

    def _cache_dir(self) -> str | None:
        return str(self.cache) if self.cache else None


class _Source(NamedTuple):
    architecture: str  # as open_clip.create_model understands it
    weights: Path
    quick_gelu: bool = False
    preprocess: dict[str, Any] | None = None


def _safetensors_in(folder: Path) -> Path:
    files = sorted(folder.glob("*.safetensors"), key=lambda path: "open_clip" not in path.name)
    if not files:
        pickles = [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth")]
        reason = f"only {pickles[0]}, a pickle that is never opened" if pickles else "no weights"
        raise ArtifactMissing(f"{folder}: {reason}; put an open_clip_model.safetensors there")
    return files[0]


def _only_safetensors(model: str, weights: str) -> Path:
    if not weights.endswith(".safetensors"):
        raise ConfigError(
            f"features.model {model}: {Path(weights).name} is a pickle, which is never opened; "
            "choose a model published as safetensors"
        )
    return Path(weights)


def _preprocessing(values: dict[str, Any]) -> Preprocessing:
    # A list, one number for both sides or all channels, and "random" are all allowed there.
    def spread(value: Any, count: int) -> list[Any]:
        return [value] * count if isinstance(value, int | float) else list(value)

    interpolation = values["interpolation"]
    return Preprocessing.parse(
        {
            "size": spread(values["size"], 2),
            "mean": spread(values["mean"], 3),
            "std": spread(values["std"], 3),
            "interpolation": "bicubic" if interpolation == "random" else interpolation,
            "resize_mode": values["resize_mode"],
            "fill_color": values["fill_color"],
        },
        "preprocess_cfg",
    )


@contextlib.contextmanager
def _one_line(model: str) -> Iterator[None]:
    try:
        yield
    except ControlGenError:
        raise
    except Exception as error:
        raise ConfigError(
            f"features.model {model}: cannot be fetched ({_first_line(error)}); "
            "connect to the network once, or name a folder on disk"
        ) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # open_clip warns on the root logger that a model without weights is random; here it is
    # intended.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]
