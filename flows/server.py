"""The temporary Prefect server of a run that has none: it ends with the run, and never before it.

Importing this module costs seconds (Prefect's whole server), so it is imported where it is needed.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import prefect
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

from controlgen.errors import ControlGenError

# The server's standard input is a pipe that only the run holds open. Its end is the end of the run,
# however that came about, SIGKILL included; then the server goes too, at the latest after seconds.
GUARDED = """\
import os, signal, threading, time

def watch():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
    os._exit(1)

threading.Thread(target=watch, daemon=True).start()
from uvicorn import main
main()
"""


class LastingServer(SubprocessASGIServer):
    """Prefect's own, in a session of its own: Ctrl-C on a terminal reaches the run alone.

    What it says while it ends (the work that it gives up, with tracebacks) is nobody's concern;
    what it says where it cannot start is in the error. Prefect keeps one server a process and asks
    for it by the base class; making this one first is all it takes to have it used.
    """

    def start(self, timeout: int | None = None) -> None:
        """As Prefect does it. Raises ControlGenError where the server does not answer in time."""
        try:
            super().start(timeout)
        except RuntimeError as error:
            last = (str(error).strip().splitlines() or ["no reason given"])[-1]
            raise ControlGenError(
                f"Prefect's temporary server did not start: {last.strip()} (its notes lie in "
                "PREFECT_HOME, ~/.prefect if unset; `make ui` starts a server that stays)"
            ) from None

    def stop(self) -> None:
        """As Prefect does it."""
        told = self.server_process and self.server_process.stderr
        super().stop()
        if told:
            told.close()

    def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
        # Prefect's command and environment; what is other is the watch and the session.
        settings = get_current_settings().to_environment_variables(exclude_unset=True)
        flags = {"PREFECT_UI_ENABLED": "0"}
        flags |= {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        options = {
            "--app-dir": prefect.__module_path__.parent,
            "--host": "127.0.0.1",
            "--port": self.port,
            "--log-level": "error",
            "--lifespan": "on",
        }
        words = [str(word) for option in options.items() for word in option]
        application = ["--factory", "prefect.server.api.server:create_app"]
        # The end that is written to stays open, and this process alone has it, until it ends.
        watched, _held = os.pipe()
        try:
            with tempfile.NamedTemporaryFile("ab") as told:
                process: subprocess.Popen[Any] = subprocess.Popen(
                    [sys.executable, "-c", GUARDED, *application, *words],
                    stdin=watched,
                    stderr=told,
                    env={**os.environ, **flags, **settings},
                    start_new_session=True,
                )
                # As Prefect asks for it where the server does not start.
                process.stderr = Path(told.name).open(errors="replace")  # noqa: SIM115
                return process
        finally:
            os.close(watched)
