"""The server against the Editor: latency, edits a second at several clients, memory, start-up.

python benchmarks/serve.py [MAP_FOLDER] [--requests 10000] [--rounds 5]

Overhead is a ratio of medians of calls that take turns, TURN at a time, for what the one process
leaves in the caches is in the other's way; each edit is another one. One and the same code is up to
a third faster or slower on one core, and from one minute to the next, so every round has a new
server and a new process beside it: told are the median round and the range of all. Rounds are of
two kinds. With one core for both, what is compared is work. With all cores they change over at
every request, and what a core costs that wakes up, or that another tenant shares, is in it as well.
At several clients overhead is the edits a second that the server gives, against one Editor alone.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np

from controlgen import Client, Editor
from controlgen.editing import Recipe
from controlgen.editing.rendering import render_edit
from controlgen.serve import responses

CLIENTS = (1, 8, 32)
EDITS = 200  # for each number of clients
TURN = 20  # edits of one kind after each other
CROWD = 50  # the same of several clients
TEXTS = {1: "text('a bold digit') - text('a thin digit')", 3: "text('malignant') - text('benign')"}


def words(editor: Editor, at: int) -> str:
    """The edit of a seed, another one each time."""
    return f"seed({at}) + {TEXTS[editor.image_shape[0]]}"


def megabytes(process: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    actual = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(actual.group(1)) / 1000 if actual else float("nan")


def told(name: str, taken: list[float]) -> None:
    """Percentiles of seconds, in milliseconds."""
    low, high = np.percentile(np.array(taken) * 1000, (50, 95))
    print(f"{name}: p50 {low:.1f} ms, p95 {high:.1f} ms, n {len(taken)}")


def drawn(editor: Editor, asked: str) -> None:
    """An edit with its measurements, as the PNG that the API sends."""
    query = editor.resolve(asked)
    about = {"model": "bench", "weights": editor.weights, "picture": "result"}
    recipe = Recipe.parse({**about, "expression": query.expression})
    edit = render_edit(editor, query, recipe, BytesIO())
    responses.picture_response(edit, 0, "", recipe.amount, query.hold, recipe)


def overhead(editor: Editor, client: Client) -> dict[str, float]:
    """One client against the Editor in this process, in turns: median milliseconds of each.

    The API also measures each answer and draws it as a PNG, so it is held against both: the answer
    alone, and all that the API tells.
    """
    calls = {
        "Editor.answer": editor.apply,
        "the same, measured and drawn": lambda asked: drawn(editor, asked),
        "POST /v1/edit": client.answer,
    }
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for start in range(0, EDITS, TURN):
        for name, call in calls.items():
            for at in range(start - 1, start + TURN):
                begun = time.perf_counter()
                call(words(editor, at % EDITS))
                if at >= start:  # the first of a turn finds the other's traces
                    taken[name].append(time.perf_counter() - begun)
    return {name: 1000 * float(np.median(values)) for name, values in taken.items()}


def rounds(map_folder: str, n: int) -> None:
    """Overheads of n servers, each with another process beside it: on one core, on all of them."""
    cores = sorted(os.sched_getaffinity(0))
    for where, sets in (
        ("one core for both", [{cores[at % len(cores)]} for at in range(n)]),
        (f"{len(cores)} cores", [set(cores)] * n),
    ):
        actual = []
        for use in sets:
            with only(use), served(map_folder) as (_, url):
                command = [sys.executable, __file__, map_folder, "--beside", url]
                process = subprocess.run(
                    command, stdout=subprocess.PIPE, text=True, check=True
                ).stdout
            actual.append(list(json.loads(process).values()))
            print(f"{where}:", ", ".join(f"{item:.1f}" for item in actual[-1]), "ms", flush=True)
        alone, full, asked = np.array(actual).T
        for name, values in (
            ("Editor.answer", alone),
            ("the same, measured and drawn", full),
            ("POST /v1/edit", asked),
        ):
            print(f"{where}: {name}: {spread(values, 1)} ms, {n} rounds of {EDITS}")
        for name, direct in (("the answer alone", alone), ("all that it tells", full)):
            over = spread(100 * (asked / direct - 1), 0)
            print(f"{where}: overhead of the API at one client, over {name}: {over} %")


@contextmanager
def only(cores: set[int]) -> Iterator[None]:
    """Run on these cores alone; so does every process that is begun within."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def spread(values: np.ndarray, digits: int) -> str:
    """The median, and the range."""
    return (
        f"{np.median(values):.{digits}f} ({values.min():.{digits}f} to {values.max():.{digits}f})"
    )


def crowd(editor: Editor, client: Client, clients: int) -> None:
    """Many clients at once, in turns with an Editor that has the cores to itself."""

    def one(at: int) -> float:
        begun = time.perf_counter()
        client.answer(words(editor, at))
        return time.perf_counter() - begun

    taken: list[float] = []
    ratios, together = [], 0.0
    with ThreadPoolExecutor(clients) as pool:
        for start in range(0, EDITS, CROWD):
            edits = range(start, start + CROWD)
            begun = time.perf_counter()
            taken += pool.map(one, edits)
            spent = time.perf_counter() - begun
            begun = time.perf_counter()
            for at in edits:
                drawn(editor, words(editor, at))
            ratios.append(spent / (time.perf_counter() - begun))
            together += spent
    told(f"{clients} clients: {EDITS / together:.1f} edits a second", taken)
    over = spread(100 * (np.array(ratios) - 1), 0)
    print(f"{clients} clients: overhead in edits a second, over all that it tells: {over} %")


@contextmanager
def served(map_folder: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server's process and address, for as long as it is needed."""
    code = "from controlgen.cli.app import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "serve", map_folder, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().split(" at ")[1].split()[0]
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Start servers, ask, stop them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("map", nargs="?", default="artifacts/pretrained/mnist")
    parser.add_argument("--requests", type=int, default=10_000, help="for the memory; 0: none")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--beside", metavar="URL", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.beside:
        print(json.dumps(overhead(Editor.load(asked.map), Client(asked.beside))))
        return

    rounds(asked.map, asked.rounds)
    begun = time.perf_counter()
    with served(asked.map) as (process, url):
        client = Client(url, patience=600)
        client.sample(1)
        print(f"start-up to the first answer: {time.perf_counter() - begun:.1f} s")
        editor = Editor.load(asked.map)
        for clients in CLIENTS:
            crowd(editor, client, clients)

        def one(at: int) -> None:
            client.answer(words(editor, at))

        if asked.requests:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(one, range(100)))
                before = megabytes(process.pid)
                list(pool.map(one, range(asked.requests)))
            after = megabytes(process.pid)
            print(
                f"memory after 100 requests {before:.0f} MB, "
                f"after {asked.requests} more {after:.0f} MB"
            )


if __name__ == "__main__":
    main()
