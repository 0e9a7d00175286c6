"""Fixtures that more than one room's tests use."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jaxtyping
import psutil
import pytest

import tadp_ray.__main__
from tadp_ray.config.cell import Cell

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

    from torch import Tensor

    from tadp_ray.backbones.stable_diffusion.load import Diffusion
    from tadp_ray.tracking.store import Store


# The shapes that their signatures state are checked whenever a test calls them.
MODEL_CORE = (
    *("training.model", "conditioning.text_encoder", "conditioning.context", "tasks.norms"),
    *("backbones.stable_diffusion.backbone", "backbones.stable_diffusion.features"),
    *("tasks.segmentation.semantic_fpn", "tasks.segmentation.smp_fpn", "tasks.segmentation.losses"),
    *("tasks.depth.vpd_head", "tasks.depth.losses", "tasks.detection.faster_rcnn"),
)
jaxtyping.install_import_hook([f"tadp_ray.{module}" for module in MODEL_CORE], "beartype.beartype")
# Tests run side by side: threads of their own would wait for each other, at full speed. Read when torch is loaded.
THREADS = {"OMP_NUM_THREADS": "1"}
# Ray makes its workers give way to all other processes: beside another test they would come to a standstill. And processes that
# are slow to start on a busy machine are not dead.
RAY = {
    "RAY_worker_niceness": "0",
    "RAY_worker_register_timeout_seconds": "900",
    "RAY_agent_register_timeout_ms": "900000",
    # Workers that wait for work, of which each sweep's workers, with an environment of their own, are none.
    "RAY_prestart_worker_first_driver": "0",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """An option that renews the golden losses."""
    parser.addoption("--write-golden", action="store_true", help="write the numbers of tests/golden anew")


def pytest_configure(config: pytest.Config) -> None:
    """Allow, by name, what other people's packages warn of: MLflow 3.17 on SQLAlchemy 2.1. Heed Ctrl-C."""
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning")
    # And its stores keep their connections to a database until the process ends, of which Python 3.13 tells.
    config.addinivalue_line("filterwarnings", "ignore:unclosed database in <sqlite3.Connection:ResourceWarning")
    # Starting Ray's nodes may forget a socket that was never bound, in an object that is collected at any time.
    config.addinivalue_line("filterwarnings", r"ignore:unclosed <socket.*laddr=\('0.0.0.0', 0\)>:ResourceWarning")
    # What a shell puts into the background ignores Ctrl-C, what nohup starts a closed terminal, and so would every command that
    # a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ |= THREADS | RAY


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that hold the longest tests, so that one of two processes does not end with them alone."""
    marks = {mark: {item.path for item in items if item.get_closest_marker(mark)} for mark in ("cluster", "slow")}
    items.sort(key=lambda item: [item.path not in paths for paths in marks.values()])


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the project; tests that need it are skipped where it is missing."""
    folder = Path(__file__).resolve().parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"reference data is not here: {folder}")
    return folder


@pytest.fixture
def make_cell(tmp_path: Path) -> Callable[..., Cell]:
    """Cells of the precision and recall table that keep their folders in this test's own."""

    def make(precision: float = 0.5, recall: float = 0.75, seed: int = 0, experiment: str = "prec_recall") -> Cell:
        axes = {"caption.precision": precision, "caption.recall": recall}
        recipe = {
            "schedule": {"iterations": 100, "learning_rate": 1e-3},
            "caption": {"source": "oracle", "precision": precision, "recall": recall},
            "compute": {"storage": str(tmp_path / "runs")},
        }
        values = {"experiment": experiment, "seed": seed, "axes": axes, "recipe": recipe}
        return Cell.model_validate({**values, "digests": {"train": "a1", "val": "b2", "weights": "c3"}})

    return make


