"""Where a command writes: looked at before any work, and written whole or not at all."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from controlgen.errors import ConfigError


def ensure_writable_file(path: Path, said: str = "", suffixes: Sequence[str] = ()) -> None:
    """Raise ConfigError where no file of this name can be written; one that is there is replaced.

    `said` is the option that named it, for the error; `suffixes` are those it may end in.
    """
    called, kinds = f"{said} {path}".lstrip(), " or ".join(suffixes)
    wanted = f"name a file that ends in {kinds}" if suffixes else "name a file"
    if suffixes and path.suffix.lower() not in suffixes:
        raise ConfigError(f"{called}: {wanted}")
    with _refused(called):
        if path.is_dir():
            raise ConfigError(f"{called}: is a folder, {wanted}")
        _check_parent(path, called)
        _try(_partial(path))


def ensure_writable_dir(path: Path, said: str = "") -> None:
    """Raise ConfigError unless this is a folder that can be written to, or one that can be made.

    Only the folder itself is ever made: a missing parent is more likely a slip than a wish.
    """
    called = f"{said} {path}".lstrip()
    with _refused(called):
        if path.is_dir():
            _try(path / ".partial")
            return
        if path.exists():
            raise ConfigError(f"{called}: is no folder")
        _check_parent(path, called)
        _try(_partial(path))


def reproduction_command(*words: object, **options: object) -> str:
    """The command that writes a picture once more, but for -o: quoted for a shell.

    An option without a value is left out, and True is a flag.
    """
    said = [str(word) for word in words]
    for name, value in options.items():
        if value is True:
            said.append(f"--{name}")
        elif value is not None and value is not False and value != "":
            said.append(f"--{name}={value}")
    return shlex.join(["controlgen", *said])


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` to write to, which then replaces it; what fails leaves nothing."""
    partial = _partial(path)
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _check_parent(path: Path, called: str) -> None:
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{called}: the folder {path.parent} does not exist")


def _try(path: Path) -> None:
    # Only trying tells: rights, full or made-up file systems such as /proc, names too long.
    path.open("ab").close()
    path.unlink()


@contextmanager
def _refused(called: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{called}: cannot be written ({error.strerror})") from None
