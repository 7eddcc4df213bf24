"""What names a data set once its content is known: the content, and no longer where it lies."""

from typing import Any

from controlgen.stains import AnyStain


def pinned_identity(
    kept: dict[str, Any], place: str, content: str | None, stain: AnyStain
) -> dict[str, Any]:
    """Settings that decide the result; of pinned data without `place`, the setting of its path.

    Then a stain reference is named by its bytes, too. Raises DataError where it is gone.
    """
    if content is None:
        return kept
    rest = {name: value for name, value in kept.items() if name != place}
    return {**rest, "stain": stain.content()}
