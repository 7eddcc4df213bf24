"""Several latents for one target, ranked by the similarity of their features to it.

A deterministic map h gives one latent h(f) for a feature f. More candidates come from the residual
bootstrap (Efron 1979) with latents as residuals: the inversion residual of a sample G(z),
z - h(f(G(z))), is what the feature does not determine. Added to h of another feature, it changes
the feature little and the rest of the image much. The whole residual goes too far for many
features; half of it, and the best of a few, keeps the round trip about as near as h(f) alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from controlgen import rng
from controlgen.editing.confidence.score import ConfidenceModel
from controlgen.editing.edit import Edit
from controlgen.editing.protocols import GeneratesAndEmbeds, ModelProtocol
from controlgen.errors import ConfigError
from controlgen.metrics.inversion import paired_cosine
from controlgen.regressors import Regressor, SupportsSampling
from controlgen.types import Features, Latents

N_RESIDUALS = 128  # samples whose residuals are used
RESIDUAL_SCALE = 0.5  # share of a residual that is added
OVERSAMPLING = 4  # perturbed latents evaluated for each candidate returned


@dataclass(frozen=True)
class Candidates:
    """k candidates for each of n targets, best first.

    latents (n k z), pixels (n k c h w), features (n k d), and target_similarity (n k): cosines with
    target_features (n d), -1..1, falling along k. map_features (n k d): see `Edit`.
    """

    latents: NDArray[np.float32]
    pixels: NDArray[np.uint8]
    features: NDArray[np.float32]
    target_similarity: NDArray[np.float64]
    target_features: Features
    confidence_model: ConfidenceModel | None = field(default=None, repr=False)
    map_features: NDArray[np.float32] | None = field(default=None, repr=False)

    @cached_property
    def reachability(self) -> NDArray[np.float32] | None:
        """Confidence (n k), 0..1; see `Edit.reachability`."""
        if self.confidence_model is None:
            return None
        return self.confidence_model.score(*self._scored).reshape(self.target_similarity.shape)

    @cached_property
    def warnings(self) -> tuple[tuple[str, ...], ...]:
        """Why confidence is low, for k candidates of each of n targets; see `Edit.warnings`."""
        n, k = self.target_similarity.shape
        if self.confidence_model is None:
            return tuple(("",) * k for _ in range(n))
        words = self.confidence_model.warnings(*self._scored)
        return tuple(words[row * k : (row + 1) * k] for row in range(n))

    def top_k(self, k: int) -> "Candidates":
        """The first k of each target."""
        return replace(
            self,
            latents=self.latents[:, :k],
            pixels=self.pixels[:, :k],
            features=self.features[:, :k],
            target_similarity=self.target_similarity[:, :k],
            map_features=None if self.map_features is None else self.map_features[:, :k],
        )

    def as_edit(self, edit: Edit, rank: int = 0) -> Edit:
        """`edit`, whose targets these candidates are for, with candidate `rank` as its result."""
        return replace(
            edit,
            pixels=self.pixels[:, rank],
            latents=self.latents[:, rank],
            features=self.features[:, rank],
            map_features=None if self.map_features is None else self.map_features[:, rank],
        )

    @property
    def _scored(self) -> tuple[Features, Features]:
        # Targets and the map's own features, a candidate a row (n * k d).
        features = self.features if self.map_features is None else self.map_features
        n, k, d = features.shape
        return np.repeat(self.target_features, k, axis=0), features.reshape(n * k, d)


def sample_latents(map: Regressor, features: Features, k: int, seed: int) -> NDArray[np.float32]:
    """k latents (n k z) for each feature (n d), in the order of the map's draws.

    Deterministic maps return one latent regardless of k. Raises ConfigError for k below 1.
    """
    if k < 1:
        raise ConfigError(f"candidates: k must be at least 1, not {k}")
    if isinstance(map, SupportsSampling):
        return np.asarray(map.answers(features, k, seed), np.float32)
    return np.asarray(map.predict(features)[:, None], np.float32)


def inversion_residuals(
    model: GeneratesAndEmbeds, invert: Callable[[Features], Latents], latent_size: int
) -> Latents:
    """Residuals (m z) of a map on samples of its generator: latents less their inversion."""
    latents = rng.normals(0, "lenders", 0, N_RESIDUALS, latent_size)
    return np.asarray(latents - invert(model.embed(model.generate(latents))), np.float32)


def perturb_with_residuals(
    latents: Latents, residuals: Latents, k: int, seed: int
) -> NDArray[np.float32]:
    """Latents (n m z) to choose k from: the given (n z) first, then these plus scaled residuals.

    The choice of residuals depends on the seed alone; a smaller k uses the first of a larger one's.
    Raises ConfigError for k beyond 128.
    """
    if k > N_RESIDUALS:
        raise ConfigError(f"candidates: k must be at most {N_RESIDUALS} for this map, not {k}")
    rows = rng.stream(seed, "borrowing").permutation(len(residuals))[: OVERSAMPLING * k - 1]
    perturbed = latents[:, None] + np.float32(RESIDUAL_SCALE) * residuals[None, rows]
    return np.concatenate([latents[:, None], perturbed], axis=1)


def evaluate_candidates(
    model: ModelProtocol, features: Features, latents: NDArray[np.float32], refine: int
) -> Candidates:
    """Candidates from latents (n k z) for targets (n d), each refined by `refine` steps."""
    if not refine:
        return rank_candidates(model, features, latents, model.confidence_model)
    n, k, z = latents.shape
    flat, targets = latents.reshape(n * k, z), np.repeat(features, k, axis=0)
    map_features = None
    if model.confidence_model is not None:
        map_features = model.embed(model.generate(flat)).reshape(n, k, -1)
    refined = model.refine(flat, targets, refine).reshape(n, k, z)
    return rank_candidates(model, features, refined, model.confidence_model, map_features)


def rank_candidates(
    model: GeneratesAndEmbeds,
    target_features: Features,
    latents: NDArray[np.float32],
    confidence_model: ConfidenceModel | None = None,
    map_features: NDArray[np.float32] | None = None,
) -> Candidates:
    """Generate and embed latents (n k z) for targets (n d), and sort them, best first."""
    n, k = latents.shape[:2]
    pixels = model.generate(latents.reshape(n * k, -1))
    features = model.embed(pixels)
    similarity = paired_cosine(np.repeat(target_features, k, axis=0), features).reshape(n, k)

    # Equally similar candidates keep the order of their draws.
    order = np.argsort(-similarity, axis=1, kind="stable")
    rows = np.arange(n)[:, None]
    return Candidates(
        latents[rows, order],
        pixels.reshape(n, k, *pixels.shape[1:])[rows, order],
        features.reshape(n, k, -1)[rows, order],
        similarity[rows, order],
        target_features,
        confidence_model,
        None if map_features is None else map_features[rows, order],
    )
