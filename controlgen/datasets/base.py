"""What the settings of every data set share."""

from typing import Any, Literal, TypeVar

from controlgen.base_config import BaseConfig
from controlgen.stains import AnyStain

# Not Self: beartype, which checks shapes in the tests, supports it in decorated classes only.
Config = TypeVar("Config", bound="DatasetConfig")


class DatasetConfig(BaseConfig):
    """Settings of a data set with a training and a test split."""

    def with_split(self: Config, split: Literal["train", "test"]) -> Config:
        """The same data set at another split."""
        return self.model_copy(update={"split": split})

    def with_content_hash(self: Config) -> Config:
        """The same data set, identified by its content where a path would identify it."""
        return self


def content_identity(
    identity: dict[str, Any], path_key: str, content: str | None, stain: AnyStain
) -> dict[str, Any]:
    """The settings that decide the result. With a content hash, the path `path_key` is left out
    and a stain reference is identified by its bytes.

    Raises DataError where the stain reference cannot be read.
    """
    if content is None:
        return identity
    rest = {name: value for name, value in identity.items() if name != path_key}
    return {**rest, "stain": stain.cache_identity()}
