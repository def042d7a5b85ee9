"""Python imports this at its start: from then on `import torchvision` finds a stand-in.

SGLang imports torchvision for models that see; PyPI's does not load beside a CPU build of torch.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Anything:
    """Can be called, subscripted, decorated with and inherited from; does nothing."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *args: Any, **_: object) -> Any:
        return args[0] if args and callable(args[0]) else Anything()

    def __getattr__(self, name: str) -> Anything:
        return _attribute(name)

    def __getitem__(self, _: object) -> Anything:
        return self

    def __or__(self, _: object) -> Anything:
        return self

    __ror__ = __or__

    def __mro_entries__(self, _: object) -> tuple[type, ...]:
        return (object,)


class Standin(ModuleType):
    __path__: list[str] = []  # noqa: RUF012 (a package's own attribute)
    __file__ = "<stand-in>"

    def __getattr__(self, name: str) -> Anything:
        return _attribute(name)


class Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """A stand-in for who imports it; None for who only asks whether torchvision is there."""
        if name.partition(".")[0] != "torchvision" or _only_requested():
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Standin(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _attribute(name: str) -> Anything:
    if name.startswith("__") and name.endswith("__"):
        raise AttributeError(name)
    return Anything()


def _only_requested() -> bool:
    """Whether importlib.util.find_spec called (transformers looks so for what it may use)."""
    frame = sys._getframe(2)
    for _ in range(4):
        if frame is None:
            break
        if frame.f_code is importlib.util.find_spec.__code__:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


sys.meta_path.append(Finder())
