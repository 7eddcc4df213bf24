"""The server against the Editor: latency, edits a second at several clients, memory, start-up.

python benchmarks/serve.py [MAP_FOLDER] [--requests 10000]

Ratios are of medians of calls that take turns in one run, each edit another one.
"""

import argparse
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np

from controlgen import Client, Editor
from controlgen.control import Recipe
from controlgen.drawing import draw_edit
from controlgen.serve import telling

CLIENTS = (1, 8, 32)
EDITS = 200  # for each number of clients
TEXTS = {1: "text('a bold digit') - text('a thin digit')", 3: "text('malignant') - text('benign')"}


def words(editor: Editor, at: int) -> str:
    """The edit of a seed, another one each time."""
    return f"seed({at}) + {TEXTS[editor.image_shape[0]]}"


def megabytes(process: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found.group(1)) / 1000 if found else float("nan")


def told(name: str, taken: list[float]) -> None:
    """Percentiles of seconds, in milliseconds."""
    low, high = np.percentile(np.array(taken) * 1000, (50, 95))
    print(f"{name}: p50 {low:.1f} ms, p95 {high:.1f} ms, n {len(taken)}")


def drawn(editor: Editor, asked: str) -> None:
    """An edit with its measurements, as the PNG that the API sends."""
    query = editor.query(asked)
    about = {"model": "bench", "weights": editor.weights, "picture": "result"}
    recipe = Recipe.parse({**about, "expression": query.expression})
    edit = draw_edit(editor, query, recipe, BytesIO())
    telling.picture(edit, 0, "", recipe.amount, query.hold, recipe)


def overhead(editor: Editor, client: Client) -> None:
    """One client against the Editor in this process, in turns.

    The API also measures each answer and draws it as a PNG, so it is held against both: the answer
    alone, and all that the API tells.
    """
    calls = {
        "Editor.answer": editor.answer,
        "the same, measured and drawn": lambda asked: drawn(editor, asked),
        "POST /v1/edit": client.answer,
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for at in range(EDITS + 5):
        for name, call in calls.items():
            begun = time.perf_counter()
            call(words(editor, at))
            if at >= 5:
                taken[name].append(time.perf_counter() - begun)
    for name, values in taken.items():
        told(name, values)
    alone, whole, served = (np.median(values) for values in taken.values())
    for name, direct in (("the answer alone", alone), ("all that it tells", whole)):
        over = 100 * (served / direct - 1)
        print(f"overhead of the API at one client, over {name}: {over:.0f} %")


def crowd(editor: Editor, client: Client, clients: int) -> None:
    """Many clients at once."""

    def one(at: int) -> float:
        begun = time.perf_counter()
        client.answer(words(editor, at))
        return time.perf_counter() - begun

    begun = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        taken = list(pool.map(one, range(EDITS)))
    rate = EDITS / (time.perf_counter() - begun)
    told(f"{clients} clients: {rate:.1f} edits a second", taken)


def main() -> None:
    """Start a server, ask, stop it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("map", nargs="?", default="artifacts/pretrained/mnist")
    parser.add_argument("--requests", type=int, default=10_000)
    asked = parser.parse_args()

    begun = time.perf_counter()
    code = "from controlgen.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", asked.map, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split(" at ")[1].split()[0]
        client = Client(url, patience=600)
        client.sample(1)
        print(f"start-up to the first answer: {time.perf_counter() - begun:.1f} s")
        editor = Editor.load(asked.map)
        overhead(editor, client)
        for clients in CLIENTS:
            crowd(editor, client, clients)

        def one(at: int) -> None:
            client.answer(words(editor, at))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, range(100)))
            before = megabytes(process.pid)
            list(pool.map(one, range(asked.requests)))
        after = megabytes(process.pid)
        print(
            f"memory after 100 requests {before:.0f} MB, after {asked.requests} more {after:.0f} MB"
        )
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
