"""A cell that cannot be trained says why, and the rest of the table is there."""

from pathlib import Path

import pytest

from tadp_ray.config.errors import ConfigError
from tadp_ray.sweep.plan import make_plan

pytestmark = pytest.mark.cluster


def test_a_failing_cell_leaves_the_others_alone(sweep, one_at_a_time, experiment: Path) -> None:
    """A learning rate that diverges fails its cells with a message, and the rest of the table is there."""
    (experiment.parent / "sweep.yaml").write_text(
        "axes: {schedule.learning_rate: [1e-3, 1.0], caption.recall: [1.0]}\n"
    )
    text = experiment.read_text().partition("  published")[0]
    experiment.write_text(text.replace("caption.precision", "schedule.learning_rate"))
    hit = sweep("failing", "--set", "schedule.backbone_lr_mult=10", only=())
    code, said = hit.run_here()
    assert code == 1 and "the loss is" in said and "lower schedule.learning_rate=1.0" in said, said
    assert list(hit.table()) == [("0.001", "1.0")]
    with pytest.raises(ConfigError):
        make_plan(experiment, "pocket", only=["schedule.learning_rate=2"])


def test_a_cell_that_dies_too_often_says_so(sweep, training) -> None:
    changes = ("--set", "compute.checkpoint_every=2", "--set", "compute.max_failures=0")
    hit = sweep("dies", *changes, only=["caption.precision=1.0", "caption.recall=1.0"])
    driver = hit.start()
    hit.wait_for_checkpoint()
    for worker in training(driver):
        worker.kill()
    code, said = hit.end()
    assert code == 1 and "precision=1.0 recall=1.0 seed=0 failed: " in said, said
    code, said = hit.run_here()
    assert code == 0, said
