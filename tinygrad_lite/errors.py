"""The errors of the library. Each is also the built-in error that a caller would expect, and has words that help."""


class TinygradError(Exception):
    """Base of every error that the library raises on purpose."""


class ShapeError(TinygradError, ValueError):
    """A shape, rank, size, axis or other value of an argument does not fit."""


class OutOfBoundsError(ShapeError, IndexError):
    """An index or an axis that a tensor does not have."""


class DtypeError(TinygradError, TypeError):
    """A dtype or type of an argument does not fit."""


class TapeError(TinygradError, RuntimeError):
    """Backward was asked of something that the tape does not hold (any more)."""


class GradientError(TinygradError, AssertionError):
    """A gradient check found a gradient that is wrong."""


class FileFormatError(TinygradError, ValueError):
    """A file is not what its name or its place says: truncated, damaged, swapped or foreign."""


class TrainingError(TinygradError, RuntimeError):
    """Training cannot go on: a loss or a gradient is not finite."""
