"""The maps that are served, and the directions kept beside each."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from controlgen.artifacts import read_manifest
from controlgen.editing import Editor
from controlgen.editing.directions.axes import FAMILIES
from controlgen.editing.directions.storage import LARGEST_FILE, SUFFIX, direction_of
from controlgen.editing.expressions.files import LocalFiles
from controlgen.errors import ArtifactMissing, ConfigError, Incompatible
from controlgen.serve.schemas import ModelOut, SpaceOut


@dataclass
class Served:
    """One map under its name. `directions` are contents of direction files by file name."""

    name: str
    editor: Editor
    card: str
    most_directions: int
    directions: "OrderedDict[str, bytes]" = field(default_factory=OrderedDict)

    def keep(self, name: str, content: bytes) -> bool:
        """Keep a direction file; whether another one of this name is gone by it.

        Beyond `most_directions` the one kept longest goes.
        """
        before = self.directions.pop(name, content)
        self.directions[name] = content
        while len(self.directions) > self.most_directions:
            self.directions.popitem(last=False)
        return before != content

    @property
    def about(self) -> str:
        """What must be said beside every picture of it; tissue is what is in colour here."""
        return "Synthetic; not for diagnosis." if self.editor.image_shape[0] == 3 else "Synthetic."

    def described(self) -> ModelOut:
        """What there is to know of it."""
        editor, space = self.editor, self.editor.space
        return ModelOut(
            name=self.name,
            about=self.about,
            weights=editor.weights,
            image_shape=editor.image_shape,
            latent_size=editor.latent_size,
            space=SpaceOut(
                kind=type(space).__name__,
                size=space.size,
                fingerprint=space.fingerprint,
                text=hasattr(space, "embed_text"),
            ),
            map=type(editor.map).__name__,
            bank=editor.bank.n if editor.bank else None,
            attributes=list(editor.attributes.names) if editor.attributes else [],
            axes=list(FAMILIES),
            directions=list(self.directions),
            reachability=editor.reachability is not None,
        )


def open_models(
    folders: Sequence[Path], directions: Path | None, most_directions: int
) -> dict[str, Served]:
    """Open maps by the names of their folders, each with the saved directions that fit it.

    Raises ConfigError where two have one name, where a direction fits none, and what opening a map
    raises.
    """
    served: dict[str, Served] = {}
    for folder in folders:
        name = folder.resolve().name
        if name in served:
            raise ConfigError(f"{folder}: another model is served as {name} already; rename one")
        read_manifest(folder)  # says at once where it is no artifact
        card = folder / "README.md"
        words = card.read_text(encoding="utf-8") if card.is_file() else ""
        served[name] = Served(name, Editor.load(folder), words, most_directions)
    if directions is not None:
        _keep_saved(directions, list(served.values()))
    return served


def chosen(models: Mapping[str, Served], name: str | None) -> Served:
    """The model of a name, or the only one. Raises ArtifactMissing, ConfigError."""
    if name is None:
        if len(models) > 1:
            raise ConfigError(f"model: say which; there is {', '.join(models)}")
        return next(iter(models.values()))
    if name not in models:
        raise ArtifactMissing(f"model {name[:100]!r}: not served; there is {', '.join(models)}")
    return models[name]


def _keep_saved(folder: Path, served: Sequence[Served]) -> None:
    paths = sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []
    if not paths:
        raise ConfigError(f"--directions {folder}: holds no {SUFFIX} file")
    for path in paths:
        content = LocalFiles().read(str(path), LARGEST_FILE)
        fits = 0
        for one in served:
            space = one.editor.space
            try:
                direction_of(content, str(path), space.fingerprint, space.size)
            except Incompatible:
                continue
            one.keep(path.name, content)
            fits += 1
        if not fits:
            raise ConfigError(f"{path}: belongs to no feature space of the models served")
