"""What the flows' command lines share: a config, overrides, a store, errors in one line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from controlgen.artifacts import Store
from controlgen.config import RunConfig
from controlgen.errors import ControlGenError
from controlgen.spec import Spec
from flows.report import quiet_prefect

ConfigArgument = Annotated[Path, typer.Argument(help="TOML file, e.g. configs/mnist-quick.toml.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override: train.objective.gamma=0.5")
]
StoreOption = Annotated[Path, typer.Option("--store", help="Folder for the artifacts.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Show the effective config and stop.")]


def run(action: Callable[[Any, Store], None], kind: type[Spec] = RunConfig) -> None:
    """Give a flow its command line and run it; a user's mistake is one line and exit 2."""

    def command(
        config: ConfigArgument,
        overrides: SetOption = None,
        store: StoreOption = Path("artifacts"),
        dry_run: DryOption = False,
    ) -> None:
        settings = kind.load(config, overrides or ())
        if dry_run:
            Console().print_json(json.dumps(settings.effective()))
            return
        with quiet_prefect():
            action(settings, Store(store))

    command.__doc__ = action.__doc__
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    try:
        app()
    except ControlGenError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
