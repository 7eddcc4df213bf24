"""Options that several commands share, and the parsing of their values."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from controlgen.errors import ArtifactMissing, ConfigError

if TYPE_CHECKING:
    from controlgen.features import LpipsConfig

PNG_SUFFIXES = (".png",)
DEFAULT_STORE = Path("artifacts")
StoreOption = Annotated[Path, Option("--store", help="Folder of the artifact store.")]
MapArgument = Annotated[str, Argument(help="A map, e.g. artifacts/pretrained/mnist.")]
PngOption = Annotated[Path, Option("-o", "--output", help="PNG file to write.")]
HoldOption = Annotated[str, Option(help="Measured attributes to keep constant, as in a,b.")]
ResidualOption = Annotated[bool, Option(help="Preserve more of a generated source.")]
RefineOption = Annotated[int, Option(min=0, help="Gradient steps after the map.")]
CorrectionsOption = Annotated[
    int | None,
    Option(min=0, help="Attribute-feedback iterations (default 8 with --hold, else 0)."),
]
LpipsOption = Annotated[
    str, Option(help="LPIPS network (alex, vgg, squeeze) instead of PD-efficientnet-lite0.")
]
LpipsWeightsOption = Annotated[
    Path | None, Option(help="Folder of LPIPS weights, if not in torch's cache.")
]


def resolve_artifact(name: str, store: Path) -> Path:
    """The folder of an artifact: a path, kind/name or name. Raises ArtifactMissing."""
    from controlgen.artifacts import Store

    if (Path(name) / "manifest.json").is_file():
        return Path(name)
    if (store / name / "manifest.json").is_file():
        return store / name
    matches = [ref for ref in Store(store).refs() if ref.name == name]
    if len(matches) == 1:
        return Store(store).path(matches[0])
    raise ArtifactMissing(f"{name}: no such artifact; `controlgen list` lists all")


def parse_csv_list(text: str, label: str = "--hold") -> tuple[str, ...]:
    """Names between commas; () for an empty text. Raises ConfigError where a name is blank."""
    names = tuple(part.strip() for part in text.split(",")) if text.strip() else ()
    if not all(names):
        raise ConfigError(f"{label} {text}: a name is blank; write names with commas between")
    return names


def parse_lpips(net: str, weights: Path | None) -> "LpipsConfig | None":
    """The settings of --lpips and --lpips-weights, None without them. Raises ConfigError."""
    from controlgen.features import LpipsConfig

    if net:
        return LpipsConfig.parse({"net": net, "weights": weights}, f"--lpips {net}")
    if weights is not None:
        raise ConfigError(f"--lpips-weights {weights}: requires --lpips")
    return None
