"""A map's folder: generator, map, statistics and the name of the feature space, loadable alone.

generator.json          network settings and channels
generator.safetensors   averaged weights
map.json                kind and settings
map.safetensors         what the map learned
space.json              feature space settings and fingerprint
statistics.safetensors  principal components of the bank's features
likeness.json           which samples are kept, where the bank was drawn with likeness
likeness.safetensors    centres of real images' features, likewise
bank.json               seed and size of the bank, from which any item of it can be drawn again
attributes.json         what is measured on images, where the map was fitted with attributes
attributes.safetensors  the linear model of them on features, likewise
reachability.json       how far answers can be believed, where the map was fitted with it
reachability.safetensors  what held-out bank features have, likewise
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from controlgen.utils.array_files import load_arrays, load_tensors, save_arrays, save_tensors
from controlgen.artifacts.store import open_artifact, read_manifest
from controlgen.utils.files import read_json, sha256_of_file, write_json
from controlgen.attributes import AnyAttributes
from controlgen.base_config import BaseConfig
from controlgen.config import LikenessConfig, ReachabilityConfig
from controlgen.editing.attribute_model import AttributeModel
from controlgen.editing.confidence.fit import Judged
from controlgen.editing.confidence.score import Reachability
from controlgen.editing.feature_pca import Statistics
from controlgen.editing.rejection_sampling import Likeness
from controlgen.errors import ArtifactCorrupt, ArtifactMissing, Incompatible
from controlgen.features import AnyFeatureSpace, FeatureSpace
from controlgen.networks import AnyGenerator, AnyNetwork
from controlgen.regressors import AnyMap, Regressor
from controlgen.rng import torch_stream
from controlgen.types import Shape

GENERATOR = "generator.safetensors"
CRITIC = "critic.safetensors"
STATISTICS = "statistics.safetensors"
ATTRIBUTES = "attributes.safetensors"
REACHABILITY = "reachability.safetensors"
LIKENESS = "likeness.safetensors"
DRAWN = (
    "generator.json",
    GENERATOR,
    "map.json",
    "map.safetensors",
    "space.json",
    STATISTICS,
    "attributes.json",
    ATTRIBUTES,
    "likeness.json",
    LIKENESS,
)  # files that a picture depends on
S = TypeVar("S", bound=BaseConfig)


class GeneratorDescription(BaseConfig):
    """What generator.json holds."""

    network: AnyNetwork
    channels: int = Field(ge=1)


class SpaceDescription(BaseConfig):
    """What space.json holds; `weights` is the space's fingerprint."""

    space: AnyFeatureSpace
    weights: str


class BankDescription(BaseConfig):
    """What bank.json holds: item i of the bank is sample i of this seed."""

    seed: int = Field(ge=0)
    n: int = Field(ge=1)


class AttributesDescription(BaseConfig):
    """What attributes.json holds; `names` are those of the model's rows."""

    attributes: AnyAttributes
    names: tuple[str, ...]


class ReachabilityDescription(BaseConfig):
    """What reachability.json holds."""

    reachability: ReachabilityConfig
    warn_below: float
    judged: Judged


class LikenessDescription(BaseConfig):
    """What likeness.json holds: the settings, and how like real images a kept sample is."""

    likeness: LikenessConfig
    least: float


class Bundle(NamedTuple):
    """All that an Editor is made of; what the map was fitted without is None."""

    generator: AnyGenerator
    space: FeatureSpace
    map: Regressor
    statistics: Statistics
    image_shape: Shape
    attributes: AttributeModel | None
    reachability: Reachability | None
    bank: BankDescription | None
    weights: str
    likeness: Likeness | None


def save_generator(
    folder: Path, generator: AnyGenerator, network: AnyNetwork, channels: int
) -> None:
    """Write generator.json and generator.safetensors."""
    described = GeneratorDescription(network=network, channels=channels)
    write_json(folder / "generator.json", described.effective())
    save_tensors(folder / GENERATOR, generator.state_dict())


