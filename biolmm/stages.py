"""Resumable stages: build aside, rename, and recognise finished work by a hash of what went into it.

A stage's artefact is a file or folder `<name>` beside a marker `<name>.done.json` that holds its key. The marker is
written after the artefact is in place; whoever finds a marker with the right key may trust the artefact.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from biolmm.atomic import remove, saving, write_json


def content_hash(*parts: Any) -> str:
    """Hash JSON-able values and bytes into 32 hexadecimal digits.

    Examples
    --------
    >>> content_hash("a", {"b": 1, "c": 2}) == content_hash("a", {"c": 2, "b": 1})
    True
    """
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Stages:
    """The finished stages below one folder."""

    root: Path

    def run(self, name: str, key: str, build: Callable[[Path], None]) -> tuple[Path, bool]:
        """Return the artefact `name`, built by `build(path)` unless it is there with the same key.

        Returns
        -------
        path, resumed
            Where the artefact is, and whether it was there already.
        """
        target = self.root / name
        marker = self.root / f"{name}.done.json"
        if self.is_done(name, key):
            return target, True
        marker.unlink(missing_ok=True)
        aside = self.root / f"{name}.partial"
        remove(aside)
        with saving(target):
            self.root.mkdir(parents=True, exist_ok=True)
            build(aside)
            remove(target)
            aside.replace(target)
        write_json(marker, {"key": key})
        return target, False

    def is_done(self, name: str, key: str) -> bool:
        """Whether the artefact `name` is finished and was built with `key`."""
        marker = self.root / f"{name}.done.json"
        if not (marker.exists() and (self.root / name).exists()):
            return False
        try:
            return bool(json.loads(marker.read_text())["key"] == key)
        except (ValueError, KeyError, TypeError):
            return False
