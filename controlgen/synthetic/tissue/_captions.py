"""Captions of tissue tiles in a pathologist's words, all true of the drawn tile."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from controlgen.synthetic.captions import CaptionScale, Values, pick

Floats = NDArray[np.float32]
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


def _per_gland_area(name: str) -> Callable[[Values], float]:
    return lambda values: values[name] / max(values["gland_area"], 1e-6)


DENSITY = CaptionScale(
    "nuclear_area",
    (0.12, 0.22, 0.32, 0.44),
    (("few", "sparse"), (), (), ("many", "numerous"), ("crowded", "densely packed")),
)
SIZE = CaptionScale(
    "nucleus_size", (3.2, 4.7, 6.0), (("small",), (), ("large",), ("very large", "huge"))
)
DARKNESS = CaptionScale(
    "darkness",
    (0.3, 0.42, 0.5),
    (("pale", "light"), (), ("dark",), ("very dark", "hyperchromatic")),
)
ROUNDNESS = CaptionScale(
    "roundness", (0.45, 0.7), (("spindle", "elongated", "thin"), (), ("round", "rounded"))
)
SPREAD = CaptionScale(
    "pleomorphism", (0.1, 0.22), (("uniform", "regular"), (), ("pleomorphic", "irregular"))
)
NUCLEI = (DENSITY, SIZE, DARKNESS, ROUNDNESS, SPREAD)

GLAND_SHAPE = CaptionScale(
    "irregularity", (0.09, 0.16), (("round", "regular", "smooth"), (), ("irregular", "distorted"))
)
GLAND_SPACE = CaptionScale("gland_area", (0.4, 0.72), (("well spaced",), (), ("crowded", "packed")))
GLAND_COUNT = CaptionScale(
    "glands", (1.5, 2.5, 6.5), (("a gland", "one gland"), (), (), ("many glands",))
)
LUMEN = CaptionScale(
    _per_gland_area("lumen"),
    (0.004, 0.08, 0.17),
    (
        ("no lumen", "closed glands"),
        ("narrow lumen", "slit lumen"),
        (),
        ("wide lumen", "open lumen", "dilated glands"),
    ),
)
GOBLET = CaptionScale(
    _per_gland_area("goblet"),
    (0.01, 0.12, 0.3),
    (
        ("no goblet cells", "no mucin"),
        (),
        ("goblet cells", "mucin"),
        ("many goblet cells", "plenty of mucin"),
    ),
)
WITHOUT_GLANDS = CaptionScale("gland_area", (0.02,), (("no glands",), ()))
LYMPHOCYTES = CaptionScale(
    "lymphocytes",
    (2.0, 40.0, 90.0),
    (
        ("no lymphocytes",),
        (),
        ("lymphocytes", "inflammatory cells"),
        ("many lymphocytes", "dense lymphocytes", "severe inflammation"),
    ),
)
STROMA = CaptionScale(
    "stroma",
    (0.12, 0.45, 0.75),
    (("little stroma",), (), ("stroma",), ("abundant stroma", "stroma")),
)
BLUE = CaptionScale(
    "haematoxylin",
    (0.11, 0.19, 0.25),
    (
        ("weak haematoxylin", "weak hematoxylin", "pale blue stain"),
        (),
        ("strong haematoxylin", "strong hematoxylin", "purple stain"),
        ("very strong hematoxylin", "deep purple stain"),
    ),
)
PINK = CaptionScale(
    "eosin",
    (0.05, 0.09, 0.13),
    (
        ("weak eosin", "hardly any pink"),
        (),
        ("strong eosin", "pink tissue"),
        ("very strong eosin", "bright pink tissue"),
    ),
)
BLOOD = CaptionScale("blood", (4.0,), ((), ("red blood cells", "bleeding")))
BLUR = CaptionScale("blur", (0.01, 0.5), (("sharp focus",), (), ("blurred tissue", "poor focus")))
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

# Sentences for each class, in the order of CLASSES.
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
MAX_TOKENS = 14  # of a text tower of 16 tokens, two mark start and end
_LONG_WORDS = {  # words that CLIP's tokenizer splits, by number of tokens
    2: "benign colonic connective crypts densely differentiated dilated distorted elongated fibres "
    "glands goblet histology hyperchromatic infiltrate inflamed lumen malignant mucin nuclei "
    "spaced sparse spindle stroma",
    3: "adenocarcinoma eosin fibrous glandular h&e lymphoid mucosa pleomorphic",
    4: "haematoxylin hematoxylin lymphocytes",
}
TOKENS = {word: count for count, words in _LONG_WORDS.items() for word in words.split()}
FRAMES = ("{}", "{}", "tissue with {}", "h&e of {}", "histology of {}", "a tile with {}")


def caption(architecture: int, measured: Floats, chances: Floats) -> str:
    """A true sentence about a tile; `architecture` is -1 for a mixture, `chances` (10) in 0..1
    choose.

    A quarter of the captions name one thing. The others name two things, or three if they are
    short enough for a text tower of 16 tokens.
    """
    values = dict(zip(ATTRIBUTES, (float(value) for value in measured), strict=True))
    alone = bool(chances[0] < 0.25)
    options = [describe_nuclei(values, chances[1:4], alone), *_other_phrases(values, chances[4:7])]
    if architecture >= 0:
        name = pick(ARCHITECTURES[architecture], chances[7])
        options += [name, name]
    phrases = [option for option in options if option] or ["tissue"]

    # The first phrase is any of them; the others follow in a random rotation, without repetition.
    first = min(int(chances[8] * len(phrases)), len(phrases) - 1)
    frame = pick(FRAMES, chances[9])
    if alone:
        return frame.format(phrases[first])
    rest = [phrases[(first + 1 + step) % len(phrases)] for step in range(len(phrases))]
    rest = [phrase for phrase in dict.fromkeys(rest) if phrase != phrases[first]]
    start = int(chances[7] * len(rest))
    parts = [phrases[first], *(rest[start:] + rest[:start])[: 1 + (chances[6] < 0.4)]]
    while len(parts) > 1 and _token_count(frame.format(", ".join(parts))) > MAX_TOKENS:
        parts.pop()
    joint = " and " if len(parts) == 2 and chances[5] < 0.5 else ", "
    return frame.format(joint.join(parts))


def describe_nuclei(values: Values, chances: Floats, alone: bool) -> str:
    """'crowded dark nuclei': one or two adjectives, or empty if all is ordinary."""
    if values["nuclear_count"] < 3:
        return "no nuclei" if values["nuclear_count"] < 1 else ""
    adjectives = [scale.word(values, chances[2]) for scale in NUCLEI]
    words = [word for word in adjectives if word]
    if not words:
        return ""
    first = min(int(chances[0] * len(words)), len(words) - 1)
    second = (first + 1 + int(chances[1] * (len(words) - 1))) % len(words)
    subset = {first} if alone or len(words) == 1 else {first, second}
    return " ".join([words[index] for index in sorted(subset)] + ["nuclei"])


def prompts() -> list[list[str]]:
    """The sentences of ARCHITECTURES, plain and framed."""
    return [
        [frame.format(words) for frame in dict.fromkeys(FRAMES) for words in options]
        for options in ARCHITECTURES
    ]


def _other_phrases(values: Values, chances: Floats) -> list[str]:
    glandular = values["gland_area"] > 0.08 and values["glands"] >= 1
    parts = [LYMPHOCYTES.word(values, chances[0]), _stroma(values, chances[1])]
    parts += [scale.word(values, chances[2]) for scale in (BLUE, PINK, BLOOD, BLUR, WITHOUT_GLANDS)]
    if glandular:
        parts += [scale.word(values, chances[0]) for scale in (LUMEN, GOBLET, GLAND_COUNT)]
        shape, space = GLAND_SHAPE.word(values, chances[1]), GLAND_SPACE.word(values, chances[2])
        words = f"{shape} {space}".strip() if chances[0] < 0.5 else shape or space
        parts.append(f"{words} glands" if words else "")
    return parts


def _stroma(values: Values, chance: float) -> str:
    words = STROMA.word(values, chance)
    if words != "stroma" or values["nuclear_area"] > 0.12:
        return words
    return pick(("stroma", "stroma with few nuclei"), chance)


def _token_count(sentence: str) -> int:
    return sum(TOKENS.get(word, 1) for word in sentence.replace(",", " ,").split())