def load_generator(folder: Path) -> tuple[AnyGenerator, Shape]:
    """The generator of a GAN or map folder and the shape of its images, in fp32.

    Raises ArtifactMissing, ArtifactCorrupt.
    """
    described = _described(GeneratorDescription, folder / "generator.json")
    unset = torch_stream(0, "to be loaded")
    generator = described.network.generator(described.channels, unset)
    try:
        generator.load_state_dict(load_tensors(folder / GENERATOR))
    except RuntimeError:
        raise ArtifactCorrupt(f"{folder / GENERATOR}: does not fit generator.json") from None
    size = described.network.image_size
    return generator.eval().requires_grad_(False), (described.channels, size, size)


def open_generator(folder: Path) -> tuple[AnyGenerator, str]:
    """The generator of any GAN or map folder, verified, and a fingerprint of its weights.

    Raises ArtifactMissing, ArtifactCorrupt.
    """
    weights = open_artifact(folder) / GENERATOR
    if not weights.is_file():
        raise ArtifactMissing(f"{folder}: holds no generator; name an artifact of kind gan or map")
    return load_generator(folder)[0], sha256_of_file(weights)[:12]


def open_critic(folder: Path) -> tuple[dict[str, Tensor], str] | None:
    """The critic's weights by name, verified, and their fingerprint; None where none was kept.

    A map's folder and a shipped model hold none. Raises ArtifactMissing, ArtifactCorrupt.
    """
    weights = open_artifact(folder) / CRITIC
    return (load_tensors(weights), sha256_of_file(weights)[:12]) if weights.is_file() else None


def save_map(
    folder: Path,
    settings: AnyMap,
    fitted: Regressor,
    statistics: Statistics,
    space: AnyFeatureSpace,
    fingerprint: str,
) -> None:
    """Write the map, its bank's statistics and the name of its feature space."""
    save_arrays(folder / STATISTICS, statistics.arrays())
    write_json(folder / "map.json", settings.effective())
    save_arrays(folder / "map.safetensors", fitted.arrays())
    described = SpaceDescription(space=space, weights=fingerprint)
    write_json(folder / "space.json", described.effective())


def save_bank(folder: Path, seed: int, n: int) -> None:
    """Write bank.json."""
    write_json(folder / "bank.json", BankDescription(seed=seed, n=n).effective())


def save_attributes(folder: Path, model: AttributeModel) -> None:
    """Write attributes.json and attributes.safetensors beside the map's statistics."""
    described = AttributesDescription(attributes=model.settings, names=model.names)
    write_json(folder / "attributes.json", described.effective())
    save_arrays(folder / ATTRIBUTES, model.arrays())


def save_reachability(
    folder: Path, config: ReachabilityConfig, found: Reachability, judged: Judged
) -> None:
    """Write reachability.json, with what it is worth, and reachability.safetensors."""
    described = ReachabilityDescription(
        reachability=config,
        warn_below=found.warn_below,
        judged=judged,
    )
    write_json(folder / "reachability.json", described.effective())
    save_arrays(folder / REACHABILITY, found.arrays())


def save_likeness(folder: Path, config: LikenessConfig, likeness: Likeness) -> None:
    """Write likeness.json and likeness.safetensors."""
    described = LikenessDescription(likeness=config, least=likeness.least)
    write_json(folder / "likeness.json", described.effective())
    save_arrays(folder / LIKENESS, likeness.arrays())


def open_likeness(folder: Path, size: int) -> Likeness | None:
    """Which samples a bank's or map's folder keeps, by features of `size`; None: all of them.

    Raises ArtifactCorrupt.
    """
    path = folder / "likeness.json"
    if not path.is_file():
        return None
    described = _described(LikenessDescription, path)
    try:
        arrays = load_arrays(folder / LIKENESS)
        return Likeness.restore(arrays, described.least, described.likeness.tries, size)
    except ArtifactCorrupt as error:
        raise ArtifactCorrupt(f"{folder / LIKENESS}: {error}") from None


def read_reachability(folder: Path) -> ReachabilityDescription | None:
    """What reachability.json of a map's folder says; None where it was fitted without.

    Raises Incompatible where an earlier version wrote it.
    """
    path = folder / "reachability.json"
    if not path.is_file():
        return None
    if "weights" in read_json(path):
        raise Incompatible(
            f"{path}: is of an earlier version, which scored otherwise; remove {folder} and fit "
            "the map again"
        )
    return _described(ReachabilityDescription, path)


