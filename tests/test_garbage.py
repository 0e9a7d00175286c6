"""How often Python collects garbage."""

import gc

from tests.fixtures.cli import invoke


def test_a_command_searches_all_objects_rarely() -> None:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    try:
        assert invoke("ls").exit_code == 0
        assert gc.isenabled() and gc.get_threshold() == (700, 10, 200)
    finally:
        gc.set_threshold(*before)
