"""A generator, a feature space, and a map from features to latents."""

from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from torch import Tensor

from controlgen.editing.attribute_model import AttributeModel
from controlgen.editing.candidates import (
    Candidates,
    evaluate_candidates,
    inversion_residuals,
    perturb_with_residuals,
    rank_candidates,
    sample_latents,
)
from controlgen.editing.checkpoint import BankMetadata, load_checkpoint
from controlgen.editing.confidence.score import ConfidenceModel
from controlgen.editing.edit import Samples
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.editing.refine import refine_latents, validate_steps
from controlgen.editing.rejection_sampling import RealismFilter, draw_accepted
from controlgen.editing.search import BankIndex
from controlgen.errors import ConfigError, Incompatible
from controlgen.features import FeatureSpace
from controlgen.images import generate_pixels
from controlgen.networks import AnyGenerator
from controlgen.regressors import Regressor
from controlgen.types import Features, Latents, Pixels, Shape
from controlgen.utils.parallel import map_rows_deterministic, single_threaded_torch

SAMPLES = "samples"  # the random stream of `GenerativeModel.sample`


class GenerativeModel:
    """Samples, embeds and inverts images.

    Results do not depend on the number of CPU cores. In the signatures below n is the number of
    images, c h w their shape, z the latent size and d the feature size.
    """

    def __init__(
        self,
        generator: AnyGenerator,
        space: FeatureSpace,
        map: Regressor,
        statistics: FeaturePCA,
        image_shape: Shape,
        attributes: AttributeModel | None = None,
        confidence_model: ConfidenceModel | None = None,
        bank: BankMetadata | None = None,
        weights: str = "",
        realism_filter: RealismFilter | None = None,
    ) -> None:
        """Combine the parts; `load` does it for an artifact.

        Args:
            generator: Latents (n z) -> Images (n c h w).
            space: Embeds images as unit features (n d).
            map: Features (n d) -> Latents (n z), fitted on a bank of samples.
            statistics: Principal components of the bank's features.
            image_shape: (c, h, w).
            attributes: Linear model of measured attributes.
            confidence_model: Scores how well a target can be reached.
            bank: Seed and size of the bank.
            weights: Fingerprint of everything that a result depends on; "" if not loaded.
            realism_filter: Rejects unrealistic samples.
        """
        self.generator = generator.eval().requires_grad_(False)
        self.space = space
        self.map = map
        self.statistics = statistics
        self.image_shape = image_shape
        self.attributes = attributes
        self.confidence_model = confidence_model
        self.bank = bank
        self.weights = weights
        self.realism_filter = realism_filter

    @classmethod
    def load(cls, path: str | Path, generator: str | Path | None = None) -> Self:
        """Open and verify a map artifact or a pretrained model.

        Args:
            path: Folder of the map.
            generator: Folder of the GAN artifact to use instead of the copy in the map's folder.

        Returns:
            The model with everything that the folder holds, in fp32.

        Raises:
            ArtifactMissing, ArtifactCorrupt: The folder is no map, or damaged.
            Incompatible: The map was fitted to another generator or feature space.
        """
        return cls(*load_checkpoint(Path(path), Path(generator) if generator else None))

    @property
    def latent_size(self) -> int:
        """Size z of a latent."""
        return self.generator.latent_size

    def sample(self, n: int, seed: int = 0, start: int = 0) -> Samples:
        """Generate samples `start` to `start + n` of a seed.

        Each sample depends on the seed and its index alone. With `sample.likeness` set, the same
        rejection rule applies as for the map's bank.

        Args:
            n: Number of samples, at least 1.
            seed: Random seed.
            start: Index of the first sample.

        Returns:
            Latents (n z) and Pixels (n c h w), uint8.

        Raises:
            ConfigError: `n` is below 1 or `start` below 0.
        """
        if n < 1 or start < 0:
            raise ConfigError(
                f"sample: n must be at least 1 and start at least 0, not {n}, {start}"
            )
        return self.sample_stream(n, seed, SAMPLES, start)

    def sample_stream(self, n: int, seed: int, purpose: str, start: int = 0) -> Samples:
        """As `sample`, from the random stream that `purpose` names."""
        return draw_accepted(self, self.realism_filter, seed, purpose, start, start + n)

    drawn = sample_stream
    """The same as `sample_stream`."""

    def bank_items(self, start: int, stop: int) -> Samples:
        """Generate items `start` to `stop` of the bank that the map was fitted on.

        Raises:
            ConfigError: The bank has no such items, or the map does not record its bank.
        """
        if self.bank is None:
            raise ConfigError("this map does not record the bank it was fitted on; fit it again")
        if not 0 <= start < stop <= self.bank.n:
            raise ConfigError(
                f"bank: there is no item {stop - 1 if start >= 0 else start}; its items are "
                f"0 to {self.bank.n - 1}"
            )
        return self.sample(stop - start, self.bank.seed, start)

    @cached_property
    def bank_index(self) -> BankIndex:
        """Nearest-neighbour search among the bank's items."""
        return BankIndex(self)

    @property
    def gallery(self) -> BankIndex:
        """The same as `bank_index`."""
        return self.bank_index

    def generate(self, latents: Latents) -> Pixels:
        """Generate Pixels (n c h w), uint8, from Latents (n z).

        Raises:
            Incompatible: The latents are of another size.
        """
        if latents.ndim != 2 or latents.shape[1] != self.latent_size:
            raise Incompatible(
                f"latents of shape {latents.shape}: this generator takes (n, {self.latent_size})"
            )
        rows = np.require(latents, np.float32, ["C", "W"])
        return map_rows_deterministic(lambda part: generate_pixels(self.generator, part), rows)

    def embed(self, pixels: Pixels) -> Features:
        """Embed Pixels (n c h w), uint8, as unit Features (n d)."""
        return map_rows_deterministic(self.space.embed, pixels)

    def features_of_latents(self, latents: Tensor) -> Tensor:
        """Unit features (n d) of the images of latents (n z), differentiable, for optimisers."""
        return self.space.embed_images(self.generator(latents).clamp(-1, 1))

    def invert(self, features: Features) -> Latents:
        """Map Features (n d) to Latents (n z).

        Raises:
            Incompatible: The features are of another size.
        """
        self._check_features(features)
        return np.asarray(map_rows_deterministic(self.map.predict, features), np.float32)

    def candidates(self, features: Features, k: int, seed: int = 0, refine: int = 0) -> Candidates:
        """Find k latents for each target feature, ranked by target similarity, best first.

        Candidate j depends on the seed, the feature and j alone. A deterministic map gives one; the
        others are the best of 4 k that add inversion residuals of samples to it
        (`controlgen.editing.candidates`).

        Args:
            features: Targets (n d), unit rows.
            k: Candidates for each target; up to 128 for a deterministic map.
            seed: Random seed.
            refine: Refinement steps for each candidate, as in `edit`.

        Returns:
            Latents (n k z), pixels (n k c h w), features (n k d) and similarities (n k).

        Raises:
            Incompatible: The features are of another size.
            ConfigError: `k` or `refine` is out of range.
        """
        self._check_features(features)
        validate_steps(refine)
        with single_threaded_torch():
            latents = sample_latents(self.map, features, k, seed)
        if latents.shape[1] < k:
            perturbed = perturb_with_residuals(latents[:, 0], self._residuals, k, seed)
            best = rank_candidates(self, features, perturbed, self.confidence_model).top_k(k)
            if not refine:
                return best
            latents = best.latents
        return evaluate_candidates(self, features, latents, refine)

    answers = candidates
    """The same as `candidates`."""

    @cached_property
    def _residuals(self) -> Latents:
        return inversion_residuals(self, self.invert, self.latent_size)

    def refine(self, latents: Latents, target_features: Features, steps: int) -> Latents:
        """Move latents nearer to target features by gradient steps (`controlgen.editing.refine`).

        Args:
            latents: Where to start (n z).
            target_features: Targets (n d), unit rows.
            steps: Steps of Adam.

        Returns:
            Latents (n z), none less similar to its target; those given where `steps` is 0.

        Raises:
            ConfigError: `steps` is below 0.
        """
        validate_steps(steps)
        if steps == 0:
            return latents
        with single_threaded_torch():
            return refine_latents(
                self.generator, self.space.embed_images, latents, target_features, steps
            )

    def _check_features(self, features: Features) -> None:
        if features.ndim != 2 or features.shape[1] != self.space.size:
            raise Incompatible(
                f"features of shape {features.shape}: this map takes (n, {self.space.size})"
            )
