"""The sample bank: latents, their generated images and the features of those, memory-mapped."""

from dataclasses import dataclass
from pathlib import Path

from controlgen.types import Features, Latents, Pixels
from controlgen.utils.array_files import open_memmap


@dataclass(frozen=True)
class SampleBank:
    """N items; the last `held_out_count` are never used to fit a map."""

    latents: Latents
    pixels: Pixels
    features: Features
    held_out_count: int

    @classmethod
    def open(cls, bank: Path, features: Path, held_out_count: int) -> "SampleBank":
        """Open a bank folder and a features folder. Raises ArtifactMissing, ArtifactCorrupt."""
        return cls(
            open_memmap(bank / "latents.npy"),
            open_memmap(bank / "pixels.npy"),
            open_memmap(features / "features.npy"),
            held_out_count,
        )

    @property
    def train(self) -> slice:
        """The items that maps are fitted on."""
        return slice(0, len(self.latents) - self.held_out_count)

    @property
    def held_out(self) -> slice:
        """The items that only evaluate maps."""
        return slice(len(self.latents) - self.held_out_count, len(self.latents))
