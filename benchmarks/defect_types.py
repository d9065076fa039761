# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Do unlabelled images tell which pastes train CutPaste well? One training for each set of pastes, scored by type.

Run as ``python benchmarks/defect_types.py --root datasets/MVTecAD --category transistor --out transistor.json``. Each
training is saved as soon as it is there; the same command goes on where it was interrupted, and then shows the table.

One half of the test images is unlabelled: a set is judged by it, in embeddings that stand still. The other half is
tested. Then the halves change places.
"""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness.quiet import quiet
from harness.sinkhorn import sinkhorn
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torchvision.transforms.v2.functional import resize

from anomalib_ssl import CutPaste
from anomalib_ssl.augmentations import Augmentation, BlendedPatch, CutPasteScar
from anomalib_ssl.augmentations import CutPaste as Patch
from anomalib_ssl.image_files import find_images, read_image
from anomalib_ssl.models.cutpaste.training import MOMENTUM, WEIGHT_DECAY
from anomalib_ssl.models.st_ssad.alignment import mean_distance, visibility
from anomalib_ssl.models.st_ssad.settings import settings
from anomalib_ssl.models.st_ssad.tuning import choose

SCORES = ("places_and_filters_max", "normed_places_top")
MIXED = "mixed"
JUDGED = 128
"""Normal images that are embedded, and augmented."""

Sets = dict[str, tuple[str, dict[str, Augmentation]]]
Embedding = Callable[[torch.Tensor], torch.Tensor]


def benchmark(
    root: Path,
    category: str,
    out: Path,
    num_random: int = 8,
    updates: int = 100,
    batch_size: int = 16,
    image_size: int = 64,
    backbone: str = "resnet18",
    pretrained: str | None = None,
    seed: int = 0,
) -> None:
    """Train CutPaste with its defaults, a strong patch, random sets of pastes and what STSSAD chooses; judge all sets.

    Args:
        root: Folder of a data set in MVTec layout.
        category: Its category.
        out: JSON file with scores and criteria, which is gone on with.
        num_random: Number of random sets, of patches, scars and blended patches in turn.
        updates: Updates of each training.
        batch_size: Training images per update.
        image_size: Side in pixels to which images are resized.
        backbone: Name of a timm network.
        pretrained: Name of a timm network with pretrained weights, for one more embedding.
        seed: Seed of weights and trainings.
    """
    found = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {"sets": {}}
    arguments: dict[str, Any] = {"image_size": image_size, "backbone": backbone, "seed": seed}
    normal = read(root / category / "train/good", image_size)
    folders = sorted(path for path in (root / category / "test").iterdir() if path.is_dir())
    read_types = {folder.name: read(folder, image_size) for folder in folders}
    test, types = torch.cat([*read_types.values()]), [name for name, one in read_types.items() for _ in one]
    held_out, trained = normal[::10], normal[torch.arange(len(normal)) % 10 != 0]
    found["types"] = types
    judged = trained[torch.randperm(len(trained), generator=torch.Generator().manual_seed(0))[:JUDGED]]
    plan: Sets = {"untrained": ("3way", {}), "default": ("3way", {}), **random_sets(num_random)}
    untrained = model_of(plan["default"], arguments)
    chosen = chosen_sets(untrained, judged, test, types)
    plan |= {name: ("3way", pastes) for name, pastes in chosen.items()}
    plan["strong patch"] = ("3way", {"patch": settings(untrained.views.patch)[1]})
    for name, pastes in plan.items():
        if name in found["sets"]:
            continue
        started, model = time.process_time(), model_of(pastes, arguments)
        accuracy = train(model, trained, 0 if name == "untrained" else updates, batch_size, seed)
        values = {score: score_images(model, score, arguments, trained, held_out, test) for score in SCORES}
        scores, held_out_scores = ({score: both[part] for score, both in values.items()} for part in range(2))
        found["sets"][name] = {
            "pastes": str(pastes),
            "accuracy": accuracy,
            "scores": scores,
            "held-out": held_out_scores,
            "seconds": time.process_time() - started,
        }
        if name == "default":
            torch.save(model.model.state_dict(), out.with_suffix(".pt"))
        save(out, found)
    if "criteria" not in found:
        after = model_of(plan["default"], arguments)
        after.model.load_state_dict(torch.load(out.with_suffix(".pt"), weights_only=True))
        judges = {"untrained": untrained, "trained": after}
        if pretrained is not None:
            judges["pretrained"] = model_of(plan["default"], {**arguments, "backbone": pretrained, "pre_trained": True})
        judged_sets = {name: pastes for name, pastes in plan.items() if name.startswith(("default", "random"))}
        found["criteria"] = {
            name: judge(model.model.eval().pooled_features, judged_sets, judged, test, types)
            for name, model in judges.items()
        }
        save(out, found)
    show(category, found)


def random_sets(count: int) -> Sets:
    """Draw sets: a kind of paste each, of a size, a shape and a strength."""
    sets: Sets = {}
    for number in range(count):
        drawn = np.random.default_rng(number).uniform(size=4)
        kind = ("normal", "scar", "blended")[number % 3]
        if kind == "normal":
            area, aspect = 0.005 * 40 ** drawn[0], 1.1 * 3.6 ** drawn[1]
            shape = ((0.8 / aspect, 1.25 / aspect), (0.8 * aspect, 1.25 * aspect))
            pastes = {"patch": Patch((area / 1.5, area * 1.5), shape, jitter=drawn[2] / 2)}
        elif kind == "scar":
            width, length = 2 * 10 ** drawn[0], 12 * 7.5 ** drawn[1]
            sides = [(max(round(side / 1.5), 1), round(side * 1.5)) for side in (width, length)]
            pastes = {"scar": CutPasteScar(*sides, jitter=drawn[2] / 2)}
        else:
            side = 0.08 * 5 ** drawn[0]
            limits, blend = (side / 1.3, side * 1.3), "soft" if drawn[2] < 0.5 else "poisson"
            pastes = {"blended": BlendedPatch(1, limits, limits, outlines=("rectangle", "blob"), blend=blend)}
        sets[f"random {number}"] = (kind, pastes)
    return sets


def chosen_sets(
    model: CutPaste, judged: torch.Tensor, test: torch.Tensor, types: Sequence[str]
) -> dict[str, dict[str, Augmentation]]:
    """What STSSAD chooses by either half of the test images, all types mixed, where that is not what is given."""
    candidates = {"patch": settings(model.views.patch), "scar": settings(model.views.scar)}
    model.model.eval()
    found: dict[str, dict[str, Augmentation]] = {}
    for half, rows in enumerate(halves(types, MIXED)):
        pastes = choose(model.model.pooled_features, candidates, judged.split(32), test[rows].split(32)).pastes
        print(f"chosen by half {half}: {pastes}", flush=True)
        if pastes not in ({view: one[0] for view, one in candidates.items()}, *found.values()):
            found[f"chosen {half}"] = pastes
    return found


def model_of(pastes: tuple[str, dict[str, Augmentation]], arguments: dict[str, Any]) -> CutPaste:
    """Build CutPaste with a set of pastes."""
    with quiet():
        model = CutPaste(variant=pastes[0], optimizer="sgd", visualizer=False, **arguments)
    model.views = replace(model.views, **pastes[1])
    return model


def train(model: CutPaste, images: torch.Tensor, updates: int, batch_size: int, seed: int) -> float:
    """Train as the paper has it, by SGD; give the accuracy of the pretext task over the last fifth."""
    torch.manual_seed(seed)
    network, hits = model.model.train(), []
    optimizer = torch.optim.SGD(network.parameters(), lr=model.lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY["sgd"])
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = model.lr * 0.5 * (1 + math.cos(math.pi * update / updates))
        views, labels = model.views(images[torch.randint(len(images), (batch_size,))])
        logits = network(views)
        optimizer.zero_grad()
        model.loss(logits, labels).backward()
        optimizer.step()
        hits.append(float((logits.argmax(dim=1) == labels).float().mean()))
    return float(np.mean(hits[-max(updates // 5, 1) :])) if hits else math.nan


@torch.no_grad()
def score_images(
    model: CutPaste,
    score: str,
    arguments: dict[str, Any],
    trained: torch.Tensor,
    held_out: torch.Tensor,
    test: torch.Tensor,
) -> tuple[list[float], list[float]]:
    """Raw scores of test images, and of held-out ones, by one of the candidates."""
    scoring = model_of((model.views.variant, {}), {**arguments, "score": score})
    scoring.model.load_state_dict(model.model.state_dict())
    scoring.fit_statistics(trained.split(32), held_out.split(32))
    scoring.model.eval()

    def scored(images: torch.Tensor) -> list[float]:
        return torch.cat([scoring.model(part).pred_score for part in images.split(32)]).tolist()

    return scored(test), scored(held_out)


@torch.no_grad()
def judge(
    embed: Embedding, sets: Sets, judged: torch.Tensor, test: torch.Tensor, types: Sequence[str]
) -> dict[str, dict[str, list[dict[str, float]]]]:
    """All criteria in one embedding: by set, by type, for either half of the test images as the unlabelled ones."""

    def embedded(images: torch.Tensor) -> torch.Tensor:
        return torch.cat([embed(part) for part in images.split(32)])

    train_features, test_features = embedded(judged), embedded(test)
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name, pastes in sets.items():
        views = model_of(pastes, {"backbone": "test_resnet", "seed": 0}).views
        used = [one for kind, one in (("patch", views.patch), ("scar", views.scar)) if pastes[0] in ("3way", kind)]
        used = list(pastes[1].values()) or used
        generator = torch.Generator().manual_seed(0)
        augmented = [embedded(torch.cat([one(part, generator)[0] for part in judged.split(32)])) for one in used]
        found[name] = {}
        for kind in kinds(types):
            found[name][kind] = []
            for rows in halves(types, kind):
                unlabeled = test_features[rows]
                distance = float(mean_distance(train_features, torch.cat(augmented), unlabeled))
                control = float(mean_distance(train_features, torch.cat(augmented), train_features))
                transport = float(sinkhorn(train_features, torch.cat(augmented), unlabeled))
                seen = min(float(visibility(train_features, one)) for one in augmented)
                found[name][kind].append(
                    {
                        "mean distance": distance,
                        "with normal images as unlabelled": control,
                        "Sinkhorn": transport,
                        "visibility": seen,
                    }
                )
    return found


def kinds(types: Sequence[str]) -> list[str]:
    """The defect types, and all of them mixed."""
    return [*sorted(set(types) - {"good"}), MIXED]


def halves(types: Sequence[str], kind: str) -> Iterator[list[int]]:
    """Sound images and those of a type, every other one of each."""
    wanted = set(types) if kind == MIXED else {"good", kind}
    for half in range(2):
        yield [
            index
            for name in sorted(wanted)
            for index in [row for row, each in enumerate(types) if each == name][half::2]
        ]


def aurocs(found: dict[str, Any], name: str, kind: str, score: str) -> list[float]:
    """Image AUROC of both halves."""
    types, scores = found["types"], np.array(found["sets"][name]["scores"][score])
    return [float(roc_auc_score([types[row] != "good" for row in rows], scores[rows])) for rows in halves(types, kind)]


def show(category: str, found: dict[str, Any]) -> None:
    """Print AUROC by type, and how criteria rank the sets."""
    console = Console(width=None if Console().is_terminal else 200)
    for score in SCORES:
        table = Table("set", *kinds(found["types"]), title=f"{category}, image AUROC of {score}", title_justify="left")
        for name in found["sets"]:
            values = [np.mean(aurocs(found, name, kind, score)) for kind in kinds(found["types"])]
            table.add_row(name, *(f"{100 * value:.1f}" for value in values))
        console.print(table)
        table = Table("type", "halves", *correlations(found, MIXED, score), title_justify="left")
        table.title = f"{category}, rank correlation over sets: AUROC of {score} of both halves; with criteria"
        for kind in kinds(found["types"]):
            table.add_row(kind, between(found, kind, score), *correlations(found, kind, score).values())
        console.print(table)


def correlations(found: dict[str, Any], kind: str, score: str) -> dict[str, str]:
    """Of criterion by one half and AUROC on the other, the mean of both ways."""
    names = list(next(iter(found["criteria"].values())))
    areas = np.array([aurocs(found, name, kind, score) for name in names])
    judged = {
        f"{judge_name}: {criterion}": np.array([[half[criterion] for half in sets[name][kind]] for name in names])
        for judge_name, sets in found["criteria"].items()
        for criterion in sets[names[0]][kind][0]
    }
    judged["overlap of scores"] = np.array([overlaps(found, name, kind, score) for name in names])
    judged["spread of scores, negated"] = -np.array([spreads(found, name, kind, score) for name in names])
    cells = {}
    for criterion, values in judged.items():
        both = [spearmanr(values[:, half], areas[:, 1 - half]).statistic for half in range(2)]
        cells[criterion] = f"{np.mean(both):+.2f}"
    return cells


def overlaps(found: dict[str, Any], name: str, kind: str, score: str) -> list[float]:
    """How often a held-out normal image has a higher score than an unlabelled one, for both halves.

    Of images of which a share p is defective this is expected to be ``(1 - p) / 2 + p * (1 - AUROC)``, so that it ranks
    sets as AUROC does, without labels, where held-out images are like the sound ones.
    """
    one = found["sets"][name]
    scores, normal = np.array(one["scores"][score]), np.array(one["held-out"][score])
    return [
        1 - float(roc_auc_score([True] * len(rows) + [False] * len(normal), [*scores[rows], *normal]))
        for rows in halves(found["types"], kind)
    ]


def spreads(found: dict[str, Any], name: str, kind: str, score: str) -> list[float]:
    """Standard deviation of the scores of unlabelled images, for both halves, in units of what held-out ones differ by.

    Scores are on that scale. What all unlabelled images have in common, such as their light, counts for nothing here.
    """
    scores = np.array(found["sets"][name]["scores"][score])
    return [float(scores[rows].std()) for rows in halves(found["types"], kind)]


def between(found: dict[str, Any], kind: str, score: str) -> str:
    """How well AUROC on one half ranks the sets as AUROC on the other does; no criterion can be better for long."""
    names = list(next(iter(found["criteria"].values())))
    areas = np.array([aurocs(found, name, kind, score) for name in names])
    return f"{spearmanr(areas[:, 0], areas[:, 1]).statistic:+.2f}"


def read(folder: Path, size: int) -> torch.Tensor:
    """Images of a folder, (N, 3, size, size)."""
    images = [read_image(path) for path in find_images("root", folder)]
    return torch.stack([resize(image, [size, size], antialias=True) for image in images])


def save(out: Path, found: dict[str, Any]) -> None:
    """Write the file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    auto_cli(benchmark, as_positional=False)
