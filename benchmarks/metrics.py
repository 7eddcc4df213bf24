"""Metrics against trusted libraries and plain formulas: time, memory and digits, from one run.

python benchmarks/metrics.py [--n 2000] [--d 512] [--repeats 3] [--large 50000] [--json FILE]

Every measurement is a process of its own, one after the other: processor seconds (of all threads;
set OMP_NUM_THREADS) of one call on the same features, and how far the process's memory rose above
where it stood. A call on few rows, not counted, has loaded what is loaded late. Libraries take
turns with ours `--repeats` times; ratios are theirs over ours (above 1, ours is faster or smaller),
medians over turns. "differ by" is the largest relative difference of the numbers. Last, CMMD of
LARGE x LARGE_D float32 features a side, in memory that three dense tables would exceed many times.

Ours answer with intervals, which is part of what is measured, except FD; of the libraries only KID
comes with a spread. Where a name says "with interval" the row without asks ours for one draw.
Libraries that are not installed are named and left out: torchmetrics, torch-fidelity, clean-fid,
prdc. The tables are markdown. The defaults take about eight minutes on one idle core;
`--n 500 --d 128 --repeats 1 --large 4000` two.
"""

import argparse
import importlib
import importlib.util
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

SUBSETS, SUBSET = 100, 1000  # what libraries draw for KID, if nothing else is asked
CLASSES, NEIGHBOURS, LATENT, SIDE, EPSILON = 1000, 3, 64, 32, 0.01
WARM = 64  # rows of the call that is not counted
MODULES = {
    "torchmetrics": "torchmetrics",
    "torch-fidelity": "torch_fidelity",
    "clean-fid": "cleanfid",
    "prdc": "prdc",
}
Action = Callable[..., Any]  # of the metric's inputs: a number, or several


# Ours


def ours(metric: str) -> Action:
    from controlgen.metrics import (
        cmmd,
        frechet,
        inception_score,
        kernel,
        path_length,
        precision_recall,
    )

    def path(start: Any, end: Any) -> float:
        here = np.zeros(len(start))
        lengths = path_length.path_lengths(
            pictures, squared, start, end, here, EPSILON, rounded_path
        )
        return path_length.path_length(lengths, 0, None).mean

    def score(logits: Any) -> float:
        import torch

        probabilities = torch.from_numpy(logits).softmax(1).numpy()
        return inception_score.inception_score(probabilities).mean

    def shares(a: Any, b: Any) -> list[float]:
        return [one.mean for one in precision_recall.precision_recall(a, b, 0, NEIGHBOURS)]

    def balls(a: Any, b: Any) -> list[float]:
        return [one.mean for one in precision_recall.density_coverage(a, b, 0, NEIGHBOURS)]

    return {
        "FD": frechet.frechet_distance,
        "FD with interval": lambda a, b: frechet.frechet_interval(a, b).mean,
        "KID": lambda a, b: kernel.kernel_distance(a, b, 0, bootstraps=1).mean,
        "KID with interval": lambda a, b: kernel.kernel_distance(a, b, 0).mean,
        "CMMD": lambda a, b: cmmd.cmmd(a, b, 0, bootstraps=1).mean,
        "CMMD with interval": lambda a, b: cmmd.cmmd(a, b, 0).mean,
        "IS": score,
        "precision, recall": shares,
        "density, coverage": balls,
        "PPL": path,
    }[metric]


# Formulas as they are written


def formula(metric: str) -> Action:
    from scipy import linalg
    from scipy.spatial.distance import cdist

    def root(a: Any, b: Any) -> float:
        first, second = (np.cov(rows, rowvar=False) for rows in (a, b))
        middle = np.trace(linalg.sqrtm(first @ second).real)
        return square(a.mean(0) - b.mean(0)) + np.trace(first) + np.trace(second) - 2 * middle

    def dense(a: Any, b: Any) -> float:
        a, b = unit(a), unit(b)
        within, across = (
            sum(np.exp(-cdist(x, y, "sqeuclidean") / 200).mean() for x, y in pairs)
            for pairs in (((a, a), (b, b)), ((a, b),))
        )
        return 1000 * (within - 2 * across)

    return {"FD": root, "CMMD": dense}[metric]


def square(row: Any) -> float:
    return float(row @ row)


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# Libraries


