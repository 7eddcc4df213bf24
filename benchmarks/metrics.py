"""Metrics against torchmetrics, torch-fidelity and dense formulas: time and memory, as ratios.

python benchmarks/metrics.py [N] [D] [LARGE]

Every measurement is a process of its own, one after the other in one run, on N x D float64 features
a side: processor seconds (of all threads; set OMP_NUM_THREADS) of one call after one on few rows,
and how far the process's peak memory rose in it. Ratios are theirs over ours: above 1, ours is
faster or smaller. Last, CMMD of LARGE x D float32 features a side, where three dense tables would
take 24 LARGE^2 bytes; LARGE 0 leaves it out. The tables are markdown.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

SUBSETS, SUBSET = 100, 1000  # what both libraries draw for KID, if nothing else is asked
RIVALS = {
    "FD": ["torchmetrics", "torch-fidelity"],
    "KID": ["torchmetrics", "torch-fidelity"],
    "KID with interval": ["torch-fidelity"],
    "CMMD": ["torch-fidelity"],
    "precision and recall": ["torch-fidelity"],
}


def ours(metric: str) -> Callable:
    """Our function of two sets of rows (n d)."""
    from controlgen.metrics.cmmd import cmmd
    from controlgen.metrics.frechet import frechet_distance
    from controlgen.metrics.kernel import kernel_distance
    from controlgen.metrics.precision_recall import precision_recall

    return {
        "FD": frechet_distance,
        "KID": lambda a, b: kernel_distance(a, b, 0, bootstraps=1),
        "KID with interval": lambda a, b: kernel_distance(a, b, 0),
        "CMMD": lambda a, b: cmmd(a, b, 0, bootstraps=1),
        "CMMD with interval": lambda a, b: cmmd(a, b, 0),
        "precision and recall": lambda a, b: precision_recall(a, b, 0),
    }[metric]


def torchmetrics_of(metric: str) -> Callable:
    """The same number by torchmetrics."""
    import torch
    from torchmetrics.image import fid, kid

    def frechet(a, b):
        sides = [torch.from_numpy(rows) for rows in (a, b)]
        return fid._compute_fid(*(one for x in sides for one in (x.mean(0), x.T.cov())))

    def kernel(a, b):
        return kid.poly_mmd(torch.from_numpy(a), torch.from_numpy(b))

    return {"FD": frechet, "KID": kernel}[metric]


def torch_fidelity_of(metric: str) -> Callable:
    """The same number by torch-fidelity; with an interval, its mean and deviation over subsets."""
    import numpy as np
    import torch
    from torch_fidelity import metric_fid, metric_kid, metric_prc

    def frechet(a, b):
        sides = [metric_fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b)]
        return metric_fid.fid_statistics_to_metric(*sides, False)

    def kernel(a, b):
        return metric_kid.kernel_mmd(a, b, kid_kernel="poly")

    def subsets(a, b):
        sides = torch.from_numpy(a), torch.from_numpy(b)
        size = min(SUBSET, len(a))
        return metric_kid.kid_features_to_metric(
            *sides, kid_subsets=SUBSETS, kid_subset_size=size, verbose=False
        )

    def gaussian(a, b):
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
        pairs = (a, a), (a, b), (b, b)
        tables = [metric_kid.kernel_rbf(x, y, kid_kernel_rbf_sigma=10.0) for x, y in pairs]
        return 1000 * metric_kid.mmd2(*tables, mmd_est="biased")

    def neighbours(a, b):
        sides = torch.from_numpy(b), torch.from_numpy(a)
        return metric_prc.calculate_precision_recall_full(*sides)

    return {
        "FD": frechet,
        "KID": kernel,
        "KID with interval": subsets,
        "CMMD": gaussian,
        "precision and recall": neighbours,
    }[metric]


def child(library: str, metric: str, n: int, d: int, dtype: str) -> None:
    """Print what one call took."""
    import numpy as np

    if library != "ours":
        from controlgen.features._torchvision import ensure_torchvision

        ensure_torchvision()
    makers = {"ours": ours, "torchmetrics": torchmetrics_of, "torch-fidelity": torch_fidelity_of}
    action = makers[library](metric)
    draws = np.random.default_rng(0)
    a, b = (draws.standard_normal((n, d), np.float32).astype(dtype, copy=False) for _ in range(2))

    # The first call loads what is loaded late.
    action(a[:64], b[:64])
    peak, start = megabytes(), time.process_time()
    action(a, b)
    seconds = time.process_time() - start
    print(json.dumps({"seconds": seconds, "rise_mb": megabytes() - peak, "peak_mb": megabytes()}))


def megabytes() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(library: str, metric: str, n: int, d: int, dtype: str = "float64") -> dict:
    """What a process of its own printed."""
    command = [sys.executable, __file__, "--child", library, metric, str(n), str(d), dtype]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print both tables."""
    n, d, large = (
        int(sys.argv[i]) if len(sys.argv) > i else default
        for i, default in ((1, 2000), (2, 512), (3, 20_000))
    )
    print(f"\n{n} x {d} features a side\n")
    print("| metric | library | seconds | ours | ratio | rise, MB | ours | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for metric, libraries in RIVALS.items():
        own = measured("ours", metric, n, d)
        for library in libraries:
            other = measured(library, metric, n, d)
            cells = [metric, library]
            for what, digits in (("seconds", 2), ("rise_mb", 0)):
                ratio = other[what] / max(own[what], 1e-9)
                shown = f"{ratio:.1f}" if own[what] else "-"
                cells += [f"{other[what]:.{digits}f}", f"{own[what]:.{digits}f}", shown]
            print(f"| {' | '.join(cells)} |", flush=True)
    if large:
        print(f"\nCMMD, {large} x {d} float32 features a side\n")
        print("| | seconds | rise, MB | peak, MB | three dense tables, MB |\n|---|---|---|---|---|")
        for metric in ("CMMD", "CMMD with interval"):
            own = measured("ours", metric, large, d, "float32")
            figures = own["seconds"], own["rise_mb"], own["peak_mb"], 24 * large**2 / 2**20
            print(f"| {metric} | {' | '.join(f'{figure:.0f}' for figure in figures)} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:4], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
    else:
        main()
