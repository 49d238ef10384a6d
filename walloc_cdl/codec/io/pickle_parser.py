"""Parser for the pickle of a checkpoint that does not execute it: no name is imported and nothing is called.

Why not `torch.load(weights_only=True)` alone: it executes no foreign code, but it trusts the sizes that the pickle
declares, which can make it read beyond a record or allocate terabytes. This parser determines the size of every storage
and the extent of every tensor before anything is allocated, and `walloc_cdl.codec.io.torch_archive` compares them with
the records. It supports only the opcodes of pickle protocol 2 that `torch.save` writes for tensors, dictionaries,
lists, numbers, strings and a plain configuration object.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from walloc_cdl.errors import DamagedError, one_line

CONFIG_CLASSES = ("__main__.Config", "types.SimpleNamespace")
"""Classes of plain attributes, with one of which older published checkpoints store their configuration."""

ELEMENT_BYTES = {
    "torch.DoubleStorage": 8,
    "torch.FloatStorage": 4,
    "torch.HalfStorage": 2,
    "torch.BFloat16Storage": 2,
    "torch.LongStorage": 8,
    "torch.IntStorage": 4,
    "torch.ShortStorage": 2,
    "torch.CharStorage": 1,
    "torch.ByteStorage": 1,
    "torch.BoolStorage": 1,
}
_REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2"
_REBUILD_PARAMETER = "torch._utils._rebuild_parameter"
_ORDERED_DICT = "collections.OrderedDict"
_KNOWN_GLOBALS = {*CONFIG_CLASSES, *ELEMENT_BYTES, _REBUILD_TENSOR, _REBUILD_PARAMETER, _ORDERED_DICT}


@dataclass(frozen=True)
class Storage:
    """A storage of the checkpoint: `num_elements` numbers in the record `data/<key>`."""

    key: str
    element_bytes: int
    num_elements: int


@dataclass(frozen=True)
class TensorView:
    """A tensor as a view of a storage that has not been read."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def num_elements(self) -> int:
        """Product of the shape."""
        product = 1
        for size in self.shape:
            product *= size
        return product

    @property
    def end(self) -> int:
        """Index after the last element of the storage that the tensor reads."""
        if 0 in self.shape:
            return self.offset
        return self.offset + 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))


@dataclass
class ParsedConfig:
    """The attributes of a configuration object."""

    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass
class ParsedPickle:
    """The object that a pickle describes, and all its storages and tensors."""

    root: Any
    storages: dict[str, Storage]
    tensors: list[TensorView]


class _Global(str):
    """A dotted name that the pickle refers to."""


class _Mark:
    """Marks where the items of the next collection start on the stack."""


def parse_pickle(data: bytes, origin: str) -> ParsedPickle:
    """Parse a pickle of `torch.save`; raise `DamagedError`, naming `origin`, for any other pickle."""
    parser = _Parser(origin)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            parser.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        if isinstance(error, DamagedError):
            raise
        raise DamagedError(
            f"{origin}: its pickle cannot be read ({one_line(error, 120)}); get the file again"
        ) from error
    return ParsedPickle(parser.root, parser.storages, parser.tensors)


class _Parser:
    """A pickle machine that builds descriptions, such as `TensorView`, instead of calling functions."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.root: Any = None
        self.storages: dict[str, Storage] = {}
        self.tensors: list[TensorView] = []

    def step(self, name: str, argument: Any) -> None:
        """Execute one opcode."""
        stack = self.stack
        if name in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"):
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self._pop_many(int(name[-1]))))
        elif name == "TUPLE":
            stack.append(tuple(self._pop_to_mark()))
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop_many(2) if name == "SETITEM" else self._pop_to_mark()
            self._set_items(stack[-1], items)
        elif name in ("APPEND", "APPENDS"):
            items = self._pop_many(1) if name == "APPEND" else self._pop_to_mark()
            self._expect(stack[-1], list).extend(items)
        elif name == "GLOBAL":
            stack.append(self._global(argument))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, callee = stack.pop(), stack.pop()
            stack.append(self._call(callee, self._expect(arguments, tuple)))
        elif name == "BUILD":
            self._set_state(stack.pop())
        elif name == "STOP":
            self.root = stack.pop()
        elif name != "PROTO":
            raise DamagedError(f"{self.origin}: its pickle uses {name}, which torch.save does not; get the file again")

    def _pop_many(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        if len(items) < count:
            raise IndexError("the stack is empty")
        del self.stack[-count:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while not isinstance(item := self.stack.pop(), _Mark):
            items.append(item)
        return items[::-1]

    def _expect(self, value: Any, kind: type) -> Any:
        if not isinstance(value, kind):
            raise TypeError(f"a {type(value).__name__} instead of a {kind.__name__}")
        return value

    def _set_items(self, target: Any, items: list[Any]) -> None:
        for key, value in _pairs(items):
            # A nested tuple could take forever to hash; keys are only strings and integers.
            if not isinstance(key, (str, int)):
                raise TypeError(f"a {type(key).__name__} as a key")
            self._expect(target, dict)[key] = value

    def _global(self, argument: str) -> _Global:
        name = argument.replace(" ", ".", 1)
        if name not in _KNOWN_GLOBALS:
            raise DamagedError(
                f"{self.origin}: its pickle refers to {name[:80]!r}, which weights do not need and which could execute "
                "code; nothing was executed; get the file from a source that you trust"
            )
        return _Global(name)

    def _storage(self, identity: Any) -> Storage:
        kind, element, key, _device, num_elements = self._expect(identity, tuple)
        size = ELEMENT_BYTES[self._expect(element, _Global)]
        if kind != "storage" or not isinstance(key, str) or type(num_elements) is not int or num_elements < 0:
            raise TypeError("a storage without a name or a size")
        storage = Storage(key, size, num_elements)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"two sizes of storage {key}")
        return storage

    def _call(self, callee: Any, arguments: tuple[Any, ...]) -> Any:
        name = self._expect(callee, _Global)
        if name == _ORDERED_DICT and not arguments:
            return {}
        if name in CONFIG_CLASSES and not arguments:
            return ParsedConfig()
        if name == _REBUILD_PARAMETER:
            return self._expect(arguments[0], TensorView)
        if name == _REBUILD_TENSOR:
            return self._tensor(*arguments[:4])
        raise TypeError(f"{name} called with {len(arguments)} arguments")

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any) -> TensorView:
        numbers = (offset, *self._expect(shape, tuple), *self._expect(stride, tuple))
        if len(shape) != len(stride) or any(type(number) is not int or number < 0 for number in numbers):
            raise TypeError("a tensor without a valid shape")
        tensor = TensorView(self._expect(storage, Storage), offset, shape, stride)
        self.tensors.append(tensor)
        return tensor

    def _set_state(self, state: Any) -> None:
        target = self.stack[-1]
        if isinstance(target, ParsedConfig):
            target.attributes.update(self._expect(state, dict))
        else:  # a state_dict also has the versions of its modules
            self._expect(target, dict)


_CONSTANTS = {"NEWTRUE": True, "NEWFALSE": False, "NONE": None}
_EMPTY: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "MARK": _Mark}


def _pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    if len(items) % 2:
        raise ValueError("a key without a value")
    return zip(items[::2], items[1::2], strict=True)
