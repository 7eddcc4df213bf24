"""The temporary Prefect server of a run that has none: it ends with the run, and never before it.

Importing this module costs seconds (Prefect's whole server), so it is imported where it is needed.
"""

import os
import subprocess
import sys
from typing import Any

import prefect
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

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

    Prefect keeps one server a process and asks for it by the base class; making this one first is
    all it takes to have it used.
    """

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
            return subprocess.Popen(
                [sys.executable, "-c", GUARDED, *application, *words],
                stdin=watched,
                env={**os.environ, **flags, **settings},
                start_new_session=True,
            )
        finally:
            os.close(watched)
