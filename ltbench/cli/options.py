"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def _use(_: click.Context, __: click.Parameter, folder: Path | None) -> None:
    """Take another data folder."""
    from ltbench.files import use_data_folder

    if folder is not None:
        use_data_folder(folder.absolute())


def data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--data``, which says where datasets lie."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        callback=_use,
        expose_value=False,
        help="Folder of the datasets. Default: LTBENCH_DATA, or the platform's cache folder.",
    )(command)
