"""How far can answers be believed? Fits and judges the score for a map that lies in a store.

python benchmarks/reachability.py MAP [--store artifacts] [--targets 2000] [--json FILE]
"""

import argparse
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from controlgen import Editor
from controlgen.artifacts import ArtifactRef, Store
from controlgen.artifacts.bank import SampleBank
from controlgen.artifacts.store import open_artifact, read_manifest
from controlgen.config import ReachabilityConfig
from controlgen.datasets import AnyDataset
from controlgen.editing.confidence.fit import Judged
from controlgen.evaluation.markdown import shown, table
from controlgen.stages.fit_confidence import Believing
from controlgen.utils.files import read_json


def markdown(judged: Judged) -> str:
    """All that was judged, as tables."""
    bins = [
        [f"{b.low:.1f} to {b.high:.1f}", str(b.n), shown(b.predicted), shown(b.observed)]
        for b in judged.bins
    ]
    kinds = [
        [k.kind, str(k.n), shown(k.near), shown(k.score), shown(k.warned), shown(k.auroc)]
        for k in judged.kinds
    ]
    inputs = [[i.input, shown(i.without), shown(i.alone)] for i in judged.inputs]
    lines = [
        f"near: audit cosine at least {judged.near_means:.3f}; fitted on {judged.fitted}, judged "
        f"on {judged.judged}, of which {judged.share:.1%} are near",
        f"AUROC {shown(judged.auroc)}; among likely kinds {shown(judged.auroc_near)}; among "
        f"held-out samples {shown(judged.auroc_bank)}",
        f"Brier {judged.brier:.3f} (constant {judged.brier_constant:.3f}); calibration error "
        f"{judged.calibration_error:.3f}; of answers not near {shown(judged.failures_warned)} are "
        f"warned; of warnings {shown(judged.warnings_right)} are right",
        table(["score", "n", "predicted", "observed"], bins),
        table(["kind", "n", "near", "mean score", "warned", "AUROC within"], kinds),
        table(["input", "AUROC without", "AUROC alone"], inputs),
    ]
    return "\n\n".join(lines)


def main() -> None:
    """Fit, judge, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("map", type=Path)
    parser.add_argument("--store", type=Path, default=Path("artifacts"))
    parser.add_argument("--targets", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()

    folder, store = open_artifact(given.map), Store(given.store)
    made_from = read_manifest(folder).parents
    settings = read_json(folder / "config.json")
    bank, features = (
        store.open(ArtifactRef.parse(made_from[role])) for role in ("bank", "features")
    )
    items = SampleBank.open(bank, features, settings["held_out"])
    gan = read_json(store.open(ArtifactRef.parse(made_from["gan"])) / "config.json")
    config = ReachabilityConfig(targets=given.targets, seed=given.seed)
    dataset: Any = TypeAdapter(AnyDataset).validate_python(gan["dataset"])
    believing = Believing.of(config, dataset)
    assert believing is not None
    found, judged = believing.learn(Editor.load(folder), items)
    print(f"warnings below {found.warn_below:.3f}\n")
    print(markdown(judged))
    if given.json:
        given.json.write_text(json.dumps(judged.effective(), indent=1) + "\n")


if __name__ == "__main__":
    main()
