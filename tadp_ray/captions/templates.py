"""The 80 sentence templates over which CLIP's ImageNet classifier averages, in no particular order.

They are those of the notebook Prompt_Engineering_for_ImageNet by CLIP's authors, from which VPD and TADP make their class
embeddings. The order does not matter for a mean. A test checks the hash of the sorted list.
"""

PHOTOS = (
    "bad",
    "cropped",
    "bright",
    "dark",
    "close-up",
    "black and white",
    "pixelated",
    "jpeg corrupted",
    "blurry",
    "good",
)
WORKS = (
    "photo",
    "low resolution photo",
    "painting",
    "drawing",
    "sculpture",
    "rendering",
    "rendition",
    "doodle",
    "sketch",
)
LOOKS = ("hard to see", "clean", "dirty", "cool", "nice", "weird", "small", "large")
MATERIALS = ("plastic", "origami", "toy", "cartoon", "embroidered", "plushie")

TEMPLATES: tuple[str, ...] = (
    *(
        f"a {kind} of {article} {{}}."
        for kind in (*(f"{p} photo" for p in PHOTOS), *WORKS, "tattoo")
        for article in ("a", "the")
    ),
    *(f"a photo of {article} {look} {{}}." for look in LOOKS for article in ("a", "the")),
    *(f"{article} {material} {{}}." for material in MATERIALS for article in ("a", "the")),
    *(f"{kind} of {article} {{}}." for kind in ("art", "graffiti", "itap") for article in ("a", "the")),
    *(f"{article} {{}} in a video game." for article in ("a", "the")),
    *("a photo of many {}.", "a photo of one {}.", "a photo of my {}.", "itap of my {}."),
)
SINGLE = "a photo of a {}."
"""The template that is used without averaging (Figure S3)."""
