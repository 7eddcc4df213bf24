"""The command line of every flow: config, overrides, store, errors in one line."""

import json
import logging
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
from flows.prefect_ui import check_server, describe_start_failure, quiet_prefect

ConfigArgument = Annotated[Path, typer.Argument(help="TOML file, e.g. configs/mnist-quick.toml.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override a setting: train.objective.gamma=0.5; an empty value removes it."
    ),
]
StoreOption = Annotated[Path, typer.Option("--store", help="Folder for the artifacts.")]
ShipOption = Annotated[
    str | None, typer.Option(help="Copy the result to artifacts/pretrained/NAME, with a card.")
]
STOPPED = "stopped; run the same command again to go on"
DryOption = Annotated[bool, typer.Option("--dry-run", help="Show the effective config and stop.")]


def run(action: Callable[[Any, Store], None], kind: type[BaseConfig] = RunConfig) -> None:
    """Run a flow from the command line; a user's mistake is one line and exit 2."""

    def command(
        config: ConfigArgument,
        overrides: SetOption = None,
        store: StoreOption = Path("artifacts"),
        dry_run: DryOption = False,
    ) -> None:
        load_and_run(action, kind, config, overrides, store, dry_run)

    main(command, action.__doc__)


def run_with_export(
    action: Callable[[Any, Store, Path | None], None], kind: type[BaseConfig] = RunConfig
) -> None:
    """`run` for a flow that can also export its result as a pretrained folder."""

    def command(
        config: ConfigArgument,
        overrides: SetOption = None,
        store: StoreOption = Path("artifacts"),
        ship: ShipOption = None,
        dry_run: DryOption = False,
    ) -> None:
        target = store / "pretrained" / ship if ship else None
        load_and_run(
            lambda settings, opened: action(settings, opened, target),
            kind,
            config,
            overrides,
            store,
            dry_run,
        )

    main(command, action.__doc__)


def load_and_run(
    action: Callable[[Any, Store], None],
    kind: type[BaseConfig],
    config: Path,
    overrides: list[str] | None,
    store: Path,
    dry_run: bool,
) -> None:
    """Load the settings, then show them or run the flow."""
    settings = kind.load(config, overrides or ())
    if dry_run:
        Console().print_json(json.dumps(settings.to_dict()))
        return
    check_server()
    retain_freed_memory()
    with quiet_prefect():
        action(settings, Store(store))


def main(command: Callable[..., None], description: str | None) -> None:
    """Run a command line; Ctrl-C and SIGTERM print one line and exit with 130 and 143."""
    command.__doc__ = description
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    with _handle_stop_signals() as received:
        try:
            app()
        except ControlGenError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            sys.exit(2)
        except BaseException as error:
            # Prefect and typer turn a stop into exceptions of their own.
            if not received:
                if isinstance(error, RuntimeError) and "ephemeral Prefect" in str(error):
                    print(f"ControlGenError: {describe_start_failure(error)}", file=sys.stderr)
                    sys.exit(2)
                raise
            print(STOPPED, file=sys.stderr)
            sys.exit(128 + received[0])


@contextmanager
def _handle_stop_signals() -> Iterator[list[int]]:
    """Stop on SIGTERM as on Ctrl-C; yield the list of received signal numbers.

    Ignored signals, as in the background of a script, stay ignored. Prefect handles SIGTERM during
    a flow and then calls the previous handler. Further signals are ignored while the run stops, so
    that the temporary Prefect server is stopped, too.
    """
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            # Prefect logs connections that end with its server; they are no news to the user.
            logging.disable(logging.CRITICAL)
            raise KeyboardInterrupt

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = {number: old for number, old in previous.items() if old != signal.SIG_IGN}
    for number in handled:
        signal.signal(number, stop)
    try:
        yield received
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)
