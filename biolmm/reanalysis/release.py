"""Releases on disk: `release.json` says what one depends on and which pieces its traits' results are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from biolmm.atomic import write_json
from biolmm.errors import InputFileError, ParameterError, named
from biolmm.reanalysis.plan import BY_DATE, BY_FINGERPRINT, Plan
from biolmm.reanalysis.state import State

RELEASE_JSON = "release.json"
TABLES_NAME = "tables.parquet"
PIECES = "pieces"
LATEST = "latest"
FORMAT = 1

Status = Literal["taken over", "extended", "computed", "failed"]


@dataclass(frozen=True)
class TraitRecord:
    """Where one trait's results come from.

    Attributes
    ----------
    status
        `taken over` from the release before; `extended` by new variants; `computed`; `failed`.
    why
        The reason.
    model
        Piece with its model; None where it failed.
    scans
        Pieces with its associations, in the order of their parts.
    """

    status: Status
    why: str
    model: str | None = None
    scans: tuple[str, ...] = ()


@dataclass(frozen=True)
class Release:
    """A finished release.

    Attributes
    ----------
    path
        Its folder.
    sequence
        Releases are counted.
    state
        What it depends on.
    traits
        Every trait of the plan.
    previous
        Release that it was made from.
    why
        Why nothing was taken over; empty where something was.
    finished
        When.
    """

    path: Path
    sequence: int
    state: State
    traits: dict[str, TraitRecord]
    previous: str | None = None
    why: tuple[str, ...] = ()
    finished: str = ""

    @property
    def name(self) -> str:
        """Its name, which is that of the folder."""
        return self.path.name

    @property
    def failed(self) -> list[str]:
        """Traits that failed."""
        return [name for name, record in self.traits.items() if record.status == "failed"]

    @property
    def pieces(self) -> set[str]:
        """Pieces that its results are made of."""
        found = {piece for record in self.traits.values() for piece in record.scans}
        return found | {record.model for record in self.traits.values() if record.model is not None}

    def snapshot(self) -> pd.DataFrame:
        """Return the values of traits and covariates that it was made from.

        Raises
        ------
        InputFileError
            When they are not there any more.
        """
        path = self.path / TABLES_NAME
        try:
            return pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise InputFileError(
                f"{path} cannot be read ({error}): restore it, or remove the release {self.name}."
            ) from error

    def write(self, folder: Path) -> None:
        """Write `release.json` into a folder that will be the release's."""
        content = {**asdict(self), "path": None, "format": FORMAT, "name": self.name, "key": self.state.key}
        del content["path"]
        write_json(folder / RELEASE_JSON, content)


def open_release(path: Path) -> Release:
    """Open a release.

    Raises
    ------
    InputFileError
        When its record is damaged, or of another version.
    """
    record = path / RELEASE_JSON
    try:
        content: Mapping[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise InputFileError(
                f"{record} has format {content['format']} but this version reads {FORMAT}: name another `out` in the plan."
            )
        traits = {
            str(name): TraitRecord(each["status"], each["why"], each["model"], tuple(each["scans"]))
            for name, each in content["traits"].items()
        }
        return Release(
            path=path,
            sequence=int(content["sequence"]),
            state=State.from_json(content["state"]),
            traits=traits,
            previous=content["previous"],
            why=tuple(content["why"]),
            finished=str(content["finished"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputFileError(
            f"{record} is damaged ({type(error).__name__}: {error}): restore it, or remove the folder {path.name}."
        ) from error


def releases(out: Path) -> list[Release]:
    """Open all releases of a folder, the earliest first."""
    if not out.is_dir():
        return []
    # A folder being made begins with a dot; `latest` is a link.
    folders = [path for path in out.iterdir() if path.is_dir() and not path.is_symlink() and path.name[0] != "."]
    found = [open_release(path) for path in folders if (path / RELEASE_JSON).is_file()]
    return sorted(found, key=lambda release: release.sequence)


def previous_of(plan: Plan, known: list[Release]) -> Release | None:
    """Return the release to take results over from: the one that the plan names, or the last.

    Raises
    ------
    ParameterError
        When the plan names one that is not there.
    """
    if plan.previous is None:
        return known[-1] if known else None
    for release in known:
        if release.name == plan.previous:
            return release
    raise ParameterError(
        f"'{plan.path}' takes over from release {plan.previous!r}, which is not in '{plan.out}': it has "
        f"{named([release.name for release in known]) or 'none'}."
    )


def name_of(plan: Plan, state: State, known: list[Release]) -> str:
    """Return the name of a new release.

    Raises
    ------
    ParameterError
        When the plan names one that is there, or something else with that name is.
    """
    taken = {release.name for release in known}
    if plan.release not in (BY_DATE, BY_FINGERPRINT):
        if plan.release in taken:
            raise ParameterError(
                f"release {plan.release!r} of '{plan.path}' is finished, with other inputs or settings: give the new one "
                f"another name, or remove '{plan.out / plan.release}'."
            )
        if (plan.out / plan.release).exists():
            raise ParameterError(
                f"'{plan.out / plan.release}' is there and no release: give the release of '{plan.path}' another name, or "
                "remove that."
            )
        return plan.release
    base = state.key[:12] if plan.release == BY_FINGERPRINT else datetime.now(UTC).date().isoformat()
    names = (base, *(f"{base}.{count}" for count in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken and not (plan.out / name).exists())
