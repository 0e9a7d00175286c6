"""Several nodes and several processes train one sweep; what they find is what one process finds."""

import pytest

pytestmark = pytest.mark.cluster


# Long enough that a node is killed in the midst of a cell, though an object store tells of it seconds later.
STEPS = 80


@pytest.fixture(scope="module")
def long_undisturbed(train_alone) -> dict[tuple[str, str], float]:
    """The table of two long cells that nothing happens to."""
    return train_alone(STEPS)


@pytest.mark.parametrize("storage", ["a shared folder", "an object store"])
def test_a_node_dies_and_another_joins(sweep, long_undisturbed, nodes, object_store: str, storage: str) -> None:
    """Of two nodes one is killed with the cell that trains there; a third one takes it up."""
    address = {"a shared folder": "runs", "an object store": object_store.replace("bucket?", "bucket/runs?")}[storage]
    part = ("--set", "compute.checkpoint_every=4", "--set", f"compute.storage={address}")
    hit = sweep("nodes", *part, "--address", nodes.address, steps=STEPS)
    hit.start()
    hit.wait_for_checkpoint(cells=2)
    nodes.remove_node(*nodes.worker_nodes, allow_graceful=False)
    nodes.add_node()
    code, said = hit.end()
    assert code == 0 and "training 2 cells at once" in said, said
    assert hit.table() == long_undisturbed and hit.starts() > 2


def test_two_ray_train_workers_give_the_same_numbers(sweep, undisturbed) -> None:
    """Sums are made in another order, which 12 steps turn into less than a point of mIoU."""
    only = ["caption.precision=1.0", "caption.recall=1.0"]
    hit = sweep("workers2", "--set", "compute.num_train_workers=2", only=only)
    code, said = hit.run_here()
    assert code == 0, said
    assert hit.table()["1.0", "1.0"] == pytest.approx(undisturbed["1.0", "1.0"], abs=1.0, rel=0)
