"""Numbers and tables of reports in markdown."""

from collections.abc import Sequence

from controlgen.metrics.bootstrap import Interval


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_interval(value: Interval | float | None, digits: int = 3) -> str:
    """Format a number, with its interval if that is of several sources; "-" if absent."""
    if value is None:
        return "-"
    if not isinstance(value, Interval):
        return f"{value:.{digits}f}"
    mean = f"{value.mean:.{digits}f}"
    if value.n < 2:
        return mean
    return f"{mean} ({value.low:.{digits}f} to {value.high:.{digits}f})"
