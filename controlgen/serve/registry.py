"""The served models and their saved directions."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controlgen.artifacts import read_manifest
from controlgen.editing import Editor
from controlgen.editing.directions.axes import FAMILIES
from controlgen.editing.directions.storage import MAX_FILE_BYTES, SUFFIX, parse_direction
from controlgen.editing.expressions.files import LocalFiles
from controlgen.errors import ArtifactMissing, ConfigError, Incompatible
from controlgen.features.base import TorchClassifierSpace, TorchSpace
from controlgen.features.open_clip import OpenClipSpace
from controlgen.regressors.cycle_mlp import CycleMLPRegressor
from controlgen.regressors.flow import FlowRegressor
from controlgen.regressors.retrieval import RetrievalRegressor
from controlgen.regressors.ridge import RidgeRegressor
from controlgen.serve.schemas import ModelInfo, SpaceInfo

# Part of the HTTP interface: these names stay when a class is renamed.
KIND_NAMES: dict[type, str] = {
    OpenClipSpace: "OpenClipSpace",
    TorchClassifierSpace: "ClassifierSpace",
    TorchSpace: "TorchSpace",
    CycleMLPRegressor: "CycleMLPRegressor",
    FlowRegressor: "FlowRegressor",
    RetrievalRegressor: "RetrievalRegressor",
    RidgeRegressor: "RidgeRegressor",
}


@dataclass
class ServedModel:
    """An editor under a name. `directions` are contents of direction files by file name."""

    name: str
    editor: Editor
    card: str
    max_directions: int
    directions: "OrderedDict[str, bytes]" = field(default_factory=OrderedDict)

    def save_direction(self, name: str, content: bytes) -> bool:
        """Save a direction file; returns whether it replaces another one of this name.

        Beyond `max_directions` the oldest is dropped.
        """
        before = self.directions.pop(name, content)
        self.directions[name] = content
        while len(self.directions) > self.max_directions:
            self.directions.popitem(last=False)
        return before != content

    @property
    def notice(self) -> str:
        """The notice beside every image; colour images are tissue."""
        return "Synthetic; not for diagnosis." if self.editor.image_shape[0] == 3 else "Synthetic."

    def to_schema(self) -> ModelInfo:
        """What the API says about the model."""
        editor, space = self.editor, self.editor.space
        return ModelInfo(
            name=self.name,
            about=self.notice,
            weights=editor.weights,
            image_shape=editor.image_shape,
            latent_size=editor.latent_size,
            space=SpaceInfo(
                kind=_kind_name(space),
                size=space.size,
                fingerprint=space.fingerprint,
                text=hasattr(space, "embed_text"),
            ),
            map=_kind_name(editor.map),
            bank=editor.bank.n if editor.bank else None,
            attributes=list(editor.attributes.names) if editor.attributes else [],
            axes=list(FAMILIES),
            directions=list(self.directions),
            reachability=editor.confidence_model is not None,
        )


def open_models(
    folders: Sequence[Path], directions: Path | None, max_directions: int
) -> dict[str, ServedModel]:
    """Load maps by the names of their folders, each with the saved directions that fit it.

    Raises ConfigError where two have the same name or a direction fits none, and what loading a
    map raises.
    """
    models: dict[str, ServedModel] = {}
    for folder in folders:
        name = folder.resolve().name
        if name in models:
            raise ConfigError(f"{folder}: another model is served as {name} already; rename it")
        read_manifest(folder)  # raises where the folder is no artifact
        card = folder / "README.md"
        text = card.read_text(encoding="utf-8") if card.is_file() else ""
        models[name] = ServedModel(name, Editor.load(folder), text, max_directions)
    if directions is not None:
        _load_directions(directions, list(models.values()))
    return models


def get_model(models: Mapping[str, ServedModel], name: str | None) -> ServedModel:
    """The model of a name; without a name, the only model. Raises ArtifactMissing, ConfigError."""
    if name is None:
        if len(models) > 1:
            raise ConfigError(f"model: choose one of {', '.join(models)}")
        return next(iter(models.values()))
    if name not in models:
        raise ArtifactMissing(f"model {name[:100]!r}: not served; choose from {', '.join(models)}")
    return models[name]


def _kind_name(component: Any) -> str:
    return KIND_NAMES.get(type(component), type(component).__name__)


def _load_directions(folder: Path, models: Sequence[ServedModel]) -> None:
    paths = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    if not paths:
        raise ConfigError(f"--directions {folder}: holds no {SUFFIX} file")
    for path in paths:
        content = LocalFiles().read(str(path), MAX_FILE_BYTES)
        fits = 0
        for model in models:
            space = model.editor.space
            try:
                parse_direction(content, str(path), space.fingerprint, space.size)
            except Incompatible:
                continue
            model.save_direction(path.name, content)
            fits += 1
        if not fits:
            raise ConfigError(f"{path}: fits the feature space of no served model")