def load_bundle(folder: Path, generator_folder: Path | None = None) -> Bundle:
    """Open and verify a map's folder.

    Raises ArtifactMissing, ArtifactCorrupt, and Incompatible where `generator_folder` holds another
    generator than the map was fitted to, or the feature space found here is another one.
    """
    open_artifact(folder)
    if not (folder / "map.json").is_file():
        raise ArtifactMissing(f"{folder}: is an artifact but not a map; name one of kind map")
    if generator_folder is not None:
        open_artifact(generator_folder)
        _same_generator(folder, generator_folder)
    generator, shape = load_generator(folder)
    settings: Any = _parsed(AnyMap, folder / "map.json")
    fitted = settings.build().restore(load_arrays(folder / "map.safetensors"))
    try:
        statistics = Statistics.restore(load_arrays(folder / STATISTICS))
    except KeyError as error:
        raise ArtifactCorrupt(f"{folder / STATISTICS}: lacks {error}") from None
    attributes = _open_attributes(folder, statistics, shape)
    path = folder / "bank.json"
    bank = _described(BankDescription, path) if path.is_file() else None
    space, weights = _open_space(folder), _fingerprint(folder)
    believing = _open_reachability(folder, statistics)
    likeness = open_likeness(folder, space.size)
    named = (attributes, believing, bank, weights, likeness)
    return Bundle(generator, space, fitted, statistics, shape, *named)


def _fingerprint(folder: Path) -> str:
    # Of the files that a picture depends on, by what they hold and not by where they lie.
    files = read_manifest(folder).files
    kept = {name: digest for name, digest in files.items() if name in DRAWN}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def _same_generator(folder: Path, other: Path) -> None:
    path = other / GENERATOR
    if not path.is_file():
        raise ArtifactMissing(f"{other}: holds no generator; name an artifact of kind gan")
    if sha256_of_file(path) != sha256_of_file(folder / GENERATOR):
        raise Incompatible(
            f"{folder}: was fitted to another generator than {other}; fit a map to that one with "
            "`python -m flows.pipeline`, or leave --generator out"
        )


def _open_space(folder: Path) -> FeatureSpace:
    described = _described(SpaceDescription, folder / "space.json")
    # The embedded CLIP may lie beside a pretrained map.
    space: FeatureSpace = described.space.open(search=(folder.resolve().parent,))
    if space.fingerprint != described.weights:
        raise Incompatible(
            f"{folder}: was fitted to another version of its feature space ({described.weights}, "
            f"found {space.fingerprint}); fit the map again"
        )
    return space


def _open_attributes(folder: Path, statistics: Statistics, shape: Shape) -> AttributeModel | None:
    # Maps fitted without attributes have no such files.
    path = folder / "attributes.json"
    if not path.is_file():
        return None
    described = _described(AttributesDescription, path)
    if described.names != described.attributes.names:
        raise Incompatible(
            f"{folder}: its attributes ({', '.join(described.names)}) are measured otherwise in "
            "this version; fit the map again"
        )
    described.attributes.check(shape)
    try:
        arrays = load_arrays(folder / ATTRIBUTES)
        return AttributeModel.restore(described.attributes, arrays, statistics)
    except ArtifactCorrupt as error:
        raise ArtifactCorrupt(f"{folder / ATTRIBUTES}: {error}") from None


def _open_reachability(folder: Path, statistics: Statistics) -> Reachability | None:
    # Maps fitted without have no such files.
    described = read_reachability(folder)
    if described is None:
        return None
    try:
        return Reachability.restore(
            load_arrays(folder / REACHABILITY),
            statistics,
            described.reachability.neighbours,
            described.warn_below,
        )
    except ArtifactCorrupt as error:
        raise ArtifactCorrupt(f"{folder / REACHABILITY}: {error}") from None


def _described(kind: type[S], path: Path) -> S:
    return kind.parse(read_json(path), str(path))


def _parsed(union: Any, path: Path) -> Any:
    try:
        return TypeAdapter(union).validate_python(read_json(path))
    except ValidationError:
        raise ArtifactCorrupt(f"{path}: describes no map this version knows") from None
