"""Where a user's files are: a relative path is looked for in the data folder, then in the working folder."""

from __future__ import annotations

from pathlib import Path

import ltbench


def locate(path: Path, folder: Path) -> Path:
    """Return where a file or folder is, an absolute path; raise UsageError where there is none."""
    path = path.expanduser()
    places = [path] if path.is_absolute() else [folder / path, path]
    for place in places:
        if place.exists():
            return place.absolute()
    looked = " or ".join(str(place.absolute()) for place in places)
    raise ltbench.UsageError(f"there is no {looked}")
