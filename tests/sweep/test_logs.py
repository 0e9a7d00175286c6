"""The output of a cell's processes is found in Ray's logs by their ids."""

from datetime import datetime
from pathlib import Path

from tadp_ray.sweep.logs import worker_log


def test_the_output_is_that_of_the_cell_s_own_processes(make_cell, journals, tmp_path: Path) -> None:
    """The id of a process that ended before this Ray began may be another's by now."""
    cell, logs = make_cell(), tmp_path / "session_2026-11-30_08-00-00_123456_77/logs"
    logs.mkdir(parents=True)
    (tmp_path / "session_latest").symlink_to(logs.parent)
    began = datetime(2026, 11, 30, 8).timestamp()
    for pid, said, time in ((123, "of another", began - 60), (456, "its own", began + 60)):
        journals.write(cell, type="started", fingerprint=cell.fingerprint, pid=pid, time=time)
        (logs / f"worker-abc-{pid}.out").write_text(said)
    for folder in (logs, tmp_path / "session_latest/logs"):
        assert worker_log(cell.folder, folder) == "==> worker-abc-456.out\nits own\n"
    # A folder of another name does not tell when its Ray began.
    assert "of another" in worker_log(cell.folder, logs.rename(tmp_path / "logs"))
