"""NYU Depth v2 as extracted by BTS: indoor photographs with depth and the kind of room."""

from collections.abc import Mapping
from pathlib import Path

from tadp_ray.data.files import Fields, Layout, PublishedSet, SampleFacts, require
from tadp_ray.data.images import read_depth
from tadp_ray.data.names import lines_of
from tadp_ray.data.sample import Sample, Split
from tadp_ray.errors import UserError
from tadp_ray.wording import names_listed

SCENES = names_listed("""
    cafe, indoor_balcony, classroom, bathroom, dining_room, home_office, kitchen, furniture_store, office, study,
    home_storage, printer_room, student_lounge, bedroom, playroom, study_room, excercise_room, foyer, computer_lab,
    reception_room, office_kitchen, dinette, living_room, bookstore, conference_room, basement, laundry_room
""")
"""Names of folders, in the order of the published class list (VPD), including its spelling mistake."""
CLASSES = tuple(scene.replace("_", " ").replace("excercise", "exercise") for scene in SCENES)

FARTHEST = 20.0
"""Metres: the Kinect reads 0.7 to about 10 m and the data set is cut off at 10 m, so larger values have another unit."""
NEAREST = 1.05
"""Metres: every split has rooms with larger depths; 10 m in centimetres would read as 1 m."""
MILLIMETRES = "write 16-bit millimetres, 1000 a metre, as the published set has them"


def layout(root: Path, split: Split) -> Layout:
    """Return the pairs in the split's list.

    Raises:
        UserError: folders or lists are missing, or a list is empty, or a line does not name an image and a depth map.
    """
    names, folder = {"train": ("train_list.txt", "sync"), "val": ("test_list.txt", "official_splits/test")}[split]
    require("nyuv2", root, names, folder)
    images, truths = {}, {}
    for line in lines_of(root / names):
        # BTS's own lists carry the focal length as a third column, and no slash in front.
        columns = [column.lstrip("/") for column in line.split()]
        if len(columns) < 2:
            raise UserError(f"{root / names}: expected an image and its depth map on each line, not {line!r}")
        image, depth = columns[:2]
        images[f"/{image}"], truths[f"/{image}"] = root / folder / image, root / folder / depth
    return Layout(
        CLASSES,
        images,
        truths,
        read=read_rooms,
        rules=("nyuv2",),
        present=scene,
        judge=too_near,
        classes_learned=False,
    )


def read_rooms(path: Path) -> Fields:
    """Read an indoor depth map.

    Raises:
        UserError: it cannot be read, or reads farther than rooms are deep.
    """
    fields = read_depth(path, 1000, "1000 units per metre", MILLIMETRES)
    if (deepest := fields["depth"].max()) > FARTHEST:
        raise UserError(
            f"{path}: its deepest reading is {deepest:g} m, but NYUv2 ends at 10 m, so these are no millimetres; {MILLIMETRES}"
        )
    return fields


def too_near(found: Mapping[str, SampleFacts]) -> list[str]:
    """Return one line if no room of a split is deeper than `NEAREST`, as with depths in centimetres."""
    deepest = max(((each.range[1], name) for name, each in found.items() if each.range), default=(FARTHEST, ""))
    if deepest[0] > NEAREST:
        return []
    return [
        f"nyuv2: the deepest of all readings is {deepest[0]:g} m, in the depth map of {deepest[1]}, but rooms are deeper, so "
        f"these are no millimetres; {MILLIMETRES}"
    ]


def scene(sample: Sample) -> list[int]:
    """Return the class of the room from the sample's folder: the first class that is part of its name.

    That is VPD's rule: an office_kitchen counts as a kitchen, a study_room as a study.

    Raises:
        UserError: the folder names no kind of room.
    """
    found = [index for index, name in enumerate(SCENES) if name in sample.id]
    if not found:
        raise UserError(f"nyuv2: {sample.id}: its folder names none of the rooms {', '.join(SCENES)}")
    return found[:1]


NYUV2 = PublishedSet(
    title="NYU Depth v2, as extracted for BTS",
    task="depth",
    classes=CLASSES,
    home=("https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html", "https://github.com/cleinc/bts"),
    terms="see the project page",
    tree="""\
sync/kitchen_0028b/rgb_00045.jpg                  photographs of 480 x 640 pixels
sync/kitchen_0028b/sync_depth_00045.png           their depth: 16 bits, millimetres, 0 no reading
official_splits/test/bathroom/rgb_00045.jpg       the same of the official test split
official_splits/test/bathroom/sync_depth_00045.png
train_list.txt                                    24,231 lines: /kitchen_0028b/rgb_00045.jpg /kitchen_0028b/sync_...
test_list.txt                                     654 lines; both lists are published with TADP and VPD""",
    images={"train": 24231, "val": 654},
    layout=layout,
)
