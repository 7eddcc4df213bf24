"""The files of a map: generator, map, statistics and the feature space, loadable without others.

generator.json          network settings and channels
generator.safetensors   averaged weights
map.json                kind and settings
map.safetensors         what the map learned
space.json              feature space settings and fingerprint
statistics.safetensors  principal components of the bank's features
bank.json               seed and size of the bank, from which its items are generated again
likeness.json           optional: settings and threshold of rejection sampling
likeness.safetensors    optional: cluster centres of real features
attributes.json         optional: the attributes that are measured on images
attributes.safetensors  optional: their linear model on features
reachability.json       optional: settings and accuracy of the confidence model
reachability.safetensors  optional: its arrays
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor

from controlgen.artifacts.store import open_artifact, read_manifest
from controlgen.attributes import AnyAttributes
from controlgen.base_config import BaseConfig
from controlgen.config import ReachabilityConfig, RejectionSamplingConfig
from controlgen.editing.attribute_model import AttributeModel
from controlgen.editing.confidence.fit import ConfidenceReport
from controlgen.editing.confidence.score import ConfidenceModel
from controlgen.editing.feature_pca import FeaturePCA
from controlgen.editing.rejection_sampling import RealismFilter
from controlgen.errors import ArtifactCorrupt, ArtifactMissing, Incompatible
from controlgen.features import AnyFeatureSpace, FeatureSpace
from controlgen.networks import AnyGenerator, AnyNetwork
from controlgen.regressors import AnyMap, Regressor
from controlgen.rng import torch_stream
from controlgen.types import Shape
from controlgen.utils.array_files import load_arrays, load_tensors, save_arrays, save_tensors
from controlgen.utils.files import read_json, sha256_of_file, write_json

GENERATOR = "generator.safetensors"
CRITIC = "critic.safetensors"
STATISTICS = "statistics.safetensors"
ATTRIBUTES = "attributes.safetensors"
REACHABILITY = "reachability.safetensors"
LIKENESS = "likeness.safetensors"
FINGERPRINTED_FILES = (
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
)  # files that the result of an edit depends on
Metadata = TypeVar("Metadata", bound=BaseConfig)
Part = TypeVar("Part")


class GeneratorMetadata(BaseConfig):
    """Content of generator.json."""

    network: AnyNetwork
    channels: int = Field(ge=1)


class SpaceMetadata(BaseConfig):
    """Content of space.json; `weights` is the fingerprint of the space."""

    space: AnyFeatureSpace
    weights: str


class BankMetadata(BaseConfig):
    """Content of bank.json: item i of the bank is sample i of this seed."""

    seed: int = Field(ge=0)
    n: int = Field(ge=1)


class AttributesMetadata(BaseConfig):
    """Content of attributes.json; `names` are those of the model's rows."""

    attributes: AnyAttributes
    names: tuple[str, ...]


class ConfidenceMetadata(BaseConfig):
    """Content of reachability.json."""

    reachability: ReachabilityConfig
    warn_below: float
    judged: ConfidenceReport


class RejectionSamplingMetadata(BaseConfig):
    """Content of likeness.json; `least` is the threshold."""

    likeness: RejectionSamplingConfig
    least: float


class EditorCheckpoint(NamedTuple):
    """The parts of an Editor; optional parts that the map was fitted without are None."""

    generator: AnyGenerator
    space: FeatureSpace
    map: Regressor
    statistics: FeaturePCA
    image_shape: Shape
    attributes: AttributeModel | None
    confidence_model: ConfidenceModel | None
    bank: BankMetadata | None
    weights: str
    realism_filter: RealismFilter | None


def save_generator(
    folder: Path, generator: AnyGenerator, network: AnyNetwork, channels: int
) -> None:
    """Write generator.json and generator.safetensors."""
    metadata = GeneratorMetadata(network=network, channels=channels)
    write_json(folder / "generator.json", metadata.to_dict())
    save_tensors(folder / GENERATOR, generator.state_dict())


