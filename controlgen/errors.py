"""Errors that the library raises on purpose: one line with what, where and what to do."""


class ControlGenError(Exception):
    """Base of all errors for users; the command line prints the message and exits with 2."""


class ConfigError(ControlGenError):
    """A setting is unknown, missing or out of range."""


class DataError(ControlGenError):
    """Input data cannot be found, read or trusted."""


class ArtifactMissing(ControlGenError):
    """The store does not hold a requested artifact."""


class ArtifactCorrupt(ControlGenError):
    """An artifact's files differ from its manifest."""


class Incompatible(ControlGenError):
    """Two parts do not belong together: other generator, other feature space, other shape."""


class Diverged(ControlGenError):
    """A loss became non-finite; the last checkpoint, at least the initial one, stays on disk."""
