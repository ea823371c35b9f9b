"""Exit codes of `biolmm run` and `biolmm worker`, for schedulers that decide by them whether to try again.

| code | meaning | try again |
|---|---|---|
| 0 | done | no |
| 64 | the user's mistake (2 where the command is typed without `run`) | never |
| 65 | done, but for traits that cannot be analysed (`biolmm reanalyse`) | never |
| 69 | a worker found no leader in time | yes |
| 70 | any other failure: a machine, a disk, full or broken, memory | yes, a few times |
| 73 | another reanalysis is at work in the same folder | not at once |
| 75 | stopped at a checkpoint on SIGTERM or SIGUSR1 | yes: the same command continues |
| 130 | interrupted from the keyboard | no |
"""

from __future__ import annotations

DONE = 0
FAILED = 1
USER = 2
USER_NEVER_RETRY = 64
PARTIAL = 65
NO_LEADER = 69
RETRY = 70
BUSY = 73
CHECKPOINT = 75
INTERRUPTED = 130

FINAL = (DONE, USER_NEVER_RETRY, PARTIAL)
"""After these another attempt would do nothing, or the same."""


def for_schedulers(code: int) -> int:
    """Turn the exit code of a command into that of `biolmm run`.

    Examples
    --------
    >>> [for_schedulers(code) for code in (0, 1, 2, 65, 73, 75, 130)]
    [0, 70, 64, 65, 73, 75, 130]
    """
    return {FAILED: RETRY, USER: USER_NEVER_RETRY}.get(code, code)