def torchmetrics(metric: str) -> Action:
    import torch
    from torchmetrics.image import fid, inception, kid

    # The package hides this module behind its function of the same name.
    ppl = importlib.import_module("torchmetrics.functional.image.perceptual_path_length")

    def frechet(a: Any, b: Any) -> Any:
        sides = [torch.from_numpy(rows) for rows in (a, b)]
        return fid._compute_fid(*(one for x in sides for one in (x.mean(0), x.T.cov())))

    def score(logits: Any) -> Any:
        measure = inception.InceptionScore(feature=torch.nn.Identity(), splits=1)
        measure.update(torch.from_numpy(logits))
        return measure.compute()[0]

    def path(start: Any, end: Any) -> Any:
        return ppl.perceptual_path_length(
            Generator(start, end), len(start), batch_size=64, interpolation_method="lerp",
            epsilon=EPSILON, lower_discard=None, upper_discard=None,
            sim_net=Squared(),
        )[0]  # fmt: skip

    class Generator(torch.nn.Module):
        def __init__(self, *latents: Any) -> None:
            super().__init__()
            self.latents = [torch.from_numpy(one) for one in latents]

        def sample(self, n: int) -> Any:
            return self.latents.pop(0)[:n]

        def forward(self, latents: Any) -> Any:
            return 127.5 * (torch.from_numpy(pictures(latents.numpy())) + 1)

    class Squared(torch.nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return torch.from_numpy(squared(a.numpy(), b.numpy()))

    return {
        "FD": frechet,
        "KID": lambda a, b: kid.poly_mmd(torch.from_numpy(a), torch.from_numpy(b)),
        "IS": score,
        "PPL": path,
    }[metric]


def torch_fidelity(metric: str) -> Action:
    import torch
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    def frechet(a: Any, b: Any) -> Any:
        sides = [metric_fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)]
        return metric_fid.fid_statistics_to_metric(*sides, False)[metric_fid.KEY_METRIC_FID]

    def subsets(a: Any, b: Any) -> Any:
        found = metric_kid.kid_features_to_metric(
            torch.from_numpy(a), torch.from_numpy(b), kid_subsets=SUBSETS,
            kid_subset_size=min(SUBSET, len(a)), verbose=False,
        )  # fmt: skip
        return found[metric_kid.KEY_METRIC_KID_MEAN]

    def gaussian(a: Any, b: Any) -> Any:
        a, b = unit(a), unit(b)
        pairs = (a, a), (a, b), (b, b)
        tables = [metric_kid.kernel_rbf(x, y, kid_kernel_rbf_sigma=10.0) for x, y in pairs]
        return 1000 * metric_kid.mmd2(*tables, mmd_est="biased")

    def score(logits: Any) -> Any:
        found = metric_isc.isc_features_to_metric(torch.from_numpy(logits), 1, shuffle=False)
        return found[metric_isc.KEY_METRIC_ISC_MEAN]

    def shares(a: Any, b: Any) -> Any:
        sides = torch.from_numpy(b), torch.from_numpy(a)
        return metric_prc.calculate_precision_recall_full(*sides, NEIGHBOURS)

    return {
        "FD": frechet,
        "KID": lambda a, b: metric_kid.kernel_mmd(a, b, kid_kernel="poly"),
        "KID with interval": subsets,
        "CMMD": gaussian,
        "IS": score,
        "precision, recall": shares,
    }[metric]


def clean_fid(metric: str) -> Action:
    from cleanfid import fid
    from scipy import linalg

    # Newer SciPy knows no `disp`; the function is otherwise as it is.
    fid.linalg = SimpleNamespace(sqrtm=lambda table, disp=True: (linalg.sqrtm(table), 0.0))

    def frechet(a: Any, b: Any) -> Any:
        sides = ((x.mean(0), np.cov(x, rowvar=False)) for x in (a, b))
        return fid.frechet_distance(*(one for side in sides for one in side))

    return {"FD": frechet}[metric]


def prdc(metric: str) -> Action:
    from prdc import compute_prdc

    def shares(a: Any, b: Any) -> list[float]:
        found = compute_prdc(a, b, NEIGHBOURS)
        return [found[name] for name in metric.split(", ")]

    return shares


