"""Tables and numbers of every report, in markdown."""

from collections.abc import Sequence

from controlgen.metrics.bootstrap import Interval


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(value: Interval | float | None, digits: int = 3) -> str:
    """A number, with its interval where it has one of more than one source; "-" where absent."""
    if value is None:
        return "-"
    if not isinstance(value, Interval):
        return f"{value:.{digits}f}"
    mean = f"{value.mean:.{digits}f}"
    if value.n < 2:
        return mean
    return f"{mean} ({value.low:.{digits}f} to {value.high:.{digits}f})"
