"""Features of an encoder trained on the user's own images without labels.

The encoder is a timm tower, a linear layer and a normalisation that centres each feature, so that
cosines use their whole range. `controlgen.training.vicreg` trains one.
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
KIND = "encoder"  # of the artifact, and of the folder of a store that holds such artifacts


class EncoderDescription(BaseConfig):
    """What encoder.json holds: the network beside its weights, and how images come in."""

    tower: str
    channels: Literal[1, 3]
    feature_size: int = Field(ge=8)
    preprocessing: Preprocessing

    def network(self, seed: int = 0) -> nn.Module:
        """float (n channels h w) -> (n feature_size), with random weights from torch's `seed`.

        Raises ConfigError where `tower` is no timm model of such images.
        """
        ensure_torchvision()
        import timm

        if not timm.is_model(self.tower):
            raise ConfigError(f"tower {self.tower}: no timm model; timm.list_models() names them")
        # Libraries initialise from torch's global generator, which is set for that moment only.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tower: Any = timm.create_model(
                self.tower, in_chans=self.channels, num_classes=self.feature_size
            )
        centre = nn.BatchNorm1d(self.feature_size, affine=False)
        return nn.Sequential(OrderedDict(tower=tower, centre=centre))

    def space(self, network: nn.Module) -> TorchSpace:
        """The space of such a network with trained weights, which it freezes.

        A grey encoder sees coloured images by their luma.
        """

        def encode(seen: Tensor) -> Tensor:
            features: Tensor = network(tensor_to_channels(seen, self.channels))
            return features

        return TorchSpace(network, encode, self.preprocessing)


class SelfSupervised(BaseConfig):
    """Which encoder: its artifact's folder, or the name of one.

    A folder that is not where `path` says is looked for by its name: beside the map that uses it,
    among the encoders of that map's store, in artifacts/pretrained. In settings that decide a
    result the weights stand for the path, which decides nothing.
    """

    kind: Literal["self-supervised"] = "self-supervised"
    path: Path = Field(description="folder with an encoder.json, or its name")

    @property
    def name(self) -> str:
        """What numbers made in this space are called after."""
        return self.path.name

    def identity(self) -> dict[str, Any]:
        """The kind and the digest of description and weights; None where they are not there."""
        folder = self.folder()
        return {"kind": self.kind, "weights": None if folder is None else _digest(folder)}

    def open(self, search: Sequence[Path] = ()) -> TorchSpace:
        """Load it, looking for its name in `search` before artifacts/pretrained.

        Raises ArtifactMissing where no such folder exists, ArtifactCorrupt where the weights do
        not fit their description.
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
        """Where it lies; None where it does not."""
        package = Path(__file__).resolve().parents[2]
        homes = [Path("artifacts/pretrained"), package / "artifacts" / "pretrained"]
        near = [place for home in search for place in (home, home.parent / KIND)]
        named = [home / self.path.name for home in (*near, *homes)]
        # A plain name is a name first; anything longer is a path first.
        places = [*named, self.path] if len(self.path.parts) == 1 else [self.path, *named]
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
