# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl qualify``: what size of defect a trained model finds, at how many false alarms."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.data import AnomalibDataModule, InferenceBatch
from anomalib.models import AnomalibModule
from rich.console import Console
from rich.progress import track

from anomalib_ssl.checkpoints import load_checkpoint
from anomalib_ssl.checks import check_number, check_output, check_whole
from anomalib_ssl.file_names import safe_name
from anomalib_ssl.qualification import figures, misses, rendering
from anomalib_ssl.qualification.families import FAMILIES
from anomalib_ssl.qualification.planting import default_sizes, grid
from anomalib_ssl.qualification.real import defective_images, find_real
from anomalib_ssl.qualification.record import fit_curves, make_record
from anomalib_ssl.qualification.rethreshold import check_rethreshold, write_rethresholded
from anomalib_ssl.qualification.sound import Source, find_sound
from anomalib_ssl.qualification.trial import Subject, run
from anomalib_ssl.qualification.validation import CONTRASTS
from anomalib_ssl.report import plots

FALSE_ALARMS = 0.05
"""Rate of false alarms, unless one is named."""

MOST = 2
"""Models on one page."""


def qualify(
    data: AnomalibDataModule | Path,
    checkpoints: list[Path] | None = None,
    ckpt_path: Path | None = None,
    model: list[str] | str | None = None,
    sound: Source = "auto",
    families: list[str] | None = None,
    sizes: list[float] | None = None,
    contrasts: list[float] | None = None,
    repeats: int = 10,
    false_alarms: float | None = None,
    pixel_size: float | None = None,
    real: bool = False,
    seed: int = 0,
    output: Path = Path("qualification"),
) -> Path:
    """Plant defects of graded size and contrast in sound images, and find out which ones a model finds.

    Works with any model of anomalib, trained on sound images, without one labelled defect. Writes
    ``qualification.html``, which needs no other file, ``qualification.json`` and figures as PNG and SVG.

    Args:
        data: A folder of sound images that the model has not been trained on (of a category in MVTec layout,
            ``test/good``), or any image datamodule of anomalib.
        checkpoints: One checkpoint, or two that are compared on the same defects.
        ckpt_path: The same for one checkpoint.
        model: Name of the model, or names of both in the order of their checkpoints. This package's checkpoints say it
            themselves.
        sound: Of a datamodule, its sound ``test`` images, or a share of its ``train`` images: those held out of
            training by this package's models; ``auto`` for the former where there are any, else the latter.
        families: Families of defects. Defaults to all: patch, scar, stain, blended patch, corruption, missing part.
        sizes: Longest extents in pixels of the image files. Defaults to six from 1 % (at least 3 pixels) to 32 % of
            the shorter side.
        contrasts: Mean absolute changes as a share of the grey range. Defaults to 0.05, 0.1 and 0.2.
        repeats: Defects of each family, size and contrast.
        false_alarms: Rate of false alarms that the threshold is set for, in (0, 0.5]. Where it is given, checkpoints
            with this threshold are written besides. Defaults to 0.05.
        pixel_size: Millimetres that a pixel of the image files shows: sizes are then given in millimetres as well.
        real: Whether to score the datamodule's labelled test images too, to set beside.
        seed: Seed of all that is planted.
        output: Folder to write to.

    Returns:
        The HTML file.

    Raises:
        FileNotFoundError: If a checkpoint or folder does not exist, or the folder holds no image.
        ValueError: If an argument is out of its range, a checkpoint is of another model, there are no sound images,
            they are too small for the defects, or a model gives scores that are not finite.
    """
    rate = FALSE_ALARMS if false_alarms is None else false_alarms
    check_number("false_alarms", rate, 1e-4, 0.5)
    check_whole("seed", seed, 0, 2**63 - 1)
    if pixel_size is not None:
        check_number("pixel_size", pixel_size, 1e-9)
    if real and not isinstance(data, AnomalibDataModule):
        msg = "real: needs a datamodule with labelled test images, got a folder of sound ones."
        raise ValueError(msg)
    paths, models = _load(checkpoints, ckpt_path, model)
    if false_alarms is not None:
        for name, loaded in models.items():
            check_rethreshold(loaded, paths[name])
            if (written := _rethresholded(output, name)).resolve() == paths[name].resolve():
                msg = f"output: '{written}' is a checkpoint that was given, and would be overwritten."
                raise ValueError(msg)
    found = find_sound(data, sound, list(models.values()))
    side = found.images.shorter_side
    chosen = list(FAMILIES) if families is None else families
    graded = list(default_sizes(side) if sizes is None else sizes)
    contrasts = list(CONTRASTS if contrasts is None else contrasts)
    defects = grid(chosen, graded, contrasts, repeats, side)
    labelled = defective_images(data) if real and isinstance(data, AnomalibDataModule) else None
    check_output("output", output)

    trial = run(models, found, defects, rate, seed, _track)
    settings = {
        "families": chosen,
        "sizes": graded,
        "contrasts": contrasts,
        "repeats": repeats,
        "false_alarms": rate,
        "pixel_size": pixel_size,
        "seed": seed,
        "data": data.name if isinstance(data, AnomalibDataModule) else str(data),
        "category": str(getattr(data, "category", "") or ""),
        "ckpt_paths": {name: str(path) for name, path in paths.items()},
    }
    curves = fit_curves(trial)
    record = make_record(trial, found, curves, settings)
    record |= {"real": {}, "checkpoints": {}}
    _write(record, output)  # all that follows may fail, and this took long
    drawn = figures.draw(curves)
    for (family, over), plot in drawn.items():
        plots.save(plot.figure, output / "figures", safe_name(f"{family}_{over}".replace(" ", "_")))
    shown = misses.picture(trial, models, found, misses.worst(trial), seed)
    title = f"Qualification of {' and '.join(models)}"

    def write() -> Path:
        _write(record, output)
        page = output / "qualification.html"
        page.write_text(rendering.html(record, drawn, shown, title), encoding="utf-8")
        return page

    write()
    if labelled is not None:
        record["real"] = find_real(models, *labelled, rate)
        write()
    if false_alarms is not None:
        for name, subject in trial.subjects.items():
            kind, written = type(models[name]), _rethresholded(output, name)
            scores = np.append(subject.sound_scores, subject.scores)
            write_rethresholded(paths[name], kind, written, subject.threshold.value, scores)
            _check_written(written, kind, subject)
            record["checkpoints"][name] = str(written)
    return write()


