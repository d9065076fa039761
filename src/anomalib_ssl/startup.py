# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The import hook that registers our models as soon as anomalib has been imported.

It is installed at every start of Python (by ``anomalib_ssl.pth``, or ``anomalib_ssl.start`` from Python 3.15 on) and by
``import anomalib_ssl``, so it is kept cheap: two modules the interpreter has loaded already, and duck-typed classes,
since the abstract ones of ``importlib`` would cost several times as much as all of this file.
"""

import os
import sys

TYPE_CHECKING = False  # type checkers take it for True; the module typing would be by far the dearest import here
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

SWITCH = "ANOMALIB_SSL_AUTOREGISTER"
TARGET = "anomalib.models"
STARTUP_FILE = "start-up file"

# Who installed the hook, for ``anomalib-ssl doctor``; empty until somebody has.
installed_by = ""


def install(origin: str = STARTUP_FILE) -> None:
    """Register our models now if ``anomalib.models`` is there already, else as soon as it has been imported.

    Does nothing when called again, nor when switched off with ``ANOMALIB_SSL_AUTOREGISTER=0``.

    Args:
        origin: Who is calling, for the report of ``anomalib-ssl doctor``.
    """
    global installed_by  # noqa: PLW0603  # one per process by its nature, like sys.meta_path
    if not enabled():
        return
    if TARGET in sys.modules:
        installed_by = installed_by or origin
        _register()
    elif not any(isinstance(finder, _Hook) for finder in sys.meta_path):
        installed_by = origin
        sys.meta_path.insert(0, _Hook())
    elif origin == STARTUP_FILE:
        # The start-up file imports the package first, whose __init__ has just installed the hook.
        installed_by = origin


def enabled() -> bool:
    """Whether models are to be registered without being asked to."""
    return os.environ.get(SWITCH, "1").strip().lower() not in {"0", "false", "no", "off"}


def _register() -> None:
    """Register, whatever happens without failing the import that this is part of."""
    try:
        from anomalib_ssl.registration import register  # noqa: PLC0415

        register()
    except Exception as error:  # noqa: BLE001
        import logging  # noqa: PLC0415

        logging.getLogger(__name__).warning("anomalib-ssl: cannot register its models with anomalib: %r", error)


class _Hook:
    """Finder that waits for ``anomalib.models``, registers our models once, and removes itself.

    It registers when the *outermost* running import of anomalib or of this package has finished, not inside it: one of
    our modules, or one that our models import, may be what caused ``anomalib.models`` to be imported, and would still
    be half executed.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.ready = False

    def find_spec(
        self,
        name: str,
        path: "Sequence[str] | None" = None,
        target: "ModuleType | None" = None,
    ) -> "ModuleSpec | None":
        """Find modules of anomalib and of this package as the other finders do, and watch them being executed."""
        if name.partition(".")[0] not in {"anomalib", "anomalib_ssl"}:
            return None
        if self.depth and name != TARGET:
            # Inside a watched import nothing else need be watched, and our frames stay out of anomalib's warnings.
            return None
        finders = list(sys.meta_path)
        if self not in finders:
            return None
        # Only the finders behind this one: those before it have been asked, and a hook like ours among them would ask
        # us again without end.
        for finder in finders[finders.index(self) + 1 :]:
            find_spec = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find_spec(name, path, target) if find_spec else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
                return spec
        return None

    def settle(self) -> None:
        """Register if the target has been executed and no module watched is still being executed."""
        if self.ready and self.depth == 0 and self in sys.meta_path:
            sys.meta_path.remove(self)
            _register()


class _Loader:
    """Loader that hands everything to the real one and tells the hook when a module has been executed."""

    def __init__(self, loader: "Loader", hook: _Hook) -> None:
        self.loader = loader
        self.hook = hook

    def __getattr__(self, name: str) -> object:
        return getattr(self.loader, name)

    def exec_module(self, module: "ModuleType") -> None:
        """Execute the module with its real loader, which it also gets to keep."""
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.hook.depth += 1
        try:
            self.loader.exec_module(module)
            self.hook.ready = self.hook.ready or module.__name__ == TARGET
        finally:
            self.hook.depth -= 1
            self.hook.settle()
