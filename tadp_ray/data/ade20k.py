"""ADE20K scene parsing (ADEChallengeData2016): 150 classes."""

from functools import partial
from pathlib import Path

from tadp_ray.data.files import Layout, PublishedSet, mirrored, require
from tadp_ray.data.images import label_table, read_mask
from tadp_ray.data.sample import IGNORE, Split
from tadp_ray.wording import names_listed

# The wording of mmsegmentation, whose class names the published captions and embeddings follow.
CLASSES = names_listed("""
    wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, door, table,
    mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field, armchair, seat,
    fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column, signboard, chest of drawers, counter,
    sand, sink, skyscraper, fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow,
    screen door, stairway, river, bridge, bookcase, blind, coffee table, toilet, flower, book, hill, bench, countertop,
    stove, palm, kitchen island, computer, swivel chair, boat, bar, arcade machine, hovel, bus, towel, light, truck, tower,
    chandelier, awning, streetlight, booth, television receiver, airplane, dirt track, apparel, pole, land, bannister,
    escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything,
    swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name,
    microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray,
    ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
""")
TABLE = label_table({0: IGNORE} | {label + 1: label for label in range(len(CLASSES))})


def layout(root: Path, split: Split) -> Layout:
    """Return the pairs of one split; label k means class k - 1, label 0 is unlabelled."""
    folder = {"train": "training", "val": "validation"}[split]
    images, masks = f"images/{folder}", f"annotations/{folder}"
    require("ade20k", root, images, masks)
    return Layout(
        CLASSES,
        *mirrored("ade20k", root / images, ".jpg", root / masks, ".png"),
        read=partial(read_mask, table=TABLE, otherwise="is none of ADE20K's: 0 is unlabelled, 1 to 150 are classes"),
        rules=("ade20k",),
    )


ADE20K = PublishedSet(
    title="ADE20K scene parsing (MIT), as ADEChallengeData2016",
    task="segmentation",
    classes=CLASSES,
    home=("http://sceneparsing.csail.mit.edu", "https://groups.csail.mit.edu/vision/datasets/ADE20K/"),
    terms="images for non-commercial research and education",
    tree="""\
images/training/ADE_train_00000001.jpg        20,210 photographs
images/validation/ADE_val_00000001.jpg        2,000 photographs
annotations/training/ADE_train_00000001.png   label maps of the same names: 0 unlabelled, 1 to 150 classes
annotations/validation/ADE_val_00000001.png""",
    images={"train": 20210, "val": 2000},
    layout=layout,
)