class JournalWriter:
    """Writes journals by hand, as a training does."""

    def write(self, cell: Cell, **record: Any) -> None:
        """Append one record."""
        cell.folder.mkdir(parents=True, exist_ok=True)
        with (cell.folder / "journal.jsonl").open("a") as file:
            file.write(json.dumps({"time": time.time(), **record}) + "\n")

    def start(self, cell: Cell, **provenance: str) -> None:
        """A process takes the cell up; its `provenance` as keyword arguments with _ for a dot."""
        tags = {name.replace("_", "."): tag for name, tag in provenance.items()}
        self.write(cell, type="started", fingerprint=cell.fingerprint, provenance=tags)

    def train(self, cell: Cell, first: int, last: int) -> None:
        """Two metrics at each step from `first` to `last`."""
        for step in range(first, last + 1):
            self.write(cell, type="metrics", step=step, metrics={"loss": 1 / step, "miou": step / 2})

    def finish(self, cell: Cell, **metrics: float) -> None:
        """The cell is done."""
        self.write(cell, type="finished", step=cell.recipe.schedule.iterations, metrics=metrics)


@pytest.fixture(scope="session")
def journals() -> JournalWriter:
    """Writes journals by hand."""
    return JournalWriter()


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's schema, which takes seconds to make: once a session."""
    from tadp_ray.tracking.store import open_store

    path = tmp_path_factory.mktemp("schema") / "mlflow.db"
    open_store(f"sqlite:///{path}")
    return path


