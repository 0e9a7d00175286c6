"""When Python collects garbage."""

import gc

import pytest

from tadp_ray.garbage import uncollected


def test_garbage_is_collected_again_after_the_outermost_block() -> None:
    assert gc.isenabled()
    with uncollected():
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), uncollected():
        raise KeyError
    assert gc.isenabled()
