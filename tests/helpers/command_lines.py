"""What both command lines do with a user's mistake."""

from typing import Any

EIGHT = 'text("a digit eight")-text("a digit three")'


def refused(answer: Any, says: str) -> None:
    """One line on stderr, nothing on stdout, exit 2."""
    assert answer.code == 2, answer
    assert answer.out == ""
    assert says in answer.err, answer.err
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.startswith("controlgen: ")
