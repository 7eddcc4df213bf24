"""Metrics against trusted libraries and plain formulas: time, memory and digits, from one run.

python benchmarks/metrics.py [--n 2000] [--d 512] [--repeats 3] [--large 50000] [--json FILE]

Every measurement is a process of its own, one after the other: processor seconds (of all threads;
set OMP_NUM_THREADS) of one call on the same features, and how far the process's memory rose above
where it stood. A call on few rows, not counted, has loaded what is loaded late. Libraries take
turns with ours `--repeats` times; ratios are theirs over ours (above 1, ours is faster or smaller),
medians over turns. "differ by" is the largest relative difference of the numbers. Last, CMMD of
LARGE x LARGE_D float32 features a side, in memory that three dense tables would exceed many times.

Of the libraries only KID comes with a spread. Where a name says "with interval" the row without
asks ours for the number alone; IS comes with its own.
Libraries that are not installed are named and left out: torchmetrics, torch-fidelity, clean-fid,
prdc. The tables are markdown. The defaults take about eight minutes on one idle core;
`--n 500 --d 128 --repeats 1 --large 4000` two.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from metric_libraries import LATENT, LIBRARIES

CLASSES = 1000
WARM = 64  # rows of the call that is not counted
MODULES = {
    "torchmetrics": "torchmetrics",
    "torch-fidelity": "torch_fidelity",
    "clean-fid": "cleanfid",
    "prdc": "prdc",
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
ALONE = (
    "FD with interval",
    "CMMD with interval",
    "precision, recall with interval",
    "density, coverage with interval",
    "PPL with interval",
)

# What is measured


def inputs(metric: str, n: int, d: int, dtype: str) -> tuple[Any, ...]:
    """Features of both sides (n d); for IS logits (n 1000); for PPL latents of both ends (n 64)."""
    draws = np.random.default_rng(0)
    if metric == "IS":
        return (2 * draws.standard_normal((n, CLASSES)),)
    if metric.startswith("PPL"):
        return tuple(draws.standard_normal((2, n, LATENT), np.float32))

    # A decaying spectrum, as features of images have one; the sides differ a little.
    spectrum = ((1 + np.arange(d)) ** -0.5).astype(np.float32)
    a, b = (draws.standard_normal((n, d), np.float32) * spectrum for _ in range(2))
    b = 1.1 * b + 0.3 * spectrum
    return tuple(side.astype(dtype) for side in (a, b))


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
    numbers = [float(item) for item in np.atleast_1d(answer)]
    actual = {"seconds": seconds, "rise_mb": peak() - stood, "peak_mb": peak(), "answer": numbers}
    print(json.dumps(actual))


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
    return max(
        abs(single - other) / max(abs(single), abs(other), 1e-300) for single, other in pairs
    )


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
    actual = measured("ours", "CMMD", n, d, "float32")
    dense = 3 * 8 * n**2 / 2**20
    print(f"\nCMMD, {n} x {d} float32 features a side, in blocks\n")
    print("| seconds | rise, MB | peak, MB | three dense tables, MB | ratio |")
    print("| --- | --- | --- | --- | --- |")
    figures = *(actual[what] for what in ("seconds", "rise_mb", "peak_mb")), dense
    ratio = dense / max(actual["rise_mb"], 1)
    print(f"| {' | '.join(f'{figure:.0f}' for figure in figures)} | {ratio:.0f} |", flush=True)
    return {"metric": "CMMD", "n": n, "d": d, **actual, "dense_mb": dense}


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
