"""Assertions about command lines."""

from typing import Any

TO_EIGHT = 'text("a digit eight")-text("a digit three")'


def assert_rejected(answer: Any, message: str) -> None:
    """Exit code 2, one line on stderr, nothing on stdout."""
    assert answer.code == 2, answer
    assert answer.out == ""
    assert message in answer.err, answer.err
    assert answer.err.count("\n") == 1, answer.err
    assert answer.err.startswith("controlgen: ")
