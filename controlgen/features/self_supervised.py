"""Features of an encoder trained on the user's own images without labels.

The encoder is a timm network, a linear layer and a normalisation that centres each feature, so that
cosines use their full range. `controlgen.training.vicreg` trains it.
"""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from controlgen.base_config import BaseConfig
from controlgen.errors import ArtifactCorrupt, ArtifactMissing, ConfigError
from controlgen.features._torchvision import ensure_torchvision
from controlgen.features.base import TorchSpace
from controlgen.features.preprocessing import Preprocessing
from controlgen.images import tensor_to_channels

ENCODER = "encoder.json"
WEIGHTS = "encoder.safetensors"
KIND = "encoder"  # the artifact's kind, and its folder in a store


class EncoderDescription(BaseConfig):
    """The content of encoder.json: architecture and preprocessing."""

    tower: str
    channels: Literal[1, 3]
    feature_size: int = Field(ge=8)
    preprocessing: Preprocessing

    def network(self, seed: int = 0) -> nn.Module:
        """float (n channels h w) -> (n feature_size), with random weights from torch's `seed`.

        Raises ConfigError if `tower` is not a timm model for such images.
        """
        ensure_torchvision()
        import timm

        if not timm.is_model(self.tower):
            raise ConfigError(f"tower {self.tower}: no timm model; timm.list_models() names them")
        # Libraries initialise from torch's global generator, which is seeded for this moment only.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tower: Any = timm.create_model(
                self.tower, in_chans=self.channels, num_classes=self.feature_size
            )
        centre = nn.BatchNorm1d(self.feature_size, affine=False)
        return nn.Sequential(OrderedDict(tower=tower, centre=centre))

    def space(self, network: nn.Module) -> TorchSpace:
        """The feature space of the trained network, which is frozen.

        A grey encoder converts coloured images to luma.
        """

        def encode(images: Tensor) -> Tensor:
            features: Tensor = network(tensor_to_channels(images, self.channels))
            return features

        return TorchSpace(network, encode, self.preprocessing)


class SelfSupervisedConfig(BaseConfig):
    """An encoder: its artifact's folder, or the name of one.

    A folder that does not exist at `path` is looked up by its name: beside the map that uses it,
    among the encoders of that map's store, in artifacts/pretrained. In fingerprints the weights
    stand for the path.
    """

    kind: Literal["self-supervised"] = "self-supervised"
    path: Path = Field(description="folder with an encoder.json, or its name")

    @property
    def name(self) -> str:
        """The name of metrics in this space."""
        return self.path.name

    def identity(self) -> dict[str, Any]:
        """The kind and the hash of description and weights; None if they are missing."""
        folder = self.folder()
        return {"kind": self.kind, "weights": None if folder is None else _digest(folder)}

    def open(self, search: Sequence[Path] = ()) -> TorchSpace:
        """Load the encoder, looking up its name in `search` before artifacts/pretrained.

        Raises ArtifactMissing if there is no such folder, ArtifactCorrupt if the weights do not
        match their description.
        """
        folder = self.folder(search)
        if folder is None:
            raise ArtifactMissing(
                f"{self.path}: no folder with an {ENCODER} of that path or name; train an encoder "
                "with python -m flows.train_encoder"
            )
        path = folder / ENCODER
        try:
            described = EncoderDescription.parse(_json(path), str(path))
            network = described.network()
        except ConfigError as error:
            raise ArtifactCorrupt(f"{error}; train the encoder again") from None
        try:
            network.load_state_dict(load_file(folder / WEIGHTS))
        except FileNotFoundError:
            raise ArtifactMissing(f"{folder / WEIGHTS}: no such file; train it again") from None
        except (RuntimeError, SafetensorError, OSError):
            raise ArtifactCorrupt(
                f"{folder / WEIGHTS}: does not fit {ENCODER}; train the encoder again"
            ) from None
        return described.space(network)

    def folder(self, search: Sequence[Path] = ()) -> Path | None:
        """The folder; None if it does not exist."""
        package = Path(__file__).resolve().parents[2]
        homes = [Path("artifacts/pretrained"), package / "artifacts" / "pretrained"]
        near = [place for home in search for place in (home, home.parent / KIND)]
        candidates = [home / self.path.name for home in (*near, *homes)]
        # A plain name is looked up as a name first; a longer path as a path first.
        places = [*candidates, self.path] if len(self.path.parts) == 1 else [self.path, *candidates]
        return next((place for place in places if (place / ENCODER).is_file()), None)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtifactCorrupt(f"{path}: not JSON ({error}); train the encoder again") from None


def _digest(folder: Path) -> str:
    running = hashlib.sha256()
    for name in (ENCODER, WEIGHTS):
        if (folder / name).is_file():
            running.update((folder / name).read_bytes())
    return running.hexdigest()[:12]
