"""What a pathologist might say of a drawn tile; every word is true by what was drawn."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Row = dict[str, float]  # MEASURED by name
Words = tuple[str, ...]

ATTRIBUTES = (
    "haematoxylin",
    "eosin",
    "nuclear_area",
    "nuclear_count",
    "nucleus_size",
    "roundness",
    "pleomorphism",
    "darkness",
    "glands",
    "gland_area",
    "irregularity",
    "lumen",
    "goblet",
    "lymphocytes",
    "stroma",
    "blood",
    "blur",
)


class Scale(NamedTuple):
    """Words for a measured quantity: `words[i]` are said of values between cuts i - 1 and i."""

    of: str | Callable[[Row], float]
    cuts: tuple[float, ...]
    words: tuple[Words, ...]

    def said(self, row: Row, chance: float) -> str:
        """A word for this tile, empty where the value is ordinary."""
        value = row[self.of] if isinstance(self.of, str) else self.of(row)
        options = self.words[int(np.searchsorted(self.cuts, value, side="right"))]
        return _pick(options, chance) if options else ""


def _of_glands(name: str) -> Callable[[Row], float]:
    return lambda row: row[name] / max(row["gland_area"], 1e-6)


DENSITY = Scale(
    "nuclear_area",
    (0.12, 0.22, 0.32, 0.44),
    (("few", "sparse"), (), (), ("many", "numerous"), ("crowded", "densely packed")),
)
SIZE = Scale("nucleus_size", (3.2, 4.7, 6.0), (("small",), (), ("large",), ("very large", "huge")))
DARKNESS = Scale(
    "darkness",
    (0.3, 0.42, 0.5),
    (("pale", "light"), (), ("dark",), ("very dark", "hyperchromatic")),
)
ROUNDNESS = Scale(
    "roundness", (0.45, 0.7), (("spindle", "elongated", "thin"), (), ("round", "rounded"))
)
SPREAD = Scale(
    "pleomorphism", (0.1, 0.22), (("uniform", "regular"), (), ("pleomorphic", "irregular"))
)
NUCLEI = (DENSITY, SIZE, DARKNESS, ROUNDNESS, SPREAD)

GLAND_SHAPE = Scale(
    "irregularity", (0.09, 0.16), (("round", "regular", "smooth"), (), ("irregular", "distorted"))
)
GLAND_SPACE = Scale("gland_area", (0.4, 0.72), (("well spaced",), (), ("crowded", "packed")))
GLAND_COUNT = Scale("glands", (1.5, 2.5, 6.5), (("a gland", "one gland"), (), (), ("many glands",)))
LUMEN = Scale(
    _of_glands("lumen"),
    (0.004, 0.08, 0.17),
    (
        ("no lumen", "closed glands"),
        ("narrow lumen", "slit lumen"),
        (),
        ("wide lumen", "open lumen", "dilated glands"),
    ),
)
GOBLET = Scale(
    _of_glands("goblet"),
    (0.01, 0.12, 0.3),
    (
        ("no goblet cells", "no mucin"),
        (),
        ("goblet cells", "mucin"),
        ("many goblet cells", "plenty of mucin"),
    ),
)
WITHOUT_GLANDS = Scale("gland_area", (0.02,), (("no glands",), ()))
LYMPHOCYTES = Scale(
    "lymphocytes",
    (2.0, 40.0, 90.0),
    (
        ("no lymphocytes",),
        (),
        ("lymphocytes", "inflammatory cells"),
        ("many lymphocytes", "dense lymphocytes", "severe inflammation"),
    ),
)
STROMA = Scale(
    "stroma",
    (0.12, 0.45, 0.75),
    (("little stroma",), (), ("stroma",), ("abundant stroma", "stroma")),
)
BLUE = Scale(
    "haematoxylin",
    (0.11, 0.19, 0.25),
    (
        ("weak haematoxylin", "weak hematoxylin", "pale blue stain"),
        (),
        ("strong haematoxylin", "strong hematoxylin", "purple stain"),
        ("very strong hematoxylin", "deep purple stain"),
    ),
)
PINK = Scale(
    "eosin",
    (0.05, 0.09, 0.13),
    (
        ("weak eosin", "hardly any pink"),
        (),
        ("strong eosin", "pink tissue"),
        ("very strong eosin", "bright pink tissue"),
    ),
)
BLOOD = Scale("blood", (4.0,), ((), ("red blood cells", "bleeding")))
BLUR = Scale("blur", (0.01, 0.5), (("sharp focus",), (), ("blurred tissue", "poor focus")))
SCALES = (
    *NUCLEI,
    GLAND_SHAPE,
    GLAND_SPACE,
    GLAND_COUNT,
    LUMEN,
    GOBLET,
    WITHOUT_GLANDS,
    LYMPHOCYTES,
    STROMA,
    BLUE,
    PINK,
    BLOOD,
    BLUR,
)

# One tuple of sentences for each class, in the order of the world's classes.
ARCHITECTURES: tuple[Words, ...] = (
    (
        "benign glands",
        "benign tissue",
        "normal crypts",
        "benign looking regular round glands",
        "normal colon mucosa",
        "benign colonic mucosa",
    ),
    (
        "malignant glands",
        "adenocarcinoma",
        "irregular crowded malignant glands",
        "invasive adenocarcinoma",
        "colon adenocarcinoma",
        "glandular cancer",
    ),
    (
        "solid tumour",
        "solid tumor",
        "sheets of tumour cells",
        "solid sheets of tumor cells",
        "poorly differentiated solid carcinoma",
    ),
    (
        "fibrous stroma",
        "connective tissue",
        "stroma with spindle cells",
        "fibrous connective tissue",
        "bundles of collagen fibres",
    ),
    (
        "inflammation",
        "inflamed tissue",
        "lymphoid tissue",
        "a lymphoid infiltrate",
        "dense chronic inflammation",
    ),
)
MOST_PIECES = 14  # a text tower of 16 places keeps two for start and end
_RARE = {  # how many pieces CLIP's tokenizer cuts a word into, where it is not one
    2: "benign colonic connective crypts densely differentiated dilated distorted elongated fibres "
    "glands goblet histology hyperchromatic infiltrate inflamed lumen malignant mucin nuclei "
    "spaced sparse spindle stroma",
    3: "adenocarcinoma eosin fibrous glandular h&e lymphoid mucosa pleomorphic",
    4: "haematoxylin hematoxylin lymphocytes",
}
PIECES = {word: pieces for pieces, words in _RARE.items() for word in words.split()}
FRAMES = ("{}", "{}", "tissue with {}", "h&e of {}", "histology of {}", "a tile with {}")


def caption(architecture: int, measured: Floats, chances: Floats) -> str:
    """A sentence about one tile; `architecture` is -1 for none, `chances` (10) in 0..1 choose.

    A quarter name one thing only. The rest name two things, or three where they are short enough
    for a text tower of 16 tokens.
    """
    row = dict(zip(ATTRIBUTES, (float(value) for value in measured), strict=True))
    alone = bool(chances[0] < 0.25)
    options = [describe_nuclei(row, chances[1:4], alone), *_others(row, chances[4:7])]
    if architecture >= 0:
        named = _pick(ARCHITECTURES[architecture], chances[7])
        options += [named, named]
    said = [option for option in options if option] or ["tissue"]

    # The first thing is any of them; the others follow it at a stride and never say it again.
    first = min(int(chances[8] * len(said)), len(said) - 1)
    frame = _pick(FRAMES, chances[9])
    if alone:
        return frame.format(said[first])
    rest = [said[(first + 1 + step) % len(said)] for step in range(len(said))]
    rest = [words for words in dict.fromkeys(rest) if words != said[first]]
    start = int(chances[7] * len(rest))
    chosen = [said[first], *(rest[start:] + rest[:start])[: 1 + (chances[6] < 0.4)]]
    while len(chosen) > 1 and _length(frame.format(", ".join(chosen))) > MOST_PIECES:
        chosen.pop()
    joint = " and " if len(chosen) == 2 and chances[5] < 0.5 else ", "
    return frame.format(joint.join(chosen))


def describe_nuclei(row: Row, chances: Floats, alone: bool) -> str:
    """'crowded dark nuclei': one or two words about them, or nothing where all is ordinary."""
    if row["nuclear_count"] < 3:
        return "no nuclei" if row["nuclear_count"] < 1 else ""
    shown = [scale.said(row, chances[2]) for scale in NUCLEI]
    words = [word for word in shown if word]
    if not words:
        return ""
    first = min(int(chances[0] * len(words)), len(words) - 1)
    second = (first + 1 + int(chances[1] * (len(words) - 1))) % len(words)
    chosen = {first} if alone or len(words) == 1 else {first, second}
    return " ".join([words[index] for index in sorted(chosen)] + ["nuclei"])


def prompts() -> list[list[str]]:
    """The sentences of ARCHITECTURES, plain and framed."""
    return [
        [frame.format(words) for frame in dict.fromkeys(FRAMES) for words in options]
        for options in ARCHITECTURES
    ]


def _others(row: Row, chances: Floats) -> list[str]:
    glandular = row["gland_area"] > 0.08 and row["glands"] >= 1
    parts = [LYMPHOCYTES.said(row, chances[0]), _stroma(row, chances[1])]
    parts += [scale.said(row, chances[2]) for scale in (BLUE, PINK, BLOOD, BLUR, WITHOUT_GLANDS)]
    if glandular:
        parts += [scale.said(row, chances[0]) for scale in (LUMEN, GOBLET, GLAND_COUNT)]
        shape, space = GLAND_SHAPE.said(row, chances[1]), GLAND_SPACE.said(row, chances[2])
        words = f"{shape} {space}".strip() if chances[0] < 0.5 else shape or space
        parts.append(f"{words} glands" if words else "")
    return parts


def _stroma(row: Row, chance: float) -> str:
    words = STROMA.said(row, chance)
    if words != "stroma" or row["nuclear_area"] > 0.12:
        return words
    return _pick(("stroma", "stroma with few nuclei"), chance)


def _length(sentence: str) -> int:
    return sum(PIECES.get(word, 1) for word in sentence.replace(",", " ,").split())


def _pick(options: Words, chance: float) -> str:
    return options[min(int(chance * len(options)), len(options) - 1)]
