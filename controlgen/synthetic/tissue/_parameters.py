"""Parameters of drawn tiles: five architectures of tissue, and free mixtures."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from controlgen.synthetic.base import RandomColumns
from controlgen.synthetic.tissue._shapes import Floats

CLASSES = (
    "benign glands",
    "malignant glands",
    "solid tumour",
    "stroma",
    "inflammation",
)
BENIGN, MALIGNANT, SOLID, STROMA, INFLAMED, FREE = range(6)
SHARES = (0.24, 0.24, 0.14, 0.08, 0.08, 0.22)  # the last: free mixtures, no class

# Range of every parameter: benign, malignant, solid, stroma, inflamed, free.
RANGES = {
    "size": ((0.85, 1.1), (1.05, 1.6), (1.1, 1.8), (0.8, 1.1), (0.75, 1.0), (0.8, 1.7)),
    "aspect": ((0.4, 0.75), (0.42, 0.85), (0.6, 0.95), (0.25, 0.5), (0.75, 1.0), (0.3, 1.0)),
    "vary": ((0.03, 0.1), (0.15, 0.38), (0.15, 0.42), (0.08, 0.2), (0.04, 0.12), (0.03, 0.42)),
    "dark": ((0.28, 0.5), (0.22, 0.52), (0.22, 0.5), (0.3, 0.55), (0.35, 0.6), (0.2, 0.6)),
    "pale": ((0.0, 0.4), (0.1, 0.75), (0.1, 0.75), (0.0, 0.3), (0.0, 0.2), (0.0, 0.75)),
    "radius": ((12, 27), (10, 26), (9, 20), (9, 20), (9, 20), (8, 27)),
    "gap": ((1.0, 1.35), (0.85, 1.25), (1.0, 1.4), (1.3, 2.0), (1.1, 1.8), (0.85, 1.6)),
    "glandular": ((1, 1), (1, 1), (0, 0), (0, 0), (0, 0), (0, 1)),
    "irregular": ((0.0, 0.06), (0.1, 0.28), (0.1, 0.3), (0.0, 0.1), (0.0, 0.1), (0.0, 0.28)),
    "oval": ((0.0, 0.3), (0.0, 0.4), (0.0, 0.3), (0.0, 0.3), (0.0, 0.3), (0.0, 0.4)),
    "stratified": ((0.0, 0.15), (0.35, 0.9), (0.5, 1.0), (0.0, 0.5), (0.0, 0.5), (0.0, 0.9)),
    "spacing": ((0.6, 0.9), (0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (0.65, 1.2)),
    "lumen": ((-0.1, 0.36), (-0.1, 0.5), (0.0, 0.3), (0.0, 0.3), (0.0, 0.3), (-0.2, 0.55)),
    "goblet": ((0.55, 1.1), (-1.0, 0.15), (0, 0), (0, 0), (0, 0), (-0.5, 1.1)),
    "cellular": ((0.25, 0.8), (0.15, 0.6), (0.7, 1.0), (0.04, 0.3), (0.6, 1.0), (0.04, 1.0)),
    "lymphoid": ((0.3, 0.9), (0.1, 0.6), (0.0, 0.08), (0.0, 0.25), (0.8, 1.0), (-0.3, 1.0)),
    "filling": ((0.05, 0.85), (0.2, 0.9), (0.7, 1.0), (0.35, 1.0), (0.1, 0.8), (0.05, 0.95)),
    "pink": ((0.08, 0.2), (0.08, 0.2), (0.04, 0.13), (0.1, 0.24), (0.07, 0.18), (0.05, 0.24)),
    "cytoplasm_blue": (
        (0.05, 0.15),
        (0.07, 0.19),
        (0.06, 0.19),
        (0.03, 0.1),
        (0.03, 0.1),
        (0.03, 0.19),
    ),
    "cytoplasm_pink": (
        (0.03, 0.1),
        (0.02, 0.11),
        (0.02, 0.11),
        (0.04, 0.1),
        (0.04, 0.1),
        (0.02, 0.13),
    ),
    "clusters": ((0.0, 0.8), (0.0, 1.0), (0.0, 0.3), (0.0, 0.8), (0.0, 0.8), (0.0, 1.0)),
    "bleeding": ((-3, 1), (-3, 1), (-4, 1), (-2, 1), (-3, 1), (-3, 1)),
    "torn": ((-9, 0.3), (-3.5, 0.5), (-4, 0.4), (-4, 0.4), (-8, 0.3), (-4, 0.5)),
    "wavy": ((0.5, 3), (0.5, 4), (0.5, 4), (0.5, 5), (0.5, 3), (0.5, 5)),
}


class TileParameters(NamedTuple):
    """Parameters of each tile (n): lengths in pixels, stain amounts in OD, the rest in 0..1.

    `architecture` is the index of CLASSES, or FREE. `zoom` is the diameter of an ordinary nucleus.
    `stains` (n 2 3) are unit colours of haematoxylin and eosin in OD, `strength` (n 2) their dose.
    """

    architecture: NDArray[np.intp]
    zoom: Floats
    values: dict[str, Floats]
    stains: Floats
    strength: Floats
    blur: Floats
    noise: Floats
    paper: Floats

    def get(self, name: str) -> Floats:
        """A parameter of RANGES by name (n)."""
        return self.values[name]

    def select(self, rows: slice) -> "TileParameters":
        """The parameters of some tiles."""
        return TileParameters(
            self.architecture[rows],
            self.zoom[rows],
            {name: column[rows] for name, column in self.values.items()},
            self.stains[rows],
            self.strength[rows],
            self.blur[rows],
            self.noise[rows],
            self.paper[rows],
        )

    def is_solid(self) -> NDArray[np.bool_]:
        """Which tiles (n) are sheets of cells instead of stroma."""
        mixed = (self.architecture == FREE) & (self.values["cellular"] > 0.75)
        return np.asarray((self.architecture == SOLID) | mixed)


def sample_parameters(draws: RandomColumns) -> TileParameters:
    """Draw all parameters, uniformly within the ranges of each tile's architecture."""
    steps = np.cumsum(SHARES)[:-1]
    architecture = np.searchsorted(steps, draws.uniform(), side="right").astype(np.intp)
    chances = draws.uniform(len(RANGES))
    values = {}
    for column, (name, ranges) in enumerate(RANGES.items()):
        low, high = np.array(ranges, np.float32)[architecture].T
        values[name] = np.asarray(low + (high - low) * chances[:, column], np.float32)

    # Chromatin is darker than cytoplasm in every cell.
    values["dark"] = np.maximum(values["dark"], values["cytoplasm_blue"] + np.float32(0.15))

    # Gland and nucleus grow together with the magnification.
    zoom = 2.7 * np.exp(0.6 * draws.uniform())
    values["radius"] *= (zoom / 3.5) ** 0.7

    # Stains after Macenko et al. 2009, whose vectors vary from laboratory to laboratory.
    vectors = np.array([[0.56, 0.79, 0.24], [0.14, 0.96, 0.18]], np.float32)
    vectors = vectors + np.float32(0.045) * draws.normal(2, 3)
    vectors[:, 1, 0] = np.maximum(vectors[:, 1, 0], 0.03)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    strength = np.exp([0.14, -0.03] + np.array([0.2, 0.25], np.float32) * draws.normal(2))
    strength = np.asarray(strength, np.float32)
    blur, noise = draws.uniform() ** 3, 0.006 + 0.016 * draws.uniform()
    paper = 1 - np.array([0.01, 0.015, 0.03], np.float32) * draws.uniform(3) ** 2
    return TileParameters(architecture, zoom, values, vectors, strength, blur, noise, paper)
