"""Every analysis and personalization once at the true size of Stable Diffusion 1.5, a few steps each: what does it take?

    python benchmarks/paper_scale.py OUT --tokenizer CLIP --vae TAESD --voc VOCdevkit --style "night/*.jpg"

U-Net and text encoder have random weights, so that nothing but noise is drawn; tokenizer and autoencoder are real, folders as
transformers and diffusers read them. VOCdevkit holds some photographs with masks, --style names three photographs or more.
Prints each command's seconds and exit status; what it says goes to OUT/log.txt. A quarter of an hour on two cores, 18 GiB.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image, ImageDraw
from random_weights import write_unweighted

from tadp_ray.backbones.stable_diffusion.build import stable_diffusion_15
from tadp_ray.config.load import read_yaml

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
RECIPE = EXPERIMENTS / "recipes/pascal_segmentation.yaml"
ANALYSES = {
    "copy_paste": {"cases": 2},
    "eos_tokens": {"images": 2},
    "image_variation": {"images": 1, "steps": [1, 2], "of": 4},
    "off_target": {},
}
SMALL = {
    "schedule.iterations": 2,
    "schedule.batch_size": 1,
    "schedule.micro_batch": 1,
    "augment.crop": 128,
    "augment.stretch": 128,
    "evaluation.interval": 2,
    "compute.num_train_workers": 0,
    "compute.num_workers": 0,
}


def make_weights(folder: Path, tokenizer: Path, vae: Path, side: int) -> Path:
    """A diffusers folder of the true configuration, whose U-Net means latents of this side."""
    if (folder / "unet").is_dir():
        return folder
    made = stable_diffusion_15().reinitialized(0)
    write_unweighted(folder, tokenizer)
    shutil.copytree(vae, folder / "vae", dirs_exist_ok=True)
    made.text_encoder.save_pretrained(folder / "text_encoder")
    made.unet.register_to_config(sample_size=side)
    made.unet.half().save_pretrained(folder / "unet")
    return folder


def make_cutout(path: Path) -> Path:
    """Something to paste: a disc."""
    image = Image.new("RGBA", (64, 64))
    ImageDraw.Draw(image).ellipse((8, 8, 56, 56), (210, 120, 40, 255))
    image.save(path)
    return path


def commands(options: argparse.Namespace) -> list[list[str]]:
    """The command lines in their order, behind `tadp-ray`."""
    out = options.out
    weights, drawing = (
        make_weights(out / name, options.tokenizer, options.vae, side)
        for name, side in (("sd15", 64), ("sd15_128", 16))
    )
    common = {"compute.gpus": options.gpus, "compute.cpus": options.cpus}
    told = {"caption": "{source: oracle}"}
    trained = flags({"model.weights": weights, "data.root": options.voc, **told, **SMALL, **common})
    made = {"images.files": options.style, "images.count": 3, "images.size": 128, "schedule.iterations": 2}
    learned = flags({"weights": drawing, **made, **common, "samples": "[a street]"})
    train = ["train", str(RECIPE), *trained, "--seed", "0"]
    asked = [
        ["analyze", "run", str(analysis_file(out, name, options)), "--scale", "paper", *trained] for name in ANALYSES
    ]
    picture = min((options.voc / "VOC2012/JPEGImages").iterdir())
    attention = ["attention", str(picture), "a bird and a dining table", "--weights", str(weights)]
    return [
        ["analyze", *attention, "--out", str(out / "attention")],
        train,
        [*train, "--set", "caption={source: 'null'}"],
        *asked,
        *(
            ["personalize", str(EXPERIMENTS / f"personalization/{name}.yaml"), *learned, "--out", str(out / name)]
            for name in ("token_night", "dreambooth_night")
        ),
    ]


def analysis_file(out: Path, name: str, options: argparse.Namespace) -> Path:
    """The analysis with few pictures, one seed, and a disc to paste."""
    content = read_yaml(EXPERIMENTS / f"analyses/{name}.yaml")
    content["recipes"]["paper"] = str(RECIPE)
    content["spec"] |= ANALYSES[name]
    if name == "copy_paste":
        pairs = dict(pair.split("=") for pair in options.pairs.split(","))
        content["spec"] |= {"pairs": pairs, "cutouts": dict.fromkeys(pairs, str(make_cutout(out / "disc.png")))}
    if "seeds" in content:
        content["seeds"] = [0]
    path = out / f"{name}.yaml"
    path.write_text(json.dumps(content))
    return path


def flags(changes: dict[str, object]) -> list[str]:
    """`--set key=value` of each."""
    return [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]


def main() -> None:
    """Run them all, also behind one that fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder for weights, results and log.txt")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with CLIP's vocab.json and merges.txt")
    parser.add_argument(
        "--vae", type=Path, required=True, help="diffusers folder of an autoencoder, TAESD or the true one"
    )
    parser.add_argument("--voc", type=Path, required=True, help="VOCdevkit with a few photographs")
    parser.add_argument("--style", required=True, help="pattern of three photographs or more to personalise by")
    parser.add_argument("--pairs", default="boat=car,dog=bottle", help="word=look-alike that the photographs show")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--gpus", type=int, default=0)
    options = parser.parse_args()

    options.out, options.voc = options.out.resolve(), options.voc.resolve()
    options.style = Path(options.style).absolute()
    options.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    with (options.out / "log.txt").open("w") as log:
        for words in commands(options):
            began = time.perf_counter()
            print(f"\n## tadp-ray {' '.join(words)}", file=log, flush=True)
            code = subprocess.call([sys.executable, "-m", "tadp_ray", *words], cwd=options.out, stdout=log, stderr=log)
            failed += code != 0
            name = f"{words[0]} {Path(words[2] if words[1] == 'run' else words[1]).stem}"
            print(f"{name:<32}{time.perf_counter() - began:7.0f} s   exit {code}", flush=True)
    sys.exit(f"{failed} failed; see {options.out / 'log.txt'}" if failed else 0)


if __name__ == "__main__":
    main()
