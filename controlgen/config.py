"""The typed settings of every stage; read from TOML, shown whole, refused where unknown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from controlgen.attributes import AnyAttributes
from controlgen.augmentations import AnyAugment, AnyViews, NoAugment
from controlgen.base_config import BaseConfig, runtime_field
from controlgen.datasets import AnyDataset
from controlgen.errors import ConfigError
from controlgen.features import AnyFeatureSpace, EfficientNetLite0, Lpips, OpenClip
from controlgen.networks import AnyNetwork, R3GANNetwork
from controlgen.objectives import R3GAN, AnyObjective
from controlgen.regressors import AnyMap, CycleMLP
from controlgen.schedules import Schedule
from controlgen.synthetic import AnyWorld, Glyphs

Seed = Field(0, ge=0)
PerceptualChoice = Field(None, description="LPIPS in place of PD-efficientnet-lite0")
NAME = r"^[a-z0-9][a-z0-9-]*$"  # of a run: a part of folder names
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


LOOKS = 8  # along a training, at the least


class WatchConfig(BaseConfig):
    """Evidence of how a training goes, gathered on the way without touching it."""

    extractor: AnyFeatureSpace = EfficientNetLite0()
    n: int = Field(256, ge=32, description="samples and real images compared each time")
    every_images: int = Field(5_000, ge=1)


class TrainConfig(BaseConfig):
    """How a GAN is trained. Lengths are counted in real images shown to the critic."""

    dataset: AnyDataset
    network: AnyNetwork = R3GANNetwork()
    objective: AnyObjective = R3GAN()
    augment: AnyAugment = NoAugment()
    batch_size: int = Field(64, ge=2)
    accumulate: int = Field(1, ge=1, description="micro-batches a batch is split into")
    total_images: int = Field(1_000_000, ge=1)
    burn_in_images: int = Field(200_000, ge=0)
    learning_rate: Schedule = Schedule(start=2e-4, end=5e-5)
    beta2: Schedule = Schedule(start=0.9, end=0.99)
    ema_half_life: Schedule = Field(Schedule(start=0, end=50_000), description="in images")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    watch: WatchConfig | None = Field(None, description="what the verdict on the run rests on")
    seed: int = Seed
    # The path is a runtime field: what is found there goes into the fingerprint by its content.
    start_from: Path | None = runtime_field(
        None,
        description="GAN or map folder whose generator is trained on, and its critic where the "
        "folder holds one that fits",
    )
    device: Literal["auto", "cpu", "cuda"] = runtime_field("auto")
    checkpoint_images: int = runtime_field(20_000, ge=1)

    @model_validator(mode="after")
    def _batch_splits(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError("accumulate must divide batch_size")
        return self

    @model_validator(mode="after")
    def _watched_often(self) -> Self:
        step = self.batch_size * self.objective.critic_steps
        if self.watch and LOOKS * (self.watch.every_images + step) > self.total_images:
            most = max(self.total_images // LOOKS - step, 0)
            raise ValueError(
                f"watch.every_images must be at most {most} here, for a verdict needs more than "
                f"{LOOKS} looks along total_images"
            )
        return self

    @property
    def generator_steps(self) -> int:
        """How often the generator is updated, once for so many updates of the critic."""
        return -(-self.total_images // (self.batch_size * self.objective.critic_steps))

    def identity(self) -> dict[str, Any]:
        """As of any Spec, but no augmentation is no setting: such runs keep the names they had.

        Likewise a run that nobody watches.
        """
        kept = super().identity()
        if isinstance(self.augment, NoAugment):
            del kept["augment"]
        return _without_unset(kept, "watch")


class LikenessConfig(BaseConfig):
    """Which samples are kept: those as like real images as most real images are. No labels."""

    share: float = Field(0.95, gt=0, lt=1, description="of unseen real images, would be kept")
    centres: int = Field(500, ge=1, description="of real features, by k-means")
    images: int = Field(20_000, ge=100, description="real training images looked at, at most")
    tries: int = Field(8, ge=2, description="draws for a sample; if none is kept, the likest is")
    seed: int = Seed


class SampleConfig(BaseConfig):
    """A bank of latents and their images."""

    n: int = Field(50_000, ge=16)
    seed: int = Field(1, ge=0)
    likeness: LikenessConfig | None = Field(
        None, description="keep samples like real images, in the bank and wherever samples are made"
    )
    batch_size: int = runtime_field(256, ge=1)

    def identity(self) -> dict[str, Any]:
        """As of any Spec, but no likeness is no setting: such banks keep the names they had."""
        return _without_unset(super().identity(), "likeness")


class EmbedConfig(BaseConfig):
    """The feature space that edits are made in."""

    space: AnyFeatureSpace = OpenClip()
    batch_size: int = runtime_field(256, ge=1)


class ReachabilityConfig(BaseConfig):
    """How far answers can be believed: what a score of that is learned from. No labels."""

    audit: AnyFeatureSpace = Field(
        EfficientNetLite0(), description="in which an answer is near to what was asked, or not"
    )
    targets: int = Field(2_000, ge=20, description="images asked for; half of them judge")
    neighbours: int = Field(5, ge=1, description="the k of the distance to the k-th nearest")
    stored: int = Field(1_500, ge=1, description="bank features kept to find the nearest among")
    seed: int = Seed


class FitConfig(BaseConfig):
    """The feature-to-latent map; the last `held_out` bank items are never fitted on."""

    map: AnyMap = CycleMLP()
    attributes: AnyAttributes | None = Field(
        None, description="measured on the bank's images, for directions by name"
    )
    held_out: int = Field(2_000, ge=8)
    reachability: ReachabilityConfig | None = Field(
        None, description="a score of how far each answer can be believed"
    )
    real: int = Field(
        0, ge=0, le=20_000, description="training images that the cycle asks for as well; no labels"
    )
    seed: int = Seed

    def identity(self) -> dict[str, Any]:
        """As of any Spec, but no attributes are no setting: such maps keep the names they had.

        Likewise no reachability, and no real images.
        """
        return _without_unset(super().identity(), "attributes", "reachability", "real")


class EvaluateConfig(BaseConfig):
    """The protocol's sizes. Labels and the judge exist here and nowhere else."""

    audit: AnyFeatureSpace = EfficientNetLite0()
    judge: Literal["classifier", "probe", "none"] = Field(
        "classifier", description="a small network, a linear probe on audit features, or nobody"
    )
    class_names: tuple[str, ...] = Field(DIGITS, description="in the order of the labels")
    prompt: str = Field("a digit {}", pattern=r"^[^{}]*\{\}[^{}]*$", description="text of a class")
    samples: int = Field(2_000, ge=16, description="generated and real images compared")
    inversions: int = Field(1_000, ge=16, description="held-out targets, and the gallery of R@1")
    sources: int = Field(32, ge=1, description="edited images per ordered pair of classes")
    exemplars: int = Field(16, ge=1)
    exemplars_by: Literal["auto", "judge"] = Field(
        "auto", description="text where the space has text, or always the judge as the user's eye"
    )
    slider_sources: int = Field(64, ge=2, description="images each attribute's slider is tried on")
    answers: int = Field(8, ge=0, le=32, description="to each of some targets; below 2: not asked")
    memorisation: int = Field(0, ge=0, description="samples audited for copies; 0: no audit")
    amounts: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
    judge_epochs: int = Field(3, ge=1)
    optimisation_steps: int = Field(1_000, ge=1)
    optimisation_targets: int = Field(32, ge=1)
    bootstraps: int = Field(1_000, ge=10)
    perceptual: Lpips | None = PerceptualChoice
    seed: int = Seed

    def identity(self) -> dict[str, Any]:
        """As of any Spec, but no choice of a perceptual distance is no setting."""
        return _without_unset(super().identity(), "perceptual")


