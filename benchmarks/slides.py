"""A slide of 20 000 x 20 000 pixels, written, tiled and tiled again: memory, tiles a second.

python benchmarks/slides.py [EDGE] [FOLDER]

Writes the slide to a temporary folder inside FOLDER (about 1 GB, removed at the end) and prints
one JSON line a measurement. Memory is the peak of a process that does nothing else; a process
that only imports what it needs is measured too, so that the difference is the tiling's.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from skimage.data import immunohistochemistry

TILE = 512  # pixels along the edge of the file's own tiles
MPP = 0.25  # microns per pixel of level 0
STEPS = 4  # each level is this much coarser than the one before
CUTS = {"at 20x": {"mpp": 0.5}, "at 10x, half overlapping": {"mpp": 1.0, "overlap": 0.5}}


def stripes(edge: int) -> Iterator[np.ndarray]:
    """Rows of TILE pixels (TILE edge 3): real tissue as wallpaper inside blots, noise outside."""
    paper = immunohistochemistry()
    paper = np.concatenate([paper, paper[::-1]], 0)
    paper = np.concatenate([paper, paper[:, ::-1]], 1)
    random = np.random.default_rng(0)
    centres = random.uniform(0.15, 0.85, (6, 2)) * edge
    radii = random.uniform(0.1, 0.2, 6) * edge
    columns = np.arange(edge)
    for top in range(0, edge, TILE):
        rows = np.arange(top, min(top + TILE, edge))
        stripe = random.integers(236, 244, (len(rows), edge, 1), np.uint8).repeat(3, 2)
        for (y, x), radius in zip(centres, radii, strict=True):
            inside = np.hypot(rows[:, None] - y, columns[None] - x) < radius
            row, column = np.nonzero(inside)
            stripe[row, column] = paper[(rows[row]) % len(paper), column % len(paper)]
        yield stripe


def tiles(stripe: np.ndarray) -> Iterator[np.ndarray]:
    """The file's tiles of one stripe, filled up to TILE x TILE."""
    for left in range(0, stripe.shape[1], TILE):
        piece = stripe[:, left : left + TILE]
        filling = ((0, TILE - piece.shape[0]), (0, TILE - piece.shape[1]), (0, 0))
        yield np.pad(piece, filling, mode="edge")


def reduced(stripe: np.ndarray) -> np.ndarray:
    """Means over STEPS x STEPS pixels."""
    height, width = (edge // STEPS * STEPS for edge in stripe.shape[:2])
    blocks = stripe[:height, :width].reshape(height // STEPS, STEPS, width // STEPS, STEPS, 3)
    return np.rint(blocks.mean((1, 3), dtype=np.float32)).astype(np.uint8)


def write_slide(path: Path, edge: int) -> None:
    """A pyramid of three levels, level 0 stripe by stripe."""
    coarse: list[np.ndarray] = []

    def level0() -> Iterator[np.ndarray]:
        for stripe in stripes(edge):
            coarse.append(reduced(stripe))
            yield from tiles(stripe)

    described = {
        "dtype": np.uint8,
        "tile": (TILE, TILE),
        "photometric": "rgb",
        "compression": "deflate",
        "compressionargs": {"level": 1},
    }
    resolution = {"resolution": (1e4 / MPP, 1e4 / MPP), "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        writer.write(level0(), shape=(edge, edge, 3), **described, **resolution)
        level = np.concatenate(coarse)
        for image in (level, reduced(level)):
            writer.write(image, subfiletype=1, **described)


def megabytes() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def child(settings: str) -> None:
    """Cut the tiles that the settings ask for and print what it took; `null` only imports."""
    from controlgen.datasets.slides.dataset import Slides

    imported, start = megabytes(), time.perf_counter()
    figures: dict[str, object] = {"imported_mb": round(imported)}
    if settings != "null":
        data = Slides.model_validate_json(settings).open()
        seconds = time.perf_counter() - start
        figures |= {
            "tiles": len(data),
            "seconds": round(seconds, 2),
            "tiles_a_second": round(len(data) / seconds, 1),
            "pixels_mb": round(len(data) * np.prod(data.image_shape) / 2**20),
            "folder": str(data.folder),
        }
    print(json.dumps({"peak_mb": round(megabytes()), **figures}))


def measured(settings: str) -> dict[str, object]:
    """What a process of its own printed."""
    command = [sys.executable, __file__, "--child", settings]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print every figure."""
    edge = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    within = sys.argv[2] if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory(dir=within) as folder:
        path, start = Path(folder) / "slide.tif", time.perf_counter()
        # Elsewhere too: a child's peak starts at what its parent held when it was forked.
        command = [sys.executable, __file__, "--write", str(path), str(edge)]
        subprocess.run(command, check=True)
        written = {"edge": edge, "file_mb": round(path.stat().st_size / 2**20)}
        written["parent_peak_mb"] = round(megabytes())  # no figure below can be less
        print(json.dumps({"slide": {**written, "seconds": round(time.perf_counter() - start, 1)}}))
        print(json.dumps({"import alone": measured("null")}), flush=True)
        for name, settings in CUTS.items():
            given = {"root": str(path), "size": 64, "cache": folder, **settings}
            for what in ("cut", "opened again"):
                figures = measured(json.dumps(given))
                del figures["folder"]
                print(json.dumps({f"{what} {name}": figures}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2])
    elif sys.argv[1:2] == ["--write"]:
        write_slide(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
