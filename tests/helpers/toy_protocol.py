"""A toy generator with known classes and a closed-form inverse, and a context to evaluate it."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch

from controlgen.config import EvaluateConfig
from controlgen.editing.rejection_sampling import draw_accepted
from controlgen.evaluation.context import EvaluationContext
from controlgen.rng import normals
from controlgen.utils.rows import normalize_rows

SIZE, CLASSES, LATENT = 8, 3, 15
NAMES = ["left", "middle", "right"]


class ToyGenerator:
    """Latents (n 15) -> one of three bright columns (the largest of z[:3]) over a textured ground.

    z[3:] are the brightness of twelve pixels: an identity independent of the class.
    """

    def generate_signed(self, latents):
        soft = torch.softmax(6 * latents[:, :CLASSES], 1)
        image = torch.full((len(latents), 1, SIZE, SIZE), -1.0)
        columns = torch.repeat_interleave(soft, 2, dim=1)
        image[:, 0, :5, 1:7] += 1.6 * columns[:, None, :]
        image[:, 0, 6:, 1:7] += 1.6 * torch.sigmoid(latents[:, CLASSES:]).reshape(-1, 2, 6)
        return image


class ToySpace:
    """Centred pixels of unit length."""

    def features(self, images):
        flat = images.flatten(1) + 0.8
        return torch.nn.functional.normalize(flat, dim=1)

    def embed(self, pixels):
        return self.features(torch.from_numpy(pixels).float() / 127.5 - 1).numpy()


class TextSpace(ToySpace):
    """A text has the features of a plain image of its class."""

    def embed_text(self, texts):
        latents = torch.zeros(len(texts), LATENT)
        for row, text in enumerate(texts):
            latents[row, NAMES.index(text)] = 3
        return self.features(ToyGenerator().generate_signed(latents)).numpy()


class ToyEditor:
    """What the protocol needs of an Editor, over a toy generator and space."""

    realism_filter = None

    def __init__(self, space, generator, image_shape, latent_size):
        self.space, self.generator = space, generator
        self.image_shape, self.latent_size = image_shape, latent_size

    def generate(self, latents):
        signed = self.generator.generate_signed(torch.from_numpy(np.asarray(latents, np.float32)))
        return ((signed + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()

    def embed(self, pixels):
        return self.space.embed(pixels)

    def sample_stream(self, n, seed, purpose, start=0):
        return draw_accepted(self, self.realism_filter, seed, purpose, start, start + n)

    def features_of_latents(self, latents):
        return self.space.features(self.generator.generate_signed(latents))


def toy_editor(space, editor_class=ToyEditor):
    return editor_class(space, ToyGenerator(), (1, SIZE, SIZE), LATENT)


class AuditSpace:
    """Another feature space: a fixed random projection of the pixels."""

    def embed(self, pixels):
        flat = pixels.reshape(len(pixels), -1).astype(np.float32) / 255
        return normalize_rows(flat @ normals(5, "toy audit", 0, flat.shape[1], 24))


@dataclass
class ToyData:
    """Real images: generated ones, labelled by their largest class coordinate."""

    latents: np.ndarray
    image_shape = (1, SIZE, SIZE)

    def __len__(self):
        return len(self.latents)

    def pixels(self, indices):
        return toy_editor(ToySpace()).generate(self.latents[indices])

    def labels(self, indices):
        return self.latents[indices, :CLASSES].argmax(1).astype(np.int64)


class ToyJudge:
    """Classifies by the brightest column; confident if it stands out."""

    classes = CLASSES

    def probabilities(self, pixels):
        columns = pixels[:, 0, :5, 1:7].astype(float).mean(1) / 255
        levels = columns.reshape(-1, CLASSES, 2).mean(2)
        odds = np.exp(20 * levels)
        return odds / odds.sum(1, keepdims=True)


def nearest_map(bank_features, bank_latents):
    return lambda features: bank_latents[(features @ bank_features.T).argmax(1)]


def linear_map(bank_features, bank_latents):
    rows = np.c_[bank_features, np.ones(len(bank_features))]
    weights, *_ = np.linalg.lstsq(rows, bank_latents, rcond=None)
    return lambda features: np.c_[features, np.ones(len(features))] @ weights


def make_config(**changes):
    settings = {
        "audit": {"kind": "efficientnet-lite0"},
        "samples": 64,
        "inversions": 60,
        "sources": 10,
        "exemplars": 8,
        "amounts": (0.5, 1.0, 2.0),
        "judge_epochs": 4,
        "optimisation_steps": 40,
        "optimisation_targets": 6,
        "bootstraps": 100,
    }
    return EvaluateConfig.parse({**settings, **changes})


def make_editor_bank_maps(space, n=900):
    editor = toy_editor(space)
    latents = normals(1, "toy bank", 0, n, LATENT)
    pixels = editor.generate(latents)
    features = editor.embed(pixels)
    held_out = n - 200
    bank = SimpleNamespace(
        latents=latents,
        pixels=pixels,
        features=features,
        train=slice(0, held_out),
        held_out=slice(held_out, n),
    )
    train = features[:held_out], latents[:held_out]
    maps = {"retrieval": nearest_map(*train), "ridge": linear_map(*train), "oracle": exact_map}
    return editor, bank, maps


def exact_map(features):
    """The inverse of the toy in closed form, up to rounding."""
    # The ground is always -0.2, which recovers the length that normalisation removed.
    image = features.reshape(-1, SIZE, SIZE)
    image = image * (-0.2 / image[:, :, [0, 7]].mean((1, 2), keepdims=True))
    levels = (image + 0.2) / 1.6
    columns = levels[:, :5, 1:7].mean(1).reshape(-1, CLASSES, 2).mean(2)
    classes = np.log(np.clip(columns, 1e-3, 1)) / 6
    texture = np.clip(levels[:, 6:, 1:7].reshape(-1, LATENT - CLASSES), 1e-3, 1 - 1e-3)
    return np.c_[classes, np.log(texture / (1 - texture))]


def make_context(space=None, **changes):
    editor, bank, maps = make_editor_bank_maps(space or TextSpace())
    return EvaluationContext(
        editor=editor,
        bank=bank,
        maps=maps,
        map_name="oracle",
        real_train=ToyData(normals(6, "toy train", 0, 300, LATENT)),
        real_test=ToyData(normals(7, "toy test", 0, 200, LATENT)),
        audit=AuditSpace(),
        judge=ToyJudge(),
        class_names=NAMES,
        prompts=NAMES,
        config=make_config(**changes),
    )
