# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl demo``: train CutPaste on generated images."""

import shlex
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from anomalib_ssl.checks import check_choice, check_number
from anomalib_ssl.demo.dataset import write_dataset
from anomalib_ssl.demo.surfaces import SURFACES

METRICS = {
    "image_AUROC": "images: AUROC",
    "image_F1Score": "images: F1 score",
    "pixel_AUROC": "pixels: AUROC",
    "pixel_F1Score": "pixels: F1 score",
}
"""What anomalib measures by default, and how the table calls it."""


def demo(
    surface: str = "fabric",
    updates: int = 300,
    image_size: int = 128,
    batch_size: int = 16,
    seed: int = 0,
    keep_data: Path | None = None,
    output: Path = Path("results"),
) -> None:
    """Draw images of a surface and its defects, train CutPaste on the sound ones, and test it on both.

    Nothing is downloaded. The defaults take a few minutes on two slow CPU cores; more updates and larger images find
    more defects.

    Args:
        surface: What to draw: fabric, leather, metal, tile or wood.
        updates: Training budget in optimiser updates.
        image_size: Side in pixels to which the images, 256 pixels wide, are resized for the network.
        batch_size: Source images per update; each gives three views.
        seed: Seed of the images and of the training.
        keep_data: Folder to keep the images in, in the layout of MVTec AD. They are thrown away by default.
        output: Folder of anomalib's results: heat maps and checkpoint.

    Raises:
        ValueError: If an argument is out of its range.
        FileExistsError: If ``keep_data`` holds other images of that surface.
    """
    check_choice("surface", surface, SURFACES)
    check_number("updates", updates, low=1)
    check_number("image_size", image_size, low=32)
    check_number("batch_size", batch_size, low=2)
    check_number("seed", seed, low=0)
    console, started = Console(), time.monotonic()
    with ExitStack() as stack:
        root = keep_data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="anomalib-ssl-demo-")))
        with console.status(f"Drawing images of {surface} ..."):
            write_dataset(root, surfaces=[surface], seed=seed)
        with console.status("Importing anomalib ..."):
            from anomalib_ssl.demo.training import fast_precision, train  # noqa: PLC0415  # takes many seconds
        precision = fast_precision()
        metrics, folder = train(root, surface, updates, image_size, batch_size, seed, output, precision)

    seconds = time.monotonic() - started
    console.print(f"\n[bold]CutPaste on {surface}[/bold], {updates} updates, {seconds:.0f} seconds in all")
    table = Table("measure", "value")
    for metric, meaning in METRICS.items():
        if metric in metrics:
            table.add_row(meaning, f"{100 * metrics[metric]:.1f} %")
    console.print(table)
    facts = {
        "Heat maps": folder / "images",
        "Checkpoint": folder / "weights" / "lightning" / "model.ckpt",
        "Images": keep_data or "thrown away; --keep_data DIR keeps them",
    }
    for name, value in facts.items():
        console.print(f"[bold]{name}:[/bold] {value}", highlight=False, soft_wrap=True)

    settings = {
        "model.max_updates": updates,
        "model.image_size": image_size,
        "model.seed": seed,
        "data.train_batch_size": batch_size,
        "trainer.precision": precision,
    }
    same = {"data": "MVTecAD", "data.root": keep_data or "DIR", "data.category": surface}
    own = {"data": "Folder", "data.name": "NAME", "data.root": "DIR"}
    own |= {"data.normal_dir": "good", "data.abnormal_dir": "defective"}
    for title, data in (("The same training by anomalib's command line", same), ("And on your images", own)):
        console.print(f"\n[bold]{title}:[/bold]", highlight=False)
        console.print(train_command(data | settings), highlight=False, markup=False, soft_wrap=True)


def train_command(options: dict[str, object]) -> str:
    """Write a training with anomalib's command line.

    Args:
        options: Values by the name of the option, the datamodule's before those of its arguments.

    Returns:
        A command to paste into a shell.
    """
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    return shlex.join(["anomalib", "train", "--model", "CutPaste", *words])
