"""What the flows' command lines share: a config, overrides, a store, errors in one line."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from rich.console import Console

from controlgen.artifacts import Store
from controlgen.base_config import BaseConfig
from controlgen.config import RunConfig
from controlgen.errors import ControlGenError
from controlgen.utils.malloc import retain_freed_memory
from flows.prefect_ui import check_server, quiet_prefect

ConfigArgument = Annotated[Path, typer.Argument(help="TOML file, e.g. configs/mnist-quick.toml.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override: train.objective.gamma=0.5; nothing after = takes the setting away"
    ),
]
StoreOption = Annotated[Path, typer.Option("--store", help="Folder for the artifacts.")]
ShipOption = Annotated[
    str | None, typer.Option(help="Copy the result to artifacts/pretrained/NAME, with a card.")
]
STOPPED = "stopped; run the same command again to go on"
DryOption = Annotated[bool, typer.Option("--dry-run", help="Show the effective config and stop.")]


def run(action: Callable[[Any, Store], None], kind: type[BaseConfig] = RunConfig) -> None:
    """Give a flow its command line and run it; a user's mistake is one line and exit 2."""

    def command(
        config: ConfigArgument,
        overrides: SetOption = None,
        store: StoreOption = Path("artifacts"),
        dry_run: DryOption = False,
    ) -> None:
        start(action, kind, config, overrides, store, dry_run)

    serve(command, action.__doc__)


def run_and_ship(
    action: Callable[[Any, Store, Path | None], None], kind: type[BaseConfig] = RunConfig
) -> None:
    """`run` for a flow whose result may become a pretrained folder."""

    def command(
        config: ConfigArgument,
        overrides: SetOption = None,
        store: StoreOption = Path("artifacts"),
        ship: ShipOption = None,
        dry_run: DryOption = False,
    ) -> None:
        target = store / "pretrained" / ship if ship else None
        start(
            lambda settings, opened: action(settings, opened, target),
            kind,
            config,
            overrides,
            store,
            dry_run,
        )

    serve(command, action.__doc__)


def start(
    action: Callable[[Any, Store], None],
    kind: type[BaseConfig],
    config: Path,
    overrides: list[str] | None,
    store: Path,
    dry_run: bool,
) -> None:
    """Read the settings; show them, or act on them."""
    settings = kind.load(config, overrides or ())
    if dry_run:
        Console().print_json(json.dumps(settings.effective()))
        return
    check_server()
    retain_freed_memory()
    with quiet_prefect():
        action(settings, Store(store))


def serve(command: Callable[..., None], description: str | None) -> None:
    """Run a command line. Ctrl-C and SIGTERM are one line and exit 130 and 143."""
    command.__doc__ = description
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    with _stoppable() as received:
        try:
            app()
        except ControlGenError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            sys.exit(2)
        except BaseException:
            # What a stop becomes on its way through Prefect and typer is theirs to decide.
            if not received:
                raise
            print(STOPPED, file=sys.stderr)
            sys.exit(128 + received[0])


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """Let SIGTERM stop as Ctrl-C does; yields the numbers of the signals that came.

    A signal that is ignored, as in the background of a script, stays so. Prefect takes SIGTERM for
    the time of a flow and hands it on to the handler that was there. A second signal ends the
    process at once: nothing is ever half-written, and the temporary server ends by itself.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            os.write(2, f"\n{STOPPED}\n".encode())
            os._exit(128 + received[0])
        raise KeyboardInterrupt

    known = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heard = {number: handler for number, handler in known.items() if handler != signal.SIG_IGN}
    for number in heard:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler)