class ClipConfig(BaseConfig):
    """How the embedded CLIP is trained on a procedural captioned world."""

    name: str = Field("clip-mini", pattern=NAME)
    world: AnyWorld = Glyphs()
    images: int = Field(600_000, ge=64)
    batch_size: int = Field(256, ge=2)
    learning_rate: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    embed_dim: int = Field(256, ge=8)
    image_size: int = Field(32, ge=16)
    tower: str = Field("resnet10t", description="timm model of the image tower")
    text_width: int = Field(48, ge=16)
    text_layers: int = Field(2, ge=1)
    seed: int = Seed
    device: Literal["auto", "cpu", "cuda"] = runtime_field("auto")
    checkpoint_images: int = runtime_field(50_000, ge=1)


class EncoderConfig(BaseConfig):
    """How an encoder is trained on unlabelled images; `augment` is what its features forget."""

    name: str = Field("encoder", pattern=NAME)
    about: str = runtime_field("", description="of the images, for the card: origin and licence")
    dataset: AnyDataset
    augment: AnyViews
    images: int = Field(100_000, ge=16, description="shown in all, each in two views")
    batch_size: int = Field(256, ge=4)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    feature_size: int = Field(128, ge=8)
    tower: str = Field("resnet10t", description="timm model")
    expander: int = Field(512, ge=8, description="width of the layers that only the loss sees")
    invariance: float = Field(25.0, ge=0, description="weight of its term")
    variance: float = Field(25.0, ge=0, description="weight of its term")
    covariance: float = Field(1.0, ge=0, description="weight of its term")
    seed: int = Seed
    device: Literal["auto", "cpu", "cuda"] = runtime_field("auto")
    checkpoint_images: int = runtime_field(20_000, ge=1)


