# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl demo``: train CutPaste on generated images."""

import shlex
import tempfile
import time
import warnings
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from anomalib_ssl.checks import check_choice, check_output, check_whole
from anomalib_ssl.demo import SURFACES, write_dataset


def demo(
    surface: str = "fabric",
    updates: int = 100,
    image_size: int = 64,
    batch_size: int = 16,
    seed: int = 0,
    keep_data: Path | None = None,
    output: Path = Path("results"),
) -> None:
    """Draw images of a surface and its defects, train CutPaste on the sound ones, and test it on both.

    Nothing is downloaded. The defaults take two minutes on two slow CPU cores that are idle (docs/results/demo.md);
    on photographs more updates and larger images find more defects.

    Args:
        surface: What to draw: fabric, leather, metal, tile or wood.
        updates: Training budget in optimiser updates.
        image_size: Side in pixels to which the images, 256 pixels wide, are resized for the network.
        batch_size: Source images per update; each gives three views.
        seed: Seed of the images and of the training.
        keep_data: Folder to keep the images in, in the layout of MVTec AD. They are thrown away by default.
        output: Folder of anomalib's results: heat maps and checkpoint.

    Raises:
        ValueError: If an argument is out of its range, or a folder cannot be written.
        FileExistsError: If ``keep_data`` holds other images of that surface.
    """
    check_choice("surface", surface, SURFACES)
    check_whole("updates", updates, low=1)
    check_whole("image_size", image_size, low=32)
    check_whole("batch_size", batch_size, low=2)
    check_whole("seed", seed, low=0, high=2**32 - 1)
    for name, folder in (("output", output), ("keep_data", keep_data)):
        if folder is not None:
            check_output(name, folder)
    console, started = Console(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="anomalib-ssl-demo-") as thrown_away:
        root = keep_data or Path(thrown_away)
        with console.status(f"Drawing images of {surface} ..."):
            write_dataset(root, surfaces=[surface], seed=seed)
        with console.status("Importing anomalib ..."):  # takes many seconds, and nothing before it needs it
            from anomalib.data import MVTecAD  # noqa: PLC0415
            from anomalib.engine import Engine  # noqa: PLC0415

            from anomalib_ssl.models import CutPaste  # noqa: PLC0415
        model = CutPaste(max_updates=updates, image_size=image_size, seed=seed)
        datamodule = MVTecAD(root=root, category=surface, train_batch_size=batch_size, num_workers=0)
        engine = Engine(default_root_dir=output, precision=fast_precision())
        with warnings.catch_warnings():
            # Worker processes would take longer to start than these few small images take to read.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            (metrics,) = engine.train(model=model, datamodule=datamodule)

    seconds, results = time.monotonic() - started, Path(engine.trainer.default_root_dir)
    console.print(f"\n[bold]CutPaste on {surface}[/bold], {updates} updates, {seconds:.0f} seconds in all")
    table = Table("measure", "value")
    for name, value in metrics.items():
        table.add_row(name.replace("_", " "), f"{100 * value:.1f} %")
    console.print(table)
    files = {"Heat maps": results / "images", "Checkpoint": results / "weights" / "lightning" / "model.ckpt"}
    for name, file in (files | {"Images": keep_data or "thrown away; --keep_data DIR keeps them"}).items():
        console.print(f"{name}: {file}", highlight=False, markup=False, soft_wrap=True)
    settings = f"--model.max_updates {updates} --model.image_size {image_size} --model.seed {seed}"
    settings += f" --data.train_batch_size {batch_size} --trainer.precision {fast_precision()}"
    same = f"--data MVTecAD --data.root {shlex.quote(str(keep_data or 'DIR'))} --data.category {surface}"
    own = "--data Folder --data.name NAME --data.root DIR --data.normal_dir good --data.abnormal_dir defective"
    for title, data in (("The same training by anomalib's command line", same), ("And on your images", own)):
        command = f"\n{title}:\nanomalib train --model CutPaste {data} {settings}"
        console.print(command, highlight=False, markup=False, soft_wrap=True)


def fast_precision() -> str:
    """``bf16-mixed`` on a CPU that multiplies in bfloat16 by itself, else ``32-true``: emulation would be slower."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    native = any(bool(present) for name, present in capabilities.items() if "bf16" in name)
    accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
    return "bf16-mixed" if native and not accelerated else "32-true"