def load_generator(folder: Path) -> tuple[AnyGenerator, Shape]:
    """The generator of a GAN or map folder and the shape of its images, in fp32.

    Raises ArtifactMissing, ArtifactCorrupt.
    """
    metadata = _load_metadata(GeneratorMetadata, folder / "generator.json")
    generator = metadata.network.generator(metadata.channels, torch_stream(0, "to be loaded"))
    try:
        generator.load_state_dict(load_tensors(folder / GENERATOR))
    except RuntimeError:
        raise ArtifactCorrupt(f"{folder / GENERATOR}: does not fit generator.json") from None
    size = metadata.network.image_size
    return generator.eval().requires_grad_(False), (metadata.channels, size, size)


def load_verified_generator(folder: Path) -> tuple[AnyGenerator, str]:
    """The generator of any GAN or map folder, verified, and a fingerprint of its weights.

    Raises ArtifactMissing, ArtifactCorrupt.
    """
    weights = open_artifact(folder) / GENERATOR
    if not weights.is_file():
        raise ArtifactMissing(f"{folder}: holds no generator; name an artifact of kind gan or map")
    return load_generator(folder)[0], sha256_of_file(weights)[:12]


def load_critic(folder: Path) -> tuple[dict[str, Tensor], str] | None:
    """The critic's weights by name, verified, and their fingerprint; None in maps and exports.

    Raises ArtifactMissing, ArtifactCorrupt.
    """
    weights = open_artifact(folder) / CRITIC
    return (load_tensors(weights), sha256_of_file(weights)[:12]) if weights.is_file() else None


def save_map(
    folder: Path,
    settings: AnyMap,
    regressor: Regressor,
    statistics: FeaturePCA,
    space: AnyFeatureSpace,
    fingerprint: str,
) -> None:
    """Write the map, its bank's statistics, and settings and fingerprint of its feature space."""
    save_arrays(folder / STATISTICS, statistics.arrays())
    write_json(folder / "map.json", settings.to_dict())
    save_arrays(folder / "map.safetensors", regressor.arrays())
    metadata = SpaceMetadata(space=space, weights=fingerprint)
    write_json(folder / "space.json", metadata.to_dict())


def save_bank(folder: Path, seed: int, n: int) -> None:
    """Write bank.json."""
    write_json(folder / "bank.json", BankMetadata(seed=seed, n=n).to_dict())


def save_attributes(folder: Path, model: AttributeModel) -> None:
    """Write attributes.json and attributes.safetensors."""
    metadata = AttributesMetadata(attributes=model.settings, names=model.names)
    write_json(folder / "attributes.json", metadata.to_dict())
    save_arrays(folder / ATTRIBUTES, model.arrays())


def save_confidence(
    folder: Path, config: ReachabilityConfig, model: ConfidenceModel, report: ConfidenceReport
) -> None:
    """Write reachability.json, with the report, and reachability.safetensors."""
    metadata = ConfidenceMetadata(reachability=config, warn_below=model.warn_below, judged=report)
    write_json(folder / "reachability.json", metadata.to_dict())
    save_arrays(folder / REACHABILITY, model.arrays())


def save_realism_filter(
    folder: Path, config: RejectionSamplingConfig, realism_filter: RealismFilter
) -> None:
    """Write likeness.json and likeness.safetensors."""
    metadata = RejectionSamplingMetadata(likeness=config, least=realism_filter.threshold)
    write_json(folder / "likeness.json", metadata.to_dict())
    save_arrays(folder / LIKENESS, realism_filter.arrays())


def load_realism_filter(folder: Path, size: int) -> RealismFilter | None:
    """The filter of a bank's or map's folder for features of `size`; None if it has none.

    Raises ArtifactCorrupt.
    """
    path = folder / "likeness.json"
    if not path.is_file():
        return None
    metadata = _load_metadata(RejectionSamplingMetadata, path)
    settings = (metadata.least, metadata.likeness.tries, size)
    return _restore(folder / LIKENESS, lambda arrays: RealismFilter.restore(arrays, *settings))


def load_confidence_metadata(folder: Path) -> ConfidenceMetadata | None:
    """Content of reachability.json in a map's folder; None if it has none.

    Raises Incompatible where an earlier version wrote it.
    """
    path = folder / "reachability.json"
    if not path.is_file():
        return None
    if "weights" in read_json(path):
        raise Incompatible(
            f"{path}: was written by an earlier version with another score; remove {folder} and "
            "fit the map again"
        )
    return _load_metadata(ConfidenceMetadata, path)


