"""A toy of two classes of colour images, distinguished by side, with a closed-form inverse."""

from types import SimpleNamespace

import numpy as np
import torch

from controlgen.config import EvaluateConfig
from controlgen.evaluation.context import EvaluationContext
from controlgen.rng import normals
from toy_protocol import AuditSpace, ToyEditor, linear_map, nearest_map

SIZE, LATENT = 8, 9
NAMES = ("adenocarcinoma", "benign")


class SidesGenerator:
    """Latents (n 9) -> red at the left (class 0, z[0] < 0) or blue at the right (class 1).

    z[1:] are eight green pixels below, independent of the class; row 4 never changes.
    """

    def generate_signed(self, latents):
        side = torch.sigmoid(4 * latents[:, 0])[:, None, None]
        image = torch.full((len(latents), 3, SIZE, SIZE), -1.0)
        image[:, 0, :4, :4] += 1.6 * (1 - side)
        image[:, 2, :4, 4:] += 1.6 * side
        image[:, 1, 6:, :4] += 1.6 * torch.sigmoid(latents[:, 1:]).reshape(-1, 2, 4)
        image[:, :, 4] += 0.8
        return image


class SidesSpace:
    """Pixel brightness at unit length; a text has the features of a plain image of its class."""

    def features(self, images):
        return torch.nn.functional.normalize(images.flatten(1) + 1, dim=1)

    def embed(self, pixels):
        return self.features(torch.from_numpy(pixels).float() / 127.5 - 1).numpy()

    def embed_text(self, texts):
        latents = torch.zeros(len(texts), LATENT)
        latents[:, 0] = torch.tensor([-3.0 if text == NAMES[0] else 3.0 for text in texts])
        return self.features(SidesGenerator().generate_signed(latents)).numpy()


def sides_editor():
    return ToyEditor(SidesSpace(), SidesGenerator(), (3, SIZE, SIZE), LATENT)


class SidesData:
    """Real images: generated ones, three per source, labelled by the side that is lit."""

    image_shape = (3, SIZE, SIZE)

    def __init__(self, seed, n, class_names=NAMES):
        self.latents = normals(seed, "toy data", 0, n, LATENT)
        self.class_names = class_names

    def __len__(self):
        return len(self.latents)

    def pixels(self, indices):
        return sides_editor().generate(self.latents[indices])

    def labels(self, indices):
        assert self.class_names, "labels of data without classes must not be read"
        return (self.latents[indices, 0] > 0).astype(np.int64)

    def groups(self, indices):
        return np.asarray(indices) // 3


def exact_map(features):
    """The inverse of the toy in closed form: row 4, always 0.8, recovers the length."""
    image = np.asarray(features, np.float64).reshape(-1, 3, SIZE, SIZE)
    image = image * (0.8 / image[:, :, 4].mean((1, 2)))[:, None, None, None] / 1.6
    side = (image[:, 2, :4, 4:].mean((1, 2)) + 1 - image[:, 0, :4, :4].mean((1, 2))) / 2
    parts = np.c_[side, image[:, 1, 6:, :4].reshape(-1, LATENT - 1)]
    parts = np.clip(parts, 1e-3, 1 - 1e-3)
    return np.log(parts / (1 - parts)) / np.r_[4.0, np.ones(LATENT - 1)]


def make_sides_config(**changes):
    settings = {
        "audit": {"kind": "efficientnet-lite0"},
        "class_names": list(NAMES),
        "prompt": "{}",
        "samples": 48,
        "inversions": 40,
        "sources": 12,
        "exemplars": 6,
        "amounts": (0.5, 1.0, 1.5),
        "optimisation_steps": 5,
        "optimisation_targets": 4,
        "bootstraps": 60,
    }
    return EvaluateConfig.parse({**settings, **changes})


def make_sides_context(config, n=500, class_names=NAMES):
    editor = sides_editor()
    latents = normals(1, "toy bank", 0, n, LATENT)
    pixels = editor.generate(latents)
    features = editor.embed(pixels)
    cut = n - 150
    train = features[:cut], latents[:cut]
    return EvaluationContext(
        editor=editor,
        bank=SimpleNamespace(
            latents=latents,
            pixels=pixels,
            features=features,
            train=slice(0, cut),
            held_out=slice(cut, n),
        ),
        maps={
            "retrieval": nearest_map(*train),
            "ridge": linear_map(*train),
            "exact": exact_map,
        },
        map_name="exact",
        real_train=SidesData(2, 240, class_names),
        real_test=SidesData(3, 120, class_names),
        audit=AuditSpace(),
        class_names=NAMES,
        prompts=NAMES,
        config=config,
    )
