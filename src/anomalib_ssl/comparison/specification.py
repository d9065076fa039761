# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""From the YAML schema of ``anomalib benchmark`` to a list of jobs: grids, seeds and entries of their own settings."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from anomalib_ssl import models as ours
from anomalib_ssl.file_names import safe_name

ENTRY_KEYS = {
    "class_path": str,
    "init_args": dict,
    "label": str,
    "seed": int | list,
    "trainer": dict,
    "data": dict,
    "pretrained": bool,
    "untrained": bool,
}
"""What an entry of ``model`` may hold; all but the first two are this package's additions."""

BENCHMARK_KEYS = {"model", "data", "seed", "trainer"}
"""What stands below ``benchmark``; ``trainer`` is this package's addition."""

LARGEST_SEED = 2**32 - 1

UNREACHED = 10**9
"""Updates where minutes are the limit."""

DEEPEST = 50
"""Levels of a configuration; more are a YAML file that refers to itself."""


@dataclass(frozen=True)
class Specification:
    """Settings of one job, as plain data.

    Args:
        model: ``class_path`` and ``init_args`` of a model.
        data: The same of a datamodule.
        seed: Seed of everything random.
        trainer: Arguments of the Trainer.
        accelerator: ``cpu`` or ``cuda``.
        label: What reports shall call the model.
        pretrained: Whether it starts from weights trained on other images, where its arguments do not tell.
        minutes: Budget in minutes of training, in place of ``max_updates`` of a model of this package.
        untrained: Whether a model of this package is scored with as its weights were drawn.

    Example:
        >>> specification = Specification({"class_path": "anomalib.models.Padim"}, {"class_path": "MVTecAD"}, seed=1)
        >>> specification.name.rpartition("-")[0]  # without the digest of the settings
        'Padim-MVTecAD-s1'
    """

    model: dict[str, Any]
    data: dict[str, Any]
    seed: int = 0
    trainer: dict[str, Any] = field(default_factory=dict)
    accelerator: str = "cpu"
    label: str | None = None
    pretrained: bool | None = None
    minutes: float | None = None
    untrained: bool = False

    @property
    def model_class(self) -> str:
        """Name of the model's class."""
        return str(self.model["class_path"]).rpartition(".")[2]

    @property
    def data_class(self) -> str:
        """Name of the datamodule's class."""
        return str(self.data["class_path"]).rpartition(".")[2]

    @property
    def model_args(self) -> dict[str, Any]:
        """Arguments given to the model; its own seed, where it has one, is that of the job."""
        arguments = dict(self.model.get("init_args") or {})
        return {**arguments, "seed": self.seed} if "seed" in arguments else arguments

    @property
    def data_args(self) -> dict[str, Any]:
        """Arguments given to the datamodule."""
        return dict(self.data.get("init_args") or {})

    @property
    def category(self) -> str | None:
        """Category of the data set, where the configuration names one."""
        category = self.data_args.get("category")
        return None if category is None else str(category)

    @property
    def name(self) -> str:
        """A name that is the same for the same settings, and safe as a file's: readable first, then a digest.

        Where the data lie is no setting: a benchmark can be resumed after they were moved. Nor is what reports say.
        """
        settings = {**asdict(self), "label": None, "pretrained": None}
        for name in ("minutes", "untrained"):
            if not settings[name]:
                del settings[name]  # names are those of earlier versions
        settings["data"] = {
            "class_path": self.data_class,
            "init_args": {name: value for name, value in self.data_args.items() if name != "root"},
        }
        settings["model"] = {"class_path": self.model_class, "init_args": self.model_args}
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:8]
        parts = (
            self.model_class,
            self.data_args.get("name") or self.data_class,
            self.category,
            f"s{self.seed}",
            digest,
        )
        return safe_name("-".join(str(part) for part in parts if part))

    def without(self, arguments: Collection[str]) -> "Specification":
        """The same without some arguments of the model."""
        kept = {name: value for name, value in self.model_args.items() if name not in arguments}
        return replace(self, model={**self.model, "init_args": kept})

    def unlimited(self) -> "Specification":
        """The same with more updates than a run reaches, and where nothing is said of validations, with one at its end.

        Each fits the statistics of scores anew, and only the last weights are tested.
        """
        at_the_end = {"check_val_every_n_epoch": None, "val_check_interval": UNREACHED}
        trainer = {**self.trainer, **({} if at_the_end.keys() & self.trainer.keys() else at_the_end)}
        model = {**self.model, "init_args": {**self.model_args, "max_updates": UNREACHED}}
        return replace(self, model=model, trainer=trainer)