def load_checkpoint(folder: Path, generator_folder: Path | None = None) -> EditorCheckpoint:
    """Verify and load a map's folder.

    Raises ArtifactMissing, ArtifactCorrupt, and Incompatible where `generator_folder` holds another
    generator than the map was fitted to, or the installed feature space is another version.
    """
    open_artifact(folder)
    if not (folder / "map.json").is_file():
        raise ArtifactMissing(f"{folder}: is an artifact but not a map; name one of kind map")
    if generator_folder is not None:
        open_artifact(generator_folder)
        _require_same_generator(folder, generator_folder)
    generator, shape = load_generator(folder)
    regressor = _load_map_settings(folder / "map.json").build()
    statistics = _restore(folder / STATISTICS, FeaturePCA.restore)
    space, bank = _load_space(folder), folder / "bank.json"
    return EditorCheckpoint(
        generator=generator,
        space=space,
        map=regressor.restore(load_arrays(folder / "map.safetensors")),
        statistics=statistics,
        image_shape=shape,
        attributes=_load_attributes(folder, statistics, shape),
        confidence_model=_load_confidence(folder, statistics),
        bank=_load_metadata(BankMetadata, bank) if bank.is_file() else None,
        weights=_fingerprint(folder),
        realism_filter=load_realism_filter(folder, space.size),
    )


def _fingerprint(folder: Path) -> str:
    # By the content of the files, not by where they are.
    files = read_manifest(folder).files
    relevant = {name: digest for name, digest in files.items() if name in FINGERPRINTED_FILES}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:12]


def _require_same_generator(folder: Path, other: Path) -> None:
    path = other / GENERATOR
    if not path.is_file():
        raise ArtifactMissing(f"{other}: holds no generator; name an artifact of kind gan")
    if sha256_of_file(path) != sha256_of_file(folder / GENERATOR):
        raise Incompatible(
            f"{folder}: was fitted to another generator than {other}; fit a map to that one with "
            "`python -m flows.pipeline`, or omit --generator"
        )


def _load_space(folder: Path) -> FeatureSpace:
    metadata = _load_metadata(SpaceMetadata, folder / "space.json")
    # The embedded CLIP may be in the folder that holds a pretrained map.
    space: FeatureSpace = metadata.space.open(search=(folder.resolve().parent,))
    if space.fingerprint != metadata.weights:
        raise Incompatible(
            f"{folder}: was fitted to another version of its feature space ({metadata.weights}, "
            f"installed {space.fingerprint}); fit the map again"
        )
    return space


def _load_attributes(folder: Path, statistics: FeaturePCA, shape: Shape) -> AttributeModel | None:
    path = folder / "attributes.json"
    if not path.is_file():
        return None
    metadata = _load_metadata(AttributesMetadata, path)
    settings = metadata.attributes
    if metadata.names != settings.names:
        raise Incompatible(
            f"{folder}: this version measures its attributes ({', '.join(metadata.names)}) "
            "differently; fit the map again"
        )
    settings.check(shape)
    return _restore(
        folder / ATTRIBUTES, lambda arrays: AttributeModel.restore(settings, arrays, statistics)
    )


def _load_confidence(folder: Path, statistics: FeaturePCA) -> ConfidenceModel | None:
    metadata = load_confidence_metadata(folder)
    if metadata is None:
        return None
    settings = (metadata.reachability.neighbours, metadata.warn_below)
    return _restore(
        folder / REACHABILITY,
        lambda arrays: ConfidenceModel.restore(arrays, statistics, *settings),
    )


def _restore(path: Path, restore: Callable[[Mapping[str, NDArray[Any]]], Part]) -> Part:
    try:
        return restore(load_arrays(path))
    except KeyError as error:
        raise ArtifactCorrupt(f"{path}: lacks {error}") from None
    except ArtifactCorrupt as error:
        raise ArtifactCorrupt(f"{path}: {error}") from None


def _load_metadata(kind: type[Metadata], path: Path) -> Metadata:
    return kind.parse(read_json(path), str(path))


def _load_map_settings(path: Path) -> AnyMap:
    try:
        settings: AnyMap = TypeAdapter(AnyMap).validate_python(read_json(path))
    except ValidationError:
        raise ArtifactCorrupt(f"{path}: describes no map that this version supports") from None
    return settings