@pytest.fixture
def store(empty_database: Path, tmp_path: Path) -> "Store":
    """An empty SQLite store of this test's own."""
    from tadp_ray.tracking.store import open_store

    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return open_store(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def swept(store: "Store", journals: JournalWriter, tmp_path: Path) -> Callable[[Path], None]:
    """Puts a sweep of an experiment into the store, the cells but the last one trained, with mIoU 10, 20, 30 ..."""
    from tadp_ray.sweep.plan import make_plan
    from tadp_ray.tracking.run_spec import cell_run_spec
    from tadp_ray.tracking.sender import replay
    from tadp_ray.tracking.sweep_run import parent, record_plan
    from tadp_ray.tracking.view import keep_views

    def sweep(file: Path) -> None:
        plan = make_plan(file, "pocket", overrides=[f"compute.storage={tmp_path}/runs"])
        for number, cell in enumerate(plan.cells[:-1], 1):
            journals.start(cell)
            journals.write(cell, type="metrics", step=3, metrics={"miou": 9.0 * number})
            journals.finish(cell, miou=10.0 * number)
        run = parent(store, plan.name, plan.scale, plan.key)
        record_plan(store, run, plan.settings, plan.cells)
        keep_views(store, run, plan.cells)
        for cell in plan.cells:
            replay(store, cell_run_spec(run, cell))

    return sweep


@pytest.fixture
def kept(store: "Store", tmp_path: Path) -> Callable[..., None]:
    """Puts a finding with these pictures into the store, as an analysis does."""
    from PIL import Image

    def keep(facts: dict[str, Any], *pictures: str) -> None:
        tags = {"tadp.finding": facts["name"]}
        run = store.client.create_run(store.experiment_id("analyses"), tags=tags).info.run_id
        store.client.log_dict(run, facts, "finding.json")
        for name in pictures:
            Image.new("RGB", (900, 300), "teal").save(tmp_path / name)
            store.client.log_artifact(run, str(tmp_path / name))

    return keep


@pytest.fixture(scope="session")
def object_store(free_ports: Callable[[int], list[int]]) -> Iterator[str]:
    """Address of an empty bucket in an S3 server of the tests' own."""
    from pyarrow.fs import FileSystem

    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "tests")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
            address = f"s3://bucket?endpoint_override=127.0.0.1:{port}&scheme=http"
            files, bucket = FileSystem.from_uri(f"{address}&allow_bucket_creation=true")
            # The client of S3 tries again for some seconds, in which a server on a busy machine is not up.
            while server.poll() is None:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            files.create_dir(bucket)
            yield address
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def wait_for() -> Callable[[Callable[[], object]], None]:
    """`wait_for(lambda: rows(store))`: returns when something is so, which another thread or process brings about."""

    def wait(happened: Callable[[], object]) -> None:
        deadline = time.monotonic() + 900  # no test waits that long: it only ends what would never end
        while not happened():
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.02)

    return wait


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], list[int]]:
    """So many ports that nobody listens on."""

    def find(count: int) -> list[int]:
        with ExitStack() as probes:
            found = [probes.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
            return [probe.getsockname()[1] for probe in found]

    return find


@pytest.fixture
def free_port(free_ports: Callable[[int], list[int]]) -> int:
    """A port that nobody listens on."""
    (port,) = free_ports(1)
    return port


TINY_RECIPE = """\
data: {kind: scenes, train: 10, val: 5, size: 32}
caption: {source: oracle}
model: {weights: "WEIGHTS", head: {channels: 16}}
schedule: {iterations: 6, batch_size: 4, learning_rate: 1e-3, backbone_lr_mult: 1.0}
evaluation: {interval: 3}
compute: {checkpoint_every: 2}
"""
TINY_EXPERIMENT = """\
question: Do words matter?
recipes: {pocket: recipe.yaml}
sweep: sweep.yaml
table:
  title: Oracle captions
  rows: [caption.precision]
  columns: [caption.recall]
  published: {source: "TADP supplement, Table S2", values: [[49.53, 55.22], [50.20, 63.29]]}
"""


@pytest.fixture(scope="session")
def tiny_pocket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pocket Stable Diffusion with a small U-Net of random weights: faster steps, and checkpoints that are no 80 MB."""
    import torch
    from diffusers import UNet2DConditionModel

    from tadp_ray.backbones.stable_diffusion.weights import locate

    shipped, folder = locate("pocket"), tmp_path_factory.mktemp("weights") / "tiny_pocket"
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(shipped / part, folder / part)
    config = {**UNet2DConditionModel.load_config(shipped / "unet"), "block_out_channels": (8, 8, 16, 16)}
    config |= {"layers_per_block": 1, "norm_num_groups": 4}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
    return folder


@pytest.fixture(scope="session")
def tiny_experiment(tiny_pocket: Path) -> Callable[[Path], Path]:
    """Writes an experiment of 2 x 2 cells that train for a second each into a folder; returns its file."""

    def write(folder: Path) -> Path:
        (folder / "recipe.yaml").write_text(TINY_RECIPE.replace("WEIGHTS", str(tiny_pocket)))
        (folder / "sweep.yaml").write_text("axes: {caption.precision: [0.5, 1.0], caption.recall: [0.5, 1.0]}\n")
        (folder / "tiny.yaml").write_text(TINY_EXPERIMENT)
        return folder / "tiny.yaml"

    return write


@pytest.fixture
def experiment(tiny_experiment: Callable[[Path], Path], tmp_path: Path) -> Path:
    """An experiment of 2 x 2 cells that train for a second each."""
    return tiny_experiment(tmp_path)


SIDE = 16
WORDS = "a the cat dog car tree grass sky on of with two big red blue sits stands runs near under photo".split()
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
# Weights this large make captions depend on images.
VISION = {**SMALL, "image_size": SIDE, "patch_size": 8, "initializer_range": 1.0}


@pytest.fixture(scope="session")
def tiny_blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random BLIP of the smallest size that has every part; its tokens are words."""
    import torch
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    folder = tmp_path_factory.mktemp("captioners") / "blip"
    folder.mkdir()
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join([*marks, *WORDS]))
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    text = {"vocab_size": len(tokenizer), "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    text |= {**SMALL, "encoder_hidden_size": 16, "max_position_embeddings": 100, "initializer_range": 1.0}
    config = BlipConfig(text_config=text, vision_config=VISION, projection_dim=16, image_text_hidden_size=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": SIDE, "width": SIDE}), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_blip2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of BLIP-2, which puts a query transformer between the image and OPT."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        BlipImageProcessor,
        PreTrainedTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("captioners") / "blip2"
    vocabulary = {word: index for index, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS, "<image>"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    text = {"model_type": "opt", "ffn_dim": 32, "word_embed_proj_dim": 16, "vocab_size": len(vocabulary)}
    text |= {**SMALL, "max_position_embeddings": 120, "init_std": 1.0}
    config = Blip2Config(
        vision_config=VISION,
        qformer_config={**SMALL, "encoder_hidden_size": 16, "vocab_size": 30, "initializer_range": 1.0},
        text_config=text,
        num_query_tokens=4,
        image_token_index=vocabulary["<image>"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Blip2ForConditionalGeneration(config).save_pretrained(folder)
    image_processor = BlipImageProcessor(size={"height": SIDE, "width": SIDE})
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, **marks)
    Blip2Processor(image_processor, tokenizer, num_query_tokens=4).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of random image encoders: clip/ (a CLIP's vision part), vit/ (a classifier of 7 classes) and dino/ (DINOv2)."""
    import torch
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
        Dinov2Config,
        Dinov2Model,
        ViTConfig,
        ViTForImageClassification,
        ViTImageProcessor,
    )

    folder = tmp_path_factory.mktemp("vision")
    side = {"height": SIDE, "width": SIDE}
    dino = {name: SMALL[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION, projection_dim=12)).save_pretrained(folder / "clip")
        ViTForImageClassification(ViTConfig(**VISION, num_labels=7)).save_pretrained(folder / "vit")
        Dinov2Model(Dinov2Config(**dino, image_size=SIDE, patch_size=8)).save_pretrained(folder / "dino")
    clip = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=side)
    vit = ViTImageProcessor(size=side)
    for name, processor in (("clip", clip), ("vit", vit), ("dino", clip)):
        processor.save_pretrained(folder / name)
    return folder


# What a forked process does: it becomes a program of its own, whose output goes to a file.
PROGRAM = """
import os, runpy, sys
with open(output, "wb") as file:
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
os.environ.clear()
os.environ |= environment
os.chdir(folder)
sys.argv = words
runpy.run_path(words[0], run_name="__main__")
"""
PATIENCE = 1500
"""Seconds after which a program hangs. No test waits that long: it only ends what would never end."""


@pytest.fixture(scope="session")
def kill_family() -> Callable[[psutil.Process], None]:
    """`kill_family(process)`: kills a process, if it still runs, and all that it has started; returns when they are gone."""

    def kill(process: psutil.Process) -> None:
        family = [process, *process.children(recursive=True)] if process.is_running() else []
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(family, timeout=60)

    return kill


class Forked:
    """A Python program in a process forked from one that has imported what trains, which takes many seconds."""

    def __init__(
        self,
        context: "ForkServerContext",
        output: Path,
        words: Sequence[object],
        folder: Path | None,
        **environment: str,
    ) -> None:
        self._output = output
        place = {"output": str(output), "folder": str(folder or Path.cwd())}
        names = {**place, "environment": {**os.environ, **environment}, "words": [*map(str, words)]}
        self._process = context.Process(target=exec, args=(PROGRAM, names))
        self._process.start()
        self.process = psutil.Process(self._process.pid)

    @property
    def running(self) -> bool:
        """Whether the program has not ended."""
        return self._process.is_alive()

    def end(self) -> tuple[int, str]:
        """Wait for the program; returns its exit code, below zero for a signal, and what it said."""
        self._process.join(PATIENCE)
        code = self._process.exitcode
        assert code is not None, f"still at work: {self._output.read_text()}"
        return code, self._output.read_text()

    def close(self) -> None:
        """Forget the program, which has ended."""
        self._process.join()
        self._process.close()


@pytest.fixture(scope="session")
def fork_server() -> "ForkServerContext":
    """Forks processes from one that has imported what trains and MLflow, and has computed nothing.

    Not Ray, which reads the environment while it is imported.
    """
    context = multiprocessing.get_context("forkserver")
    trains = ("tadp_ray.training.run", "tadp_ray.tasks.segmentation.semantic_fpn")
    context.set_forkserver_preload([*trains, "tadp_ray.tracking.store"])
    return context


@pytest.fixture
def fork(
    fork_server: "ForkServerContext", kill_family: Callable[[psutil.Process], None], tmp_path: Path
) -> Iterator[Callable[..., Forked]]:
    """`fork(program, *words, folder=None, NAME="value")`: a program at work with these arguments, in this environment.

    None outlives its test, not even one that failed.
    """
    started: list[Forked] = []

    def start(*words: object, folder: Path | None = None, **environment: str) -> Forked:
        output = tmp_path / f"output{len(started)}.txt"
        started.append(Forked(fork_server, output, words, folder, **environment))
        return started[-1]

    yield start
    for program in started:
        kill_family(program.process)
        program.close()


@pytest.fixture
def command(fork: Callable[..., Forked]) -> Callable[..., Forked]:
    """`command("sweep", "tiny.yaml", folder=tmp_path)`: a command of tadp-ray at work."""
    return lambda *words, **place: fork(tadp_ray.__main__.__file__, *words, **place)


@pytest.fixture
def distributed(fork: Callable[..., Forked], free_ports: Callable[[int], list[int]]) -> Callable[..., None]:
    """`distributed(2, program, *words)`: runs a program in two processes, which find each other as torchrun's do."""

    def run(size: int, *words: object) -> None:
        (port,) = free_ports(1)
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
        running = [fork(*words, RANK=str(rank), LOCAL_RANK=str(rank), **meeting) for rank in range(size)]
        ended = [process.end() for process in running]
        assert [code for code, _ in ended] == [0] * size, ended

    return run


@pytest.fixture
def one_and_two(
    distributed: Callable[..., None], tmp_path: Path
) -> "Callable[..., tuple[dict[str, Tensor], dict[str, Tensor]]]":
    """`one_and_two(program, *words)`: what it writes into the file that is its last argument, run by one process and by two."""

    def run(program: Path, *words: object) -> tuple[dict[str, "Tensor"], dict[str, "Tensor"]]:
        from safetensors.torch import load_file

        for size in (1, 2):
            distributed(size, program, *words, tmp_path / f"{size}.safetensors")
        one, two = (load_file(tmp_path / f"{size}.safetensors") for size in (1, 2))
        assert one.keys() == two.keys()
        return one, two

    return run


LENGTH = 13
"""Tokens of a context; not a size of anything else, so that mixed-up axes cannot fit."""


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder: VAE of factor 2, four-level U-Net, text encoder, tokenizer whose tokens are single bytes."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel
    from transformers.convert_slow_tokenizer import bytes_to_unicode
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    folder = tmp_path_factory.mktemp("tiny")
    letters = list(bytes_to_unicode().values())
    marks = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate([*letters, *(f"{letter}</w>" for letter in letters), *marks])}
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer/vocab.json").write_text(json.dumps(vocabulary))
    (folder / "tokenizer/merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer/tokenizer_config.json").write_text(json.dumps({"model_max_length": LENGTH}))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            block_out_channels=(8, 16, 24, 32),
            layers_per_block=2,
            norm_num_groups=4,
            attention_head_dim=2,
            cross_attention_dim=20,
            sample_size=16,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
        )
        text = CLIPTextConfig(
            vocab_size=len(vocabulary),
            hidden_size=20,
            intermediate_size=40,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=LENGTH,
            bos_token_id=vocabulary[marks[0]],
            eos_token_id=vocabulary[marks[1]],
            pad_token_id=vocabulary[marks[1]],
        )
        text_encoder = CLIPTextModel(text)
    for name, network in (("unet", unet), ("vae", vae), ("text_encoder", text_encoder)):
        network.save_pretrained(folder / name)
    assert len(CLIPTokenizer.from_pretrained(folder / "tokenizer")) == len(vocabulary)
    return folder


@pytest.fixture(scope="session")
def tiny_diffusion(tiny_folder: Path) -> "Diffusion":
    """The tiny Stable Diffusion, loaded; tests must not change it."""
    from tadp_ray.backbones.stable_diffusion.load import load_diffusion

    return load_diffusion(str(tiny_folder))


@pytest.fixture(scope="session")
def tiny_xl_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder of Stable Diffusion XL: the tiny VAE, a three-level U-Net, and two text encoders and tokenizers."""
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    folder = tmp_path_factory.mktemp("tiny_xl")
    tokenizer = CLIPTokenizer.from_pretrained(tiny_folder / "tokenizer")
    common = {
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "max_position_embeddings": LENGTH,
        # As in the published configurations: transformers then takes the largest id for the end of a text.
        "eos_token_id": 2,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = CLIPTextModel(CLIPTextConfig(hidden_size=12, intermediate_size=24, **common))
        second = CLIPTextModelWithProjection(
            CLIPTextConfig(hidden_size=20, intermediate_size=40, projection_dim=14, hidden_act="gelu", **common)
        )
        unet = UNet2DConditionModel(
            sample_size=16,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(8, 16, 24),
            transformer_layers_per_block=(1, 2, 3),
            norm_num_groups=4,
            attention_head_dim=(2, 4, 6),
            use_linear_projection=True,
            cross_attention_dim=12 + 20,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=14 + 6 * 8,
        )
    StableDiffusionXLPipeline(
        AutoencoderKL.from_pretrained(tiny_folder / "vae"),
        first,
        second,
        tokenizer,
        CLIPTokenizer.from_pretrained(tiny_folder / "tokenizer", pad_token="!"),
        unet,
        EulerDiscreteScheduler(beta_schedule="scaled_linear"),
        add_watermarker=False,
    ).save_pretrained(folder)
    return folder


def make_pixart(folder: Path, vae: Path, alpha: bool = False) -> Path:
    """Write a diffusers folder of PixArt: a VAE from elsewhere, a transformer of six blocks, T5 and its tokenizer of letters."""
    import torch
    from diffusers import (
        AutoencoderKL,
        DPMSolverMultistepScheduler,
        PixArtAlphaPipeline,
        PixArtSigmaPipeline,
        PixArtTransformer2DModel,
    )
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    tokenizer = T5Tokenizer(vocab=[*marks, *((letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz!,")], extra_ids=0)
    text = T5Config(
        d_model=20,
        d_kv=8,
        d_ff=40,
        num_layers=2,
        num_heads=2,
        vocab_size=len(tokenizer) + 5,
        feed_forward_proj="gated-gelu",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        transformer = PixArtTransformer2DModel(
            sample_size=16,
            num_layers=6,
            num_attention_heads=2,
            attention_head_dim=12,
            cross_attention_dim=24,
            caption_channels=20,
            out_channels=8,
            use_additional_conditions=alpha,
        )
        text_encoder = T5EncoderModel(text)
    pipeline = PixArtAlphaPipeline if alpha else PixArtSigmaPipeline
    schedule = DPMSolverMultistepScheduler()
    pipeline(tokenizer, text_encoder, AutoencoderKL.from_pretrained(vae), transformer, schedule).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_pixart_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder of PixArt-Sigma, with the tiny VAE."""
    return make_pixart(tmp_path_factory.mktemp("tiny_pixart"), tiny_folder / "vae")


@pytest.fixture(scope="session")
def tiny_pixart_alpha_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A diffusers folder of PixArt-alpha, whose transformer is told an image's size."""
    return make_pixart(tmp_path_factory.mktemp("tiny_pixart_alpha"), tiny_folder / "vae", alpha=True)


@pytest.fixture
def planned() -> Callable[..., str]:
    """`planned(weights="pocket")`: what `train --dry-run` prints of a recipe with this model."""
    from tadp_ray.config.schema import Recipe
    from tadp_ray.sweep.preview import recipe_preview

    groups = {"caption": {"source": "null"}, "schedule": {"iterations": 1, "batch_size": 2, "learning_rate": 1e-3}}
    return lambda **model: "\n".join(recipe_preview(Recipe.model_validate({**groups, "model": model})))


@pytest.fixture(scope="session")
def parameters() -> Callable[[str, str], str]:
    """`parameters("backbone", said)`: the number of a network's parameters in a plan."""

    def find(network: str, said: str) -> str:
        (line, *_) = (line for line in said.splitlines() if line.startswith(f"{network:<24}"))
        return line[24:].split()[0]

    return find