def specifications(
    benchmark: Mapping[str, Any],
    accelerator: str = "cpu",
    root: str | None = None,
    categories: Sequence[str] | Literal["all"] | None = None,
    seeds: Sequence[int] | None = None,
    minutes: Sequence[float] | None = None,
) -> list[Specification]:
    """List the jobs of a configuration: for each category all models, and for each model all seeds.

    Args:
        benchmark: What stands below ``benchmark`` in the YAML file. ``grid: [...]`` in place of a value means each of
            the values, anywhere; ``seed`` may be a list. An entry of ``model`` may hold, beside ``class_path`` and
            ``init_args``, its own ``seed``, ``trainer`` (on top of the common one), ``data`` (arguments on top of the
            datamodule's, such as ``train_batch_size``), ``label``, ``pretrained`` and ``untrained``.
        accelerator: ``cpu`` or ``cuda``.
        root: Folder of the data, in place of the one in the configuration.
        categories: Categories, in place of those in the configuration; ``all`` for all folders of the root in MVTec
            layout with masks.
        seeds: Seeds, in place of those in the configuration.
        minutes: Budgets in minutes of training, in place of ``max_updates`` of models of this package.

    Returns:
        The jobs, each once.

    Raises:
        ValueError: If a key is missing, unknown, or no settings are left, or two entries differ in their labels alone.
    """
    _check_plain(benchmark)
    _check_keys("benchmark", benchmark, BENCHMARK_KEYS, required=("model", "data"))
    _check_type("trainer", benchmark.get("trainer"), dict)
    data = _with_data(benchmark["data"], root, categories)
    models = list(expand(benchmark["model"]))
    for entry in models:
        _check_keys("an entry of model", entry, ENTRY_KEYS, required=("class_path",))
        for name, kind in ENTRY_KEYS.items():
            _check_type(f"{name} of an entry of model", entry.get(name), kind)
    found: dict[str, Specification] = {}
    for datum, entry in product(data, models):
        for trainer in expand(dict(benchmark.get("trainer") or {}) | dict(entry.get("trainer") or {})):
            _check_type("trainer", trainer, dict)
            common = Specification(
                model={name: entry[name] for name in ("class_path", "init_args") if name in entry},
                data={**datum, "init_args": {**datum["init_args"], **(entry.get("data") or {})}},
                trainer=trainer,
                accelerator=accelerator,
                label=entry.get("label"),
                pretrained=entry.get("pretrained"),
                untrained=bool(entry.get("untrained")),
            )
            own = common.model_class in ours.__all__
            if common.untrained and not own:
                msg = f"untrained is for models of this package, got {entry['class_path']!r}."
                raise ValueError(msg)
            for seed in _seeds(entry.get("seed", benchmark.get("seed", 0)) if seeds is None else seeds):
                for budget in minutes if minutes and own and not common.untrained else [None]:
                    specification = replace(common, seed=seed, minutes=budget)
                    first = found.setdefault(specification.name, specification)
                    if first.data_args.get("root") != specification.data_args.get("root"):
                        msg = (
                            "root must be the same for all jobs that differ in nothing else, since no table could tell "
                            f"them apart, got {first.data_args.get('root')!r} and {specification.data_args['root']!r}: "
                            "give the data other names, or each an output folder."
                        )
                        raise ValueError(msg)
                    if first.label != specification.label:
                        msg = f"label must be one for equal entries, got {first.label!r} and {specification.label!r}."
                        raise ValueError(msg)
    if not found:
        msg = "benchmark describes no job: a grid or the list of seeds is empty."
        raise ValueError(msg)
    return list(found.values())


def expand(value: Any) -> Iterator[Any]:
    """Go through all combinations of the grids in nested plain data.

    Example:
        >>> list(expand({"a": {"grid": [1, 2]}, "b": 0}))
        [{'a': 1, 'b': 0}, {'a': 2, 'b': 0}]
    """
    if not isinstance(value, Mapping):
        yield value
    elif set(value) == {"grid"}:
        choices = value["grid"]
        for choice in choices if isinstance(choices, list | tuple) else [choices]:
            yield from expand(choice)
    else:
        for combination in product(*(list(expand(item)) for item in value.values())):
            yield dict(zip(value, combination, strict=True))


def _with_data(data: Any, root: str | None, categories: Sequence[str] | str | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for datum in expand(data):
        _check_keys("data", datum, {"class_path", "init_args"}, required=("class_path",))
        _check_type("class_path of data", datum["class_path"], str)
        _check_type("init_args of data", datum.get("init_args"), dict)
        arguments = dict(datum.get("init_args") or {})
        if root is not None:
            arguments["root"] = root
        chosen = [arguments.get("category")] if categories is None else categories
        if chosen == "all":
            chosen = _all_categories(arguments.get("root"))
        own = [arguments if category is None else {**arguments, "category": category} for category in chosen]
        found.extend({**datum, "init_args": one} for one in own)
    return found


def _all_categories(root: Any) -> list[str]:
    folders = sorted(Path(root or "").iterdir()) if root and Path(root).is_dir() else []
    found = [path.name for path in folders if all((path / part).is_dir() for part in ("train/good", "ground_truth"))]
    if not found:
        msg = f"categories='all' needs a root with folders CATEGORY/train/good and CATEGORY/ground_truth, got {root!r}."
        raise ValueError(msg)
    return found


def _seeds(value: Any) -> list[int]:
    seeds = [seed for choice in expand(value) for seed in (choice if isinstance(choice, list | tuple) else [choice])]
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= LARGEST_SEED:
            msg = f"seed must be a whole number from 0 to {LARGEST_SEED}, or a list of such, got {seed!r}."
            raise ValueError(msg)
    return seeds


def _check_type(where: str, value: Any, kind: Any) -> None:
    if value is not None and not isinstance(value, kind):
        msg = f"{where} must be of type {getattr(kind, '__name__', kind)}, got {value!r}."
        raise ValueError(msg)


def _check_plain(value: Any, depth: int = 0) -> None:
    """Raise unless keys are text, and nothing holds itself, as YAML allows."""
    if depth > DEEPEST:
        msg = f"benchmark must not be nested more than {DEEPEST} deep."
        raise ValueError(msg)
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_type(f"the key {name!r}", name, str)
            _check_plain(item, depth + 1)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_plain(item, depth + 1)


def _check_keys(where: str, value: Any, known: Collection[str], required: Sequence[str]) -> None:
    if not isinstance(value, Mapping):
        msg = f"{where} must be a mapping, got {value!r}."
        raise ValueError(msg)  # noqa: TRY004  # a value of a file, not an argument of a call
    for name in required:
        if name not in value:
            msg = f"{where} lacks '{name}': {dict(value)!r}."
            raise ValueError(msg)
    unknown = sorted(set(value) - set(known))
    if unknown:
        msg = f"{where} must have keys among {sorted(known)}, got {unknown[0]!r}."
        raise ValueError(msg)
