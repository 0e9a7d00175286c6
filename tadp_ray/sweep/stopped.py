"""Candidates that a search has stopped early: a file in the folder of a cell says so until the cell is started again.

It is the command's own file. The journal belongs to the process that trains, and that one does not know why it is ended.
"""

import json
from io import BytesIO

from tadp_ray.config.cell import Cell
from tadp_ray.config.search import Search
from tadp_ray.files import write_json
from tadp_ray.layout import STOPPED
from tadp_ray.sweep.address import Remote, remote_path


def note_stopped(cell: Cell, search: Search) -> None:
    """Note that a search has stopped a cell early, also at the storage's address.

    Raises:
        UserError, OSError, pyarrow.ArrowException: the file cannot be written.
    """
    if address := cell.recipe.compute.storage_address:
        Remote(address).replace(BytesIO(json.dumps(search.rule).encode()), f"{remote_path(cell.folder)}/{STOPPED}")
    cell.folder.mkdir(parents=True, exist_ok=True)
    write_json(cell.folder / STOPPED, search.rule)


def is_stopped(cell: Cell) -> bool:
    """Return whether a search has stopped a cell early, and nobody has started it since."""
    return (cell.folder / STOPPED).is_file()


def stopped_by(cell: Cell, search: Search) -> bool:
    """Return whether a search with the same rule has stopped a cell early, and nobody has started it since."""
    try:
        return json.loads((cell.folder / STOPPED).read_bytes()) == search.rule
    except (OSError, ValueError):
        return False