def _load(
    checkpoints: list[Path] | None, ckpt_path: Path | None, model: list[str] | str | None
) -> tuple[dict[str, Path], dict[str, AnomalibModule]]:
    """Load the models, and name them: by their classes and, where these are the same, by their files."""
    paths = [*(checkpoints or ()), *([ckpt_path] if ckpt_path is not None else ())]
    if not 1 <= len(paths) <= MOST:
        msg = f"ckpt_path: one checkpoint must be given, or two, got {len(paths)}."
        raise ValueError(msg)
    kinds = [model] * len(paths) if model is None or isinstance(model, str) else model
    if len(kinds) != len(paths):
        msg = f"model must be one name, or one for each of the {len(paths)} checkpoints, got {kinds!r}."
        raise ValueError(msg)
    loaded = [load_checkpoint(path, kind) for path, kind in zip(paths, kinds, strict=True)]
    if len(set(paths)) < len(paths):
        msg = f"ckpt_path: '{paths[0]}' was given twice."
        raise ValueError(msg)
    classes = [type(one).__name__ for one in loaded]
    stems = [f"{name} {path.stem}" for name, path in zip(classes, paths, strict=True)]
    whole = [f"{name} {path}" for name, path in zip(classes, paths, strict=True)]
    names = next(each for each in (classes, stems, whole) if len(set(each)) == len(paths))
    return dict(zip(names, paths, strict=True)), dict(zip(names, loaded, strict=True))


def _rethresholded(output: Path, name: str) -> Path:
    return output / f"{safe_name(name)}.ckpt"


def _check_written(path: Path, kind: type[AnomalibModule], subject: Subject) -> None:
    """Load a checkpoint that was written, and let its post-processor judge the sound images."""
    post: Any = load_checkpoint(path, f"{kind.__module__}.{kind.__qualname__}").post_processor
    scores = torch.tensor(subject.sound_scores, dtype=torch.float32).to(post.image_threshold.device)
    alarms = int(post(InferenceBatch(pred_score=scores)).pred_label.sum())
    wanted = int((subject.sound_scores > subject.threshold.value).sum())
    if alarms != wanted:
        msg = f"'{path}': its post-processor calls {alarms} sound images defective, the threshold {wanted}."
        raise ValueError(msg)


def _write(record: Mapping[str, Any], output: Path) -> None:
    text = json.dumps(record, indent=1, allow_nan=False)
    (output / "qualification.json").write_text(text + "\n", encoding="utf-8")


def _track(items: Iterable[Any], text: str, total: int) -> Iterable[Any]:
    return track(items, description=text, total=total, console=Console(stderr=True), transient=True)
