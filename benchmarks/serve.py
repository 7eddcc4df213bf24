"""The server against the Editor: latency, edits per second with several clients, memory, start-up.

python benchmarks/serve.py [MAP_FOLDER] [--requests 10000] [--rounds 5]

Overhead is a ratio of medians of calls that alternate, TURN at a time, because what a process
leaves in the caches slows the other one; every edit is a different one. The same code is up to a
third faster or slower on one core, and from one minute to the next, so every round has a new server
and a new client process; the median round and the range are printed. Rounds are of two kinds. On
one core for both processes they compare work. On all cores the processes alternate at every
request, which adds the cost of a core that wakes up or is shared with another tenant. With several
clients, overhead compares edits per second with those of a single Editor.
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
TURN = 20  # consecutive edits of one kind
CROWD = 50  # the same with several clients
TEXTS = {1: "text('a bold digit') - text('a thin digit')", 3: "text('malignant') - text('benign')"}


def expression(editor: Editor, seed: int) -> str:
    """The edit of a seed."""
    return f"seed({seed}) + {TEXTS[editor.image_shape[0]]}"


def resident_megabytes(process: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(match.group(1)) / 1000 if match else float("nan")


def print_percentiles(name: str, seconds: list[float]) -> None:
    """Print percentiles in milliseconds."""
    median, high = np.percentile(np.array(seconds) * 1000, (50, 95))
    print(f"{name}: p50 {median:.1f} ms, p95 {high:.1f} ms, n {len(seconds)}")


def render(editor: Editor, text: str) -> None:
    """An edit with its measurements as the PNG that the API sends."""
    resolved = editor.resolve(text)
    settings = {"model": "bench", "weights": editor.weights, "picture": "result"}
    recipe = Recipe.parse({**settings, "expression": resolved.expression})
    edit = render_edit(editor, resolved, recipe, BytesIO())
    responses.picture_response(edit, 0, "", recipe.amount, resolved.hold, recipe)


def alternate(editor: Editor, client: Client) -> dict[str, float]:
    """Median milliseconds of the API with one client, and of the Editor in this process.

    The API also measures each result and encodes it as a PNG, so it is compared with both: the
    edit alone, and the edit with all that the API sends.
    """
    calls = {
        "Editor.apply": editor.apply,
        "with measurements and PNG": lambda text: render(editor, text),
        "POST /v1/edit": client.apply,
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for first in range(0, EDITS, TURN):
        for name, call in calls.items():
            for seed in range(first - 1, first + TURN):
                start = time.perf_counter()
                call(expression(editor, seed % EDITS))
                if seed >= first:  # the first call of a turn suffers from the other's caches
                    seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * float(np.median(values)) for name, values in seconds.items()}


def run_rounds(map_folder: str, n: int) -> None:
    """Overhead in n rounds, each with a new server and a new client: on one core, on all cores."""
    cores = sorted(os.sched_getaffinity(0))
    for where, core_sets in (
        ("one core for both", [{cores[index % len(cores)]} for index in range(n)]),
        (f"{len(cores)} cores", [set(cores)] * n),
    ):
        medians = []
        for core_set in core_sets:
            with pinned(core_set), served(map_folder) as (_, url):
                command = [sys.executable, __file__, map_folder, "--client-of", url]
                output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            medians.append(list(json.loads(output.stdout).values()))
            print(f"{where}:", ", ".join(f"{value:.1f}" for value in medians[-1]), "ms", flush=True)
        alone, complete, api = np.array(medians).T
        for name, values in (
            ("Editor.apply", alone),
            ("with measurements and PNG", complete),
            ("POST /v1/edit", api),
        ):
            print(f"{where}: {name}: {spread(values, 1)} ms, {n} rounds of {EDITS}")
        for name, direct in (("the edit alone", alone), ("measurements and PNG", complete)):
            overhead = spread(100 * (api / direct - 1), 0)
            print(f"{where}: overhead of the API with one client, over {name}: {overhead} %")


@contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Run on these cores only, with all processes that start within."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def spread(values: np.ndarray, digits: int) -> str:
    """The median and the range."""
    return (
        f"{np.median(values):.{digits}f} ({values.min():.{digits}f} to {values.max():.{digits}f})"
    )


def crowd(editor: Editor, client: Client, clients: int) -> None:
    """Several clients at once, alternating with an Editor that has the cores to itself."""

    def edit(seed: int) -> float:
        start = time.perf_counter()
        client.apply(expression(editor, seed))
        return time.perf_counter() - start

    latencies: list[float] = []
    ratios, total = [], 0.0
    with ThreadPoolExecutor(clients) as pool:
        for first in range(0, EDITS, CROWD):
            seeds = range(first, first + CROWD)
            start = time.perf_counter()
            latencies += pool.map(edit, seeds)
            elapsed = time.perf_counter() - start
            start = time.perf_counter()
            for seed in seeds:
                render(editor, expression(editor, seed))
            ratios.append(elapsed / (time.perf_counter() - start))
            total += elapsed
    print_percentiles(f"{clients} clients: {EDITS / total:.1f} edits per second", latencies)
    overhead = spread(100 * (np.array(ratios) - 1), 0)
    print(f"{clients} clients: overhead in edits per second: {overhead} %")


@contextmanager
def served(map_folder: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server's process and address; it stops at the end."""
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
    """Measure overhead, start-up, several clients and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("map", nargs="?", default="artifacts/pretrained/mnist")
    parser.add_argument("--requests", type=int, default=10_000, help="for the memory; 0 skips it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--client-of", metavar="URL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client_of:
        editor, client = Editor.load(arguments.map), Client(arguments.client_of)
        print(json.dumps(alternate(editor, client)))
        return

    run_rounds(arguments.map, arguments.rounds)
    start = time.perf_counter()
    with served(arguments.map) as (process, url):
        client = Client(url, patience=600)
        client.sample(1)
        print(f"start-up to the first response: {time.perf_counter() - start:.1f} s")
        editor = Editor.load(arguments.map)
        for clients in CLIENTS:
            crowd(editor, client, clients)

        def edit(seed: int) -> None:
            client.apply(expression(editor, seed))

        if arguments.requests:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(edit, range(100)))
                before = resident_megabytes(process.pid)
                list(pool.map(edit, range(arguments.requests)))
            after = resident_megabytes(process.pid)
            print(
                f"memory after 100 requests {before:.0f} MB, "
                f"after {arguments.requests} more {after:.0f} MB"
            )


if __name__ == "__main__":
    main()
