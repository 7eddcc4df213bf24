"""Every error the library raises on purpose: one line that says what, where and the way out."""


class ControlGenError(Exception):
    """Base of all errors meant for a user; the command line prints its message and exits 2."""


class ConfigError(ControlGenError):
    """A setting is unknown, missing or out of range."""


class DataError(ControlGenError):
    """Input data cannot be found, read or trusted."""


class ArtifactMissing(ControlGenError):
    """An artifact was asked for that the store does not hold."""


class ArtifactCorrupt(ControlGenError):
    """An artifact's files differ from what its manifest promises."""


class Incompatible(ControlGenError):
    """Two parts do not belong together: other generator, other feature space, other shape."""


class Diverged(ControlGenError):
    """A loss became non-finite; the last checkpoint is kept on disk, at the least the beginning."""
