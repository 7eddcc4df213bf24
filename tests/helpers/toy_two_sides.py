"""A toy of two classes of colour images, known by their side; its inverse is a closed form."""

import numpy as np
import torch

from controlgen.rng import normals
from toy_protocol import ToyEditor

SIZE, LATENT = 8, 9
NAMES = ("adenocarcinoma", "benign")


class SidesGenerator:
    """Latents (n 9) -> red at the left (class 0, z[0] < 0) or blue at the right (class 1).

    z[1:] are eight green pixels below, an identity that is no class; row 4 never changes.
    """

    def unit(self, latents):
        side = torch.sigmoid(4 * latents[:, 0])[:, None, None]
        image = torch.full((len(latents), 3, SIZE, SIZE), -1.0)
        image[:, 0, :4, :4] += 1.6 * (1 - side)
        image[:, 2, :4, 4:] += 1.6 * side
        image[:, 1, 6:, :4] += 1.6 * torch.sigmoid(latents[:, 1:]).reshape(-1, 2, 4)
        image[:, :, 4] += 0.8
        return image


class SidesSpace:
    """Brightness of every pixel, at length one; texts are the plain picture of their class."""

    def features(self, images):
        return torch.nn.functional.normalize(images.flatten(1) + 1, dim=1)

    def embed(self, pixels):
        return self.features(torch.from_numpy(pixels).float() / 127.5 - 1).numpy()

    def embed_text(self, texts):
        latents = torch.zeros(len(texts), LATENT)
        latents[:, 0] = torch.tensor([-3.0 if text == NAMES[0] else 3.0 for text in texts])
        return self.features(SidesGenerator().unit(latents)).numpy()


def sides_editor():
    return ToyEditor(SidesSpace(), SidesGenerator(), (3, SIZE, SIZE), LATENT)


class SidesData:
    """Real images: the toy's own, three of every source, labelled by the side that is lit."""

    image_shape = (3, SIZE, SIZE)

    def __init__(self, seed, n, class_names=NAMES):
        self.latents = normals(seed, "toy data", 0, n, LATENT)
        self.class_names = class_names

    def __len__(self):
        return len(self.latents)

    def pixels(self, indices):
        return sides_editor().generate(self.latents[indices])

    def labels(self, indices):
        assert self.class_names, "nobody may ask for labels that are not there"
        return (self.latents[indices, 0] > 0).astype(np.int64)

    def groups(self, indices):
        return np.asarray(indices) // 3


def exact_map(features):
    """The toy's inverse in closed form: row 4, always 0.8, gives back the length."""
    image = np.asarray(features, np.float64).reshape(-1, 3, SIZE, SIZE)
    image = image * (0.8 / image[:, :, 4].mean((1, 2)))[:, None, None, None] / 1.6
    side = (image[:, 2, :4, 4:].mean((1, 2)) + 1 - image[:, 0, :4, :4].mean((1, 2))) / 2
    parts = np.c_[side, image[:, 1, 6:, :4].reshape(-1, LATENT - 1)]
    parts = np.clip(parts, 1e-3, 1 - 1e-3)
    return np.log(parts / (1 - parts)) / np.r_[4.0, np.ones(LATENT - 1)]
