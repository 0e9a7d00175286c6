"""A personalization on images of one's own: the file in the docs is accepted, and what does not fit is told with the mend."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.cli import invoke

PAGE = Path(__file__).resolve().parents[3] / "docs/personalization.md"


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Five photographs; their glob."""
    for number in range(5):
        Image.fromarray(np.full((48, 64, 3), 40 * number, np.uint8)).save(tmp_path / f"{number}.jpg")
    return f"{tmp_path}/*.jpg"


def dry(file: object, *changes: str):
    """Plan a personalization in this process."""
    sets = [word for change in changes for word in ("--set", change)]
    return invoke("personalize", file, "--dry-run", *sets)


def test_the_file_in_the_docs_is_accepted(photos: str, tmp_path: Path) -> None:
    (written,) = (part.partition("```")[0] for part in PAGE.read_text().split("```yaml\n")[1:])
    (tmp_path / "my_style.yaml").write_text(written)
    said = dry(tmp_path / "my_style.yaml", f"images.files={photos}", "weights=pocket")
    assert said.exit_code == 0, said.output
    assert "5 images found" in said.stdout and "token: <ours>" in said.stdout


def test_brackets_in_the_working_folders_name_are_no_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "[v2] style").mkdir()
    monkeypatch.chdir(tmp_path / "[v2] style")
    for number in range(3):
        Image.fromarray(np.full((48, 64, 3), 40 * number, np.uint8)).save(f"{number}.jpg")
    images = "images={kind: folder, files: '*.jpg', count: 3, size: 64}"
    said = dry("pocket_token_night", images, 'method.prompts=["a {token} photo"]')
    assert said.exit_code == 0, said.output


def test_the_priors_images_have_no_captions() -> None:
    method = "method={kind: dreambooth, prompt: 'sks {caption}', prior: {prompt: 'a photo of {caption}'}}"
    said = dry("pocket_token_night", method, "modifier=sks {caption}")
    assert said.exit_code == 2 and "the prior's images have no captions; write it without" in " ".join(
        said.stderr.split()
    )


def test_a_shipped_file_takes_own_images_as_a_whole_group(photos: str) -> None:
    images = f"images={{kind: folder, files: '{photos}', count: 5, size: 64}}"
    refused = dry("pocket_token_night", images)
    assert refused.exit_code == 2 and 'without it, e.g. method.prompts: ["a {token} photo"]' in refused.stderr
    said = dry("pocket_token_night", images, 'method.prompts=["a {token} photo"]')
    assert said.exit_code == 0, said.output


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            "data.root=PHOTOS",
            "no such personalization key ('data' in a personalization); valid names: method, weights, images, flip,",
        ),
        ("images.file=x", "no such personalization key ('file' in images); did you mean 'files'?"),
        (
            "images.files=x",
            "unknown key; only kind: folder has it; for another kind, write the whole group: images: {kind: folder, files: ...}",
        ),
    ],
)
def test_keys_that_do_not_fit_name_those_that_do(change: str, told: str) -> None:
    said = dry("pocket_token_night", change)
    assert said.exit_code == 2 and told in said.stderr


def test_weights_that_are_missing_are_named_by_the_key_of_personalizations() -> None:
    said = dry("pocket_token_night", "weights=no/such/weights")
    assert said.exit_code == 2 and "error: weights='no/such/weights': there is no such folder" in said.stderr
    assert "name it with --set weights=FOLDER" in " ".join(said.stderr.split()) and "model.weights" not in said.stderr
