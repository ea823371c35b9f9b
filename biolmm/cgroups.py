"""Where the system keeps the limits of this process: the folders of its control group and of those above it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def group_folders(controller: str, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> Iterator[Path]:
    """Yield the folders that may hold limits of this process: its group, in both versions, and every one above.

    Parameters
    ----------
    controller
        What is limited, as version 1 names its mounts: `cpu` or `memory`.
    cgroups, membership
        Where control groups are mounted, and the file that names those of this process.
    """
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    # A container sees its own group at the root, whatever its name outside.
    for line in [*lines, "0::/", f"1:{controller}:/"]:
        names, _, group = line.partition(":")[2].partition(":")
        if names and controller not in names.split(","):
            continue
        for mount in (cgroups,) if not names else (cgroups / names, cgroups / controller):
            place = mount / group.lstrip("/")
            yield place
            while place != mount and mount in place.parents:
                place = place.parent
                yield place


def read_limit(file: Path) -> str:
    """Return what a file of a control group says; nothing where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""