LIBRARIES = {
    "ours": ours,
    "formula": formula,
    "torchmetrics": torchmetrics,
    "torch-fidelity": torch_fidelity,
    "clean-fid": clean_fid,
    "prdc": prdc,
}
RIVALS = {
    "FD": ["formula", "torchmetrics", "torch-fidelity", "clean-fid"],
    "KID": ["torchmetrics", "torch-fidelity"],
    "KID with interval": ["torch-fidelity"],
    "CMMD": ["formula", "torch-fidelity"],
    "IS": ["torchmetrics", "torch-fidelity"],
    "precision, recall": ["torch-fidelity", "prdc"],
    "density, coverage": ["prdc"],
    "PPL": ["torchmetrics"],
}
# Means over random subsets agree within their spread, not in digits. A whole interval has no rival.
WITHOUT_DIGITS = ("KID with interval",)
ALONE = ("FD with interval", "CMMD with interval")


# What is measured


def inputs(metric: str, n: int, d: int, dtype: str) -> tuple[Any, ...]:
    """Features of both sides (n d); for IS logits (n 1000); for PPL latents of both ends (n 64)."""
    draws = np.random.default_rng(0)
    if metric == "IS":
        return (2 * draws.standard_normal((n, CLASSES)),)
    if metric == "PPL":
        return tuple(draws.standard_normal((2, n, LATENT), np.float32))

    # A decaying spectrum, as features of images have one; the sides differ a little.
    spectrum = ((1 + np.arange(d)) ** -0.5).astype(np.float32)
    a, b = (draws.standard_normal((n, d), np.float32) * spectrum for _ in range(2))
    b = 1.1 * b + 0.3 * spectrum
    return tuple(side.astype(dtype) for side in (a, b))


def pictures(latents: Any) -> Any:
    """A generator that is not linear: latents (n 64) -> images (n 3 32 32) in -1..1."""
    weights = _picture_weights.setdefault(
        0, np.random.default_rng(1).normal(size=(LATENT, 3 * SIDE * SIDE)) / 8
    )
    return np.tanh(latents.astype(np.float64) @ weights).reshape(-1, 3, SIDE, SIDE)


_picture_weights: dict[int, Any] = {}


def squared(a: Any, b: Any) -> Any:
    """A distance that costs next to nothing: pairs of images -> (n)."""
    return np.square(a - b).mean((1, 2, 3))


def rounded_path(start: Any, end: Any, position: Any) -> Any:
    """The straight way in float32, as torchmetrics walks it: the very same points."""
    first, last = start.astype(np.float32), end.astype(np.float32)
    return first + (last - first) * np.float32(position[0, 0])


def child(library: str, metric: str, n: int, d: int, dtype: str) -> None:
    """Print what one call took and answered."""
    warnings.simplefilter("ignore")
    if library not in ("ours", "formula"):
        from controlgen.features._torchvision import ensure_torchvision

        ensure_torchvision()
    action = LIBRARIES[library](metric)
    given = inputs(metric, n, d, dtype)
    action(*(side[:WARM] for side in given))
    stood, start = resident(), time.process_time()
    answer = action(*given)
    seconds = time.process_time() - start
    numbers = [float(one) for one in np.atleast_1d(answer)]
    found = {"seconds": seconds, "rise_mb": peak() - stood, "peak_mb": peak(), "answer": numbers}
    print(json.dumps(found))


