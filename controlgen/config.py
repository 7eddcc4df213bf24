"""The typed settings of every stage, read from TOML; unknown keys are refused."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from controlgen.attributes import AnyAttributes
from controlgen.augmentations import AnyAugment, AnyViews, NoAugment
from controlgen.base_config import BaseConfig, runtime_field
from controlgen.datasets import AnyDataset
from controlgen.errors import ConfigError
from controlgen.features import (
    AnyFeatureSpace,
    EfficientNetLite0Config,
    LpipsConfig,
    OpenClipConfig,
)
from controlgen.networks import AnyNetwork, R3GANConfig
from controlgen.objectives import R3GAN, AnyObjective
from controlgen.regressors import AnyMap, CycleMLPConfig
from controlgen.schedules import CosineSchedule
from controlgen.synthetic import AnySynthetic, SyntheticDigits

Seed = Field(0, ge=0)
PerceptualChoice = Field(None, description="LPIPS in place of PD-efficientnet-lite0")
NAME = r"^[a-z0-9][a-z0-9-]*$"  # a run's name is part of folder names
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MIN_OBSERVATIONS = 8  # of a training; a verdict on it needs more


class MonitorConfig(BaseConfig):
    """Observations of a training while it runs; they do not change it."""

    extractor: AnyFeatureSpace = EfficientNetLite0Config()
    n: int = Field(256, ge=32, description="samples and real images per observation")
    every_images: int = Field(5_000, ge=1)


class TrainConfig(BaseConfig):
    """How a GAN is trained. Lengths are counted in real images shown to the critic."""

    dataset: AnyDataset
    network: AnyNetwork = R3GANConfig()
    objective: AnyObjective = R3GAN()
    augment: AnyAugment = NoAugment()
    batch_size: int = Field(64, ge=2)
    accumulate: int = Field(1, ge=1, description="micro-batches per batch")
    total_images: int = Field(1_000_000, ge=1)
    burn_in_images: int = Field(200_000, ge=0)
    learning_rate: CosineSchedule = CosineSchedule(start=2e-4, end=5e-5)
    beta2: CosineSchedule = CosineSchedule(start=0.9, end=0.99)
    ema_half_life: CosineSchedule = Field(
        CosineSchedule(start=0, end=50_000), description="in images"
    )
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    watch: MonitorConfig | None = Field(None, description="basis of the verdict on the run")
    seed: int = Seed
    start_from: Path | None = runtime_field(
        None,
        description="GAN or map folder whose generator the training starts from, with its critic "
        "if the folder holds a matching one",
    )
    device: Literal["auto", "cpu", "cuda"] = runtime_field("auto")
    checkpoint_images: int = runtime_field(20_000, ge=1)

    @model_validator(mode="after")
    def _batch_splits(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError("accumulate must divide batch_size")
        return self

    @model_validator(mode="after")
    def _observed_often_enough(self) -> Self:
        step = self.batch_size * self.objective.critic_steps
        if self.watch and MIN_OBSERVATIONS * (self.watch.every_images + step) > self.total_images:
            limit = max(self.total_images // MIN_OBSERVATIONS - step, 0)
            raise ValueError(
                f"watch.every_images must be at most {limit} here: a verdict needs more than "
                f"{MIN_OBSERVATIONS} observations within total_images"
            )
        return self

    @property
    def generator_steps(self) -> int:
        """Number of generator updates: one per `critic_steps` updates of the critic."""
        return -(-self.total_images // (self.batch_size * self.objective.critic_steps))

    def identity(self) -> dict[str, Any]:
        """Without `augment` and `watch` if unset, so that older runs keep their fingerprints."""
        settings = super().identity()
        if isinstance(self.augment, NoAugment):
            del settings["augment"]
        return _without_unset(settings, "watch")


class RejectionSamplingConfig(BaseConfig):
    """Rejection sampling: accept samples that are as close to real images as most real ones."""

    share: float = Field(0.95, gt=0, lt=1, description="accepted share of held-out real images")
    centres: int = Field(500, ge=1, description="k-means centres of real features")
    images: int = Field(20_000, ge=100, description="real training images used, at most")
    tries: int = Field(
        8, ge=2, description="draws per sample; the closest is taken if none is accepted"
    )
    seed: int = Seed


class SampleConfig(BaseConfig):
    """The sample bank: latents and the images generated from them."""

    n: int = Field(50_000, ge=16)
    seed: int = Field(1, ge=0)
    likeness: RejectionSamplingConfig | None = Field(
        None, description="rejection sampling, in the bank and wherever samples are drawn"
    )
    batch_size: int = runtime_field(256, ge=1)

    def identity(self) -> dict[str, Any]:
        """Without `likeness` if unset, so that older banks keep their fingerprints."""
        return _without_unset(super().identity(), "likeness")


class EmbedConfig(BaseConfig):
    """The feature space in which edits are made."""

    space: AnyFeatureSpace = OpenClipConfig()
    batch_size: int = runtime_field(256, ge=1)


class ReachabilityConfig(BaseConfig):
    """The calibrated confidence of edits and the data it is fitted on. No labels."""

    audit: AnyFeatureSpace = Field(
        EfficientNetLite0Config(), description="decides if an edit is close enough"
    )
    targets: int = Field(2_000, ge=20, description="target images; half of them validate the fit")
    neighbours: int = Field(5, ge=1, description="k of the distance to the k-th nearest neighbour")
    stored: int = Field(1_500, ge=1, description="bank features stored for the neighbour search")
    seed: int = Seed


class FitConfig(BaseConfig):
    """The feature-to-latent map; it is never fitted on the last `held_out` bank items."""

    map: AnyMap = CycleMLPConfig()
    attributes: AnyAttributes | None = Field(
        None, description="attributes measured on the bank's images, for named directions"
    )
    held_out: int = Field(2_000, ge=8)
    reachability: ReachabilityConfig | None = Field(
        None, description="fit a confidence score for edits"
    )
    real: int = Field(
        0, ge=0, le=20_000, description="real training images added to the cycle; no labels"
    )
    seed: int = Seed

    def identity(self) -> dict[str, Any]:
        """Without settings that came later and are unset: older maps keep their fingerprints."""
        return _without_unset(super().identity(), "attributes", "reachability", "real")


class EvaluateConfig(BaseConfig):
    """Sizes of the evaluation protocol. Labels and the judge are used here only."""

    audit: AnyFeatureSpace = EfficientNetLite0Config()
    judge: Literal["classifier", "probe", "none"] = Field(
        "classifier", description="a small network, a linear probe on audit features, or no judge"
    )
    class_names: tuple[str, ...] = Field(DIGITS, description="names in label order")
    prompt: str = Field(
        "a digit {}", pattern=r"^[^{}]*\{\}[^{}]*$", description="prompt of a class"
    )
    samples: int = Field(2_000, ge=16, description="generated and real images compared")
    inversions: int = Field(1_000, ge=16, description="held-out targets and gallery of recall at 1")
    sources: int = Field(32, ge=1, description="edited images per ordered pair of classes")
    exemplars: int = Field(16, ge=1)
    exemplars_by: Literal["auto", "judge"] = Field(
        "auto", description="auto: text if the space embeds text; judge: always by the judge"
    )
    slider_sources: int = Field(64, ge=2, description="source images per attribute slider")
    answers: int = Field(8, ge=0, le=32, description="candidates per target; below 2: none")
    memorisation: int = Field(0, ge=0, description="samples audited for copies; 0: no audit")
    amounts: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
    judge_epochs: int = Field(3, ge=1)
    optimisation_steps: int = Field(1_000, ge=1)
    optimisation_targets: int = Field(32, ge=1)
    bootstraps: int = Field(1_000, ge=10)
    perceptual: LpipsConfig | None = PerceptualChoice
    seed: int = Seed

    def identity(self) -> dict[str, Any]:
        """Without `perceptual` if unset, so that older runs keep their fingerprints."""
        return _without_unset(super().identity(), "perceptual")


class ClipConfig(BaseConfig):
    """Training of the small CLIP on procedural captioned images."""

    name: str = Field("clip-mini", pattern=NAME)
    world: AnySynthetic = SyntheticDigits()
    images: int = Field(600_000, ge=64)
    batch_size: int = Field(256, ge=2)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    embed_dim: int = Field(256, ge=8)
    image_size: int = Field(32, ge=16)
    tower: str = Field("resnet10t", description="timm model of the image encoder")
    text_width: int = Field(48, ge=16)
    text_layers: int = Field(2, ge=1)
    seed: int = Seed
    device: Literal["auto", "cpu", "cuda"] = runtime_field("auto")
    checkpoint_images: int = runtime_field(50_000, ge=1)


class EncoderConfig(BaseConfig):
    """Self-supervised training of an encoder; its features become invariant to `augment`."""

    name: str = Field("encoder", pattern=NAME)
    about: str = runtime_field(
        "", description="origin and licence of the images, for the model card"
    )
    dataset: AnyDataset
    augment: AnyViews
    images: int = Field(100_000, ge=16, description="images in total, two views each")
    batch_size: int = Field(256, ge=4)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    feature_size: int = Field(128, ge=8)
    tower: str = Field("resnet10t", description="timm model of the encoder")
    expander: int = Field(512, ge=8, description="width of the expander, which only the loss uses")
    invariance: float = Field(25.0, ge=0, description="weight of the invariance term")
    variance: float = Field(25.0, ge=0, description="weight of the variance term")
    covariance: float = Field(1.0, ge=0, description="weight of the covariance term")
    seed: int = Seed
    device: Literal["auto", "cpu", "cuda"] = runtime_field("auto")
    checkpoint_images: int = runtime_field(20_000, ge=1)


ConfigOverrides = dict[str, Any]  # settings that replace those of [train]


class RunConfig(BaseConfig):
    """A whole run: train, sample, embed, fit, evaluate (flows/pipeline.py)."""

    name: str = Field(pattern=NAME)
    about: str = runtime_field(
        "", description="origin and licence of the images, for the model card"
    )
    limits: tuple[str, ...] = runtime_field(
        (), description="limits of the model, for the model card"
    )
    train: TrainConfig
    warm_up: tuple[ConfigOverrides, ...] = Field(
        (), description="earlier trainings, as overrides of [train]"
    )
    # As with train.start_from, fingerprints cover the content of the folder.
    generator: Path | None = runtime_field(
        None, description="GAN, map or pretrained folder whose generator is used; no training"
    )
    sample: SampleConfig = SampleConfig()
    embed: EmbedConfig = EmbedConfig()
    fit: FitConfig = FitConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _check_warm_up(self) -> Self:
        if self.warm_up and self.train.start_from is not None:
            raise ValueError("warm_up: train.start_from already names a start; use one of the two")
        for index, overrides in enumerate(self.warm_up):
            where = "warm_up" if len(self.warm_up) == 1 else f"warm_up {index + 1}"
            _check_overrides(self.train, overrides, where, ("dataset", "network", "start_from"))
        return self

    @model_validator(mode="after")
    def _check_held_out(self) -> Self:
        if 2 * self.fit.held_out > self.sample.n:
            raise ValueError(
                f"fit.held_out = {self.fit.held_out} leaves less than half of sample.n = "
                f"{self.sample.n} to fit on; draw more samples or hold out fewer"
            )
        return self

    @field_validator("warm_up", mode="before")
    @classmethod
    def _wrap_single_warm_up(cls, value: Any) -> Any:
        return (value,) if isinstance(value, Mapping) else value

    def training_phases(self) -> tuple[TrainConfig, ...]:
        """All trainings in order; each but the first starts from the previous one."""
        return (*(with_overrides(self.train, phase) for phase in self.warm_up), self.train)

    def trainings(self) -> tuple[TrainConfig, ...]:
        """The same as `training_phases`."""
        return self.training_phases()


def with_overrides(
    train: TrainConfig, overrides: ConfigOverrides, source: str = "train"
) -> TrainConfig:
    """`train` with some settings replaced, runtime fields included. Raises ConfigError."""
    settings = {name: getattr(train, name) for name in TrainConfig.model_fields}
    return TrainConfig.parse({**settings, **overrides}, source)


def _check_overrides(
    train: TrainConfig, overrides: ConfigOverrides, where: str, shared: Sequence[str]
) -> None:
    # Raises ValueError if the overrides are invalid or touch a shared setting.
    for key in shared:
        if key in overrides:
            raise ValueError(f"{where}.{key}: is shared with train; set it there")
    try:
        with_overrides(train, overrides, where)
    except ConfigError as error:
        raise ValueError(str(error)) from None


SpaceName = Annotated[str, Field(pattern=NAME)]


class SpacesConfig(BaseConfig):
    """A comparison of feature spaces on labelled images; nothing is trained."""

    name: str = Field("spaces", pattern=NAME)
    dataset: AnyDataset
    spaces: dict[SpaceName, AnyFeatureSpace] = Field(min_length=1, description="name -> space")
    attributes: AnyAttributes | None = Field(None, description="attributes measured for linear R^2")
    prompts: dict[str, tuple[str, ...]] = Field({}, description="class name -> texts")
    images: int = Field(4_000, ge=16, description="images per split, at most; drawn at random")
    seed: int = Seed
    bootstraps: int = Field(1_000, ge=10)

    @model_validator(mode="after")
    def _check_prompts(self) -> Self:
        for name, texts in self.prompts.items():
            if not texts or not all(text.strip() for text in texts):
                raise ValueError(f"prompts.{name}: give at least one text, none of them blank")
        return self

    def identity(self) -> dict[str, Any]:
        """The settings, with the identity of each space."""
        settings = super().identity()
        settings["spaces"] = {name: space.identity() for name, space in self.spaces.items()}
        return settings


SHARED_KEYS = ("dataset", "network", "total_images", "seed", "watch", "start_from")


class CompareConfig(BaseConfig):
    """A comparison of trainings on the same data, network and budget."""

    name: str = Field("compare", pattern=NAME)
    about: str = runtime_field("", description="origin and licence of the images")
    train: TrainConfig
    members: dict[SpaceName, ConfigOverrides] = Field(
        min_length=2, description="overrides of [train]"
    )
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    extractor: AnyFeatureSpace = EfficientNetLite0Config()
    n: int = Field(1_000, ge=20, description="samples, and real images per split")
    paths: int = Field(500, ge=10, description="steps of the path length")
    bootstraps: int = Field(200, ge=10)
    perceptual: LpipsConfig | None = PerceptualChoice

    def identity(self) -> dict[str, Any]:
        """Without `perceptual` if unset, so that older runs keep their fingerprints."""
        return _without_unset(super().identity(), "perceptual")

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError("seeds: must differ and be at least 0")
        if self.train.watch is None:
            raise ValueError("train.watch is missing: verdicts need its observations")
        for name, overrides in self.members.items():
            _check_overrides(self.train, overrides, f"members.{name}", SHARED_KEYS)
        return self

    def training(self, member: str, seed: int) -> TrainConfig:
        """The training of a member with a seed."""
        return with_overrides(self.train, {**self.members[member], "seed": seed})

    @property
    def budget(self) -> str:
        """The budget in words: images per critic and updates per generator."""
        members: dict[int, list[str]] = {}
        for name in self.members:
            steps = self.training(name, self.seeds[0]).generator_steps
            members.setdefault(steps, []).append(name)
        updates = "; ".join(f"{steps:,} ({', '.join(names)})" for steps, names in members.items())
        return f"{self.train.total_images:,} real images per critic; generator updates: {updates}"


def _without_unset(identity: dict[str, Any], *names: str) -> dict[str, Any]:
    # Settings that came later do not change the fingerprints of runs that do not use them.
    return {name: value for name, value in identity.items() if value or name not in names}