Change = dict[str, Any]  # settings of a [train] that are other ones here


class RunConfig(BaseConfig):
    """The whole line: what flows/pipeline.py runs."""

    name: str = Field(pattern=NAME)
    about: str = runtime_field("", description="of the images, for the card: origin and licence")
    limits: tuple[str, ...] = runtime_field((), description="of the model, for the card")
    train: TrainConfig
    warm_up: tuple[Change, ...] = Field(
        (), description="one or several trainings before: what is other in each than in train"
    )
    # As of train.start_from: what is found there goes into fingerprints by its content.
    generator: Path | None = runtime_field(
        None, description="GAN, map or shipped folder whose generator is taken; nothing is trained"
    )
    sample: SampleConfig = SampleConfig()
    embed: EmbedConfig = EmbedConfig()
    fit: FitConfig = FitConfig()
    evaluate: EvaluateConfig = EvaluateConfig()

    @model_validator(mode="after")
    def _warms_up(self) -> Self:
        if self.warm_up and self.train.start_from is not None:
            raise ValueError("warm_up: train.start_from says already what to start from")
        for at, change in enumerate(self.warm_up):
            where = "warm_up" if len(self.warm_up) == 1 else f"warm_up {at + 1}"
            _checked(self.train, change, where, ("dataset", "network", "start_from"))
        return self

    @model_validator(mode="after")
    def _leaves_enough(self) -> Self:
        if 2 * self.fit.held_out > self.sample.n:
            raise ValueError(
                f"fit.held_out = {self.fit.held_out} leaves less than half of sample.n = "
                f"{self.sample.n} to fit on; draw more samples or hold out fewer"
            )
        return self

    @field_validator("warm_up", mode="before")
    @classmethod
    def _one_or_several(cls, said: Any) -> Any:
        return (said,) if isinstance(said, Mapping) else said

    def trainings(self) -> tuple[TrainConfig, ...]:
        """Every training in its order, each but the first started from the one before it."""
        return (*(changed(self.train, change) for change in self.warm_up), self.train)


