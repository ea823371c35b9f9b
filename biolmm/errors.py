"""What can go wrong, in the user's words.

Every exception that biolmm raises on purpose derives from `BiolmmError`. A `UserError` is a mistake in what
was asked or given: the command line prints its one line and exits with 2. Anything else exits with 1, also an
`OutputError` that is the storage's doing.

A message says what was found against what was expected, with both numbers, the user's own names, the place
(file, line or id), and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable

MAX_NAMED = 5


class BiolmmError(Exception):
    """Something failed that is not the user's mistake."""

    exit_code = 1


class UserError(BiolmmError):
    """A mistake in what was asked or given; the message says how to mend it."""

    exit_code = 2


class ParameterError(UserError):
    """An option or argument has a value that cannot be used."""


class InputFileError(UserError):
    """A file is missing, unreadable, truncated or malformed."""


class SampleMismatchError(UserError):
    """Samples of two inputs do not fit together."""


class VariantMismatchError(UserError):
    """Variants of two inputs do not fit together."""


class TraitError(UserError):
    """A trait cannot be analysed."""


class CovariateError(UserError):
    """A covariate cannot be used."""


class StoreFormatError(UserError):
    """A path is not a store that this version of biolmm can read."""


class DamagedStoreError(UserError):
    """A store or model has lost or changed data since it was written."""


class MemoryBudgetError(UserError):
    """The work does not fit in the memory that was granted."""


class OutputError(UserError):
    """Results cannot be written where they were asked for.

    Parameters
    ----------
    message
        What cannot be written, why, and what to do.
    passing
        Whether the same command may succeed later, unchanged: the disk was full, or the storage failed. It is nobody's
        mistake then, and exits with 1.
    """

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        if passing:
            self.exit_code = 1


class Stopped(BiolmmError):  # noqa: N818  not an error: what was asked for
    """The run was asked to stop and did, at a point from which the same command continues."""

    exit_code = 75


class WorkersLostError(BiolmmError):
    """Workers of a cluster died again and again over the same task."""


def named(items: Iterable[object], limit: int = MAX_NAMED) -> str:
    """List at most `limit` offenders and how many more there are.

    Examples
    --------
    >>> named(["S1", "S2", "S3"], limit=2)
    'S1, S2 and 1 more'
    >>> named(["S1"])
    'S1'
    """
    names = [str(item) for item in items]
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit:,} more"