def resident() -> float:
    """Resident memory of this process in MB, which is its peak from here on."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak() -> float:
    """Peak resident memory of this process in MB since `resident` was asked."""
    return _status("VmHWM")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def measured(library: str, metric: str, n: int, d: int, dtype: str = "float64") -> dict[str, Any]:
    """What a process of its own printed. Raises RuntimeError with the last line it said."""
    command = [sys.executable, __file__, "--child", library, metric, str(n), str(d), dtype]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no word"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def difference(theirs: list[float], own: list[float]) -> float:
    """Largest relative difference of the numbers."""
    pairs = zip(theirs, own, strict=True)
    return max(abs(one - other) / max(abs(one), abs(other), 1e-300) for one, other in pairs)


def compared(metric: str, n: int, d: int, repeats: int, missing: set[str]) -> Iterator[dict]:
    """One row a library: medians over turns, in each of which everything is measured once."""
    rivals = [name for name in RIVALS.get(metric, []) if name not in missing]
    turns: list[dict[str, Any]] = [{} for _ in range(repeats)]
    failed: dict[str, str] = {}
    for turn in turns:
        for library in ("ours", *rivals):
            if library not in failed:
                try:
                    turn[library] = measured(library, metric, n, d)
                except RuntimeError as error:
                    failed[library] = str(error)
    if "ours" in failed:
        raise SystemExit(f"{metric}: {failed['ours']}")
    for library in rivals or ["-"]:
        row: dict[str, Any] = {"metric": metric, "library": library, "n": n, "d": d}
        if library in failed:
            yield row | {"failed": failed[library]}
            continue
        for what in ("seconds", "rise_mb"):
            own = [turn["ours"][what] for turn in turns]
            row[f"ours_{what}"] = statistics.median(own)
            if library != "-":
                other = [turn[library][what] for turn in turns]
                row[what] = statistics.median(other)
                pairs = zip(other, own, strict=True)
                row[f"{what}_ratio"] = statistics.median(a / max(b, 1e-9) for a, b in pairs)
        row["ours"] = turns[0]["ours"]["answer"]
        if library != "-":
            row["theirs"] = turns[0][library]["answer"]
            if metric not in WITHOUT_DIGITS:
                row["relative_difference"] = difference(row["theirs"], row["ours"])
        yield row


# What is shown

HEAD = ("metric", "library", "seconds", "ours", "ratio", "rise, MB", "ours", "ratio", "differ by")


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    if "failed" in row:
        return f"| {row['metric']} | {row['library']} | failed: {row['failed']} |"
    cells = [row["metric"], row["library"]]
    for what, places in (("seconds", 3), ("rise_mb", 0)):
        for name in (what, f"ours_{what}"):
            cells.append(f"{row[name]:.{places}f}" if name in row else "-")

        # Below a megabyte a rise is how pages fell.
        ratio = row.get(f"{what}_ratio")
        counts = ratio is not None and (what == "seconds" or row["ours_rise_mb"] >= 1)
        cells.append(f"{ratio:.1f}" if counts else "-")
    difference = row.get("relative_difference")
    cells.append("-" if difference is None else f"{difference:.0e}" if difference else "0")
    return f"| {' | '.join(cells)} |"


def large(n: int, d: int) -> dict[str, Any]:
    """CMMD by blocks where dense tables do not fit."""
    found = measured("ours", "CMMD", n, d, "float32")
    dense = 3 * 8 * n**2 / 2**20
    print(f"\nCMMD, {n} x {d} float32 features a side, in blocks\n")
    print("| seconds | rise, MB | peak, MB | three dense tables, MB | ratio |")
    print("| --- | --- | --- | --- | --- |")
    figures = *(found[what] for what in ("seconds", "rise_mb", "peak_mb")), dense
    ratio = dense / max(found["rise_mb"], 1)
    print(f"| {' | '.join(f'{figure:.0f}' for figure in figures)} | {ratio:.0f} |", flush=True)
    return {"metric": "CMMD", "n": n, "d": d, **found, "dense_mb": dense}


def asked() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=2000, help="rows a side")
    parser.add_argument("--d", type=int, default=512, help="features")
    parser.add_argument("--repeats", type=int, default=3, help="turns")
    parser.add_argument(
        "--large", type=int, default=50_000, help="rows a side of the last; 0: none"
    )
    parser.add_argument("--large-d", type=int, default=128, help="features of the last")
    parser.add_argument("--only", nargs="*", help="metrics, as the table names them")
    parser.add_argument("--json", type=Path, help="file to write as well")
    return parser.parse_args()


def main() -> None:
    """Print the tables; write JSON where it is asked for."""
    given = asked()
    missing = {name for name, module in MODULES.items() if not importlib.util.find_spec(module)}
    print(f"\n{given.n} x {given.d} features a side, medians of {given.repeats} turns")
    if missing:
        print(f"Not installed, and left out: {', '.join(sorted(missing))}")
    print(f"\n| {' | '.join(HEAD)} |\n{'| --- ' * len(HEAD)}|", flush=True)
    rows = []
    for metric in given.only or (*RIVALS, *ALONE):
        for row in compared(metric, given.n, given.d, given.repeats, missing):
            rows.append(row)
            print(line(row), flush=True)
    last = large(given.large, given.large_d) if given.large else None
    if given.json is not None:
        given.json.write_text(json.dumps({"rows": rows, "large": last}, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:4], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
    else:
        main()