def changed(train: TrainConfig, change: Change, source: str = "train") -> TrainConfig:
    """The same training with other settings, runtime fields kept. Raises ConfigError."""
    own = {name: getattr(train, name) for name in TrainConfig.model_fields}
    return TrainConfig.parse({**own, **change}, source)


def _checked(train: TrainConfig, change: Change, where: str, shared: Sequence[str]) -> None:
    # Raises ValueError where a change is none that a training can have, or touches what is shared.
    for key in shared:
        if key in change:
            raise ValueError(f"{where}.{key}: is shared with train; set it there")
    try:
        changed(train, change, where)
    except ConfigError as error:
        raise ValueError(str(error)) from None


SpaceName = Annotated[str, Field(pattern=NAME)]


class SpacesConfig(BaseConfig):
    """Which feature spaces are compared, on which pictures. Labels judge, and nothing is kept."""

    name: str = Field("spaces", pattern=NAME)
    dataset: AnyDataset
    spaces: dict[SpaceName, AnyFeatureSpace] = Field(min_length=1, description="name -> space")
    attributes: AnyAttributes | None = Field(None, description="measured, for linear R^2")
    prompts: dict[str, tuple[str, ...]] = Field({}, description="texts of each class, by its name")
    images: int = Field(4_000, ge=16, description="of each split at most, drawn at random")
    seed: int = Seed
    bootstraps: int = Field(1_000, ge=10)

    @model_validator(mode="after")
    def _has_texts(self) -> Self:
        for name, texts in self.prompts.items():
            if not texts or not all(text.strip() for text in texts):
                raise ValueError(f"prompts.{name}: give at least one text, and none that is blank")
        return self

    def identity(self) -> dict[str, Any]:
        """As of any Spec; the table of spaces is one of Specs."""
        kept = super().identity()
        kept["spaces"] = {name: space.identity() for name, space in self.spaces.items()}
        return kept


SHARED = ("dataset", "network", "total_images", "seed", "watch", "start_from")


class CompareConfig(BaseConfig):
    """Trainings that differ in a few settings, on the same data, network and budget."""

    name: str = Field("compare", pattern=NAME)
    about: str = runtime_field("", description="of the images: origin and licence")
    train: TrainConfig
    members: dict[SpaceName, Change] = Field(min_length=2, description="name -> what it changes")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    extractor: AnyFeatureSpace = EfficientNetLite0()
    n: int = Field(1_000, ge=20, description="samples, and real images of each split, compared")
    paths: int = Field(500, ge=10, description="small steps behind the path length")
    bootstraps: int = Field(200, ge=10)
    perceptual: Lpips | None = PerceptualChoice

    def identity(self) -> dict[str, Any]:
        """As of any Spec, but no choice of a perceptual distance is no setting."""
        return _without_unset(super().identity(), "perceptual")

    @model_validator(mode="after")
    def _members_are_trainings(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise ValueError("seeds: give each one once, none below 0")
        if self.train.watch is None:
            raise ValueError("train.watch is missing: verdicts rest on it")
        for name, change in self.members.items():
            _checked(self.train, change, f"members.{name}", SHARED)
        return self

    def training(self, member: str, seed: int) -> TrainConfig:
        """How this member is trained with this seed."""
        return changed(self.train, {**self.members[member], "seed": seed})

    @property
    def budget(self) -> str:
        """In words: what every critic is shown, and how often each generator is updated by it."""
        members: dict[int, list[str]] = {}
        for name in self.members:
            steps = self.training(name, self.seeds[0]).generator_steps
            members.setdefault(steps, []).append(name)
        told = "; ".join(f"{steps:,} ({', '.join(names)})" for steps, names in members.items())
        return (
            f"{self.train.total_images:,} real images shown to each critic, which is so many "
            f"updates of the generator: {told}"
        )


def _without_unset(identity: dict[str, Any], *names: str) -> dict[str, Any]:
    # Settings that came later leave the names of runs that do not use them as they were.
    return {name: kept for name, kept in identity.items() if kept or name not in names}
