"""Read a pickle as data. No Python object of the file is looked up, built or called, so there is nothing to run.

`pickletools` of the standard library splits a pickle into its instructions; `read_pickle` executes them on a stack of
its own. What would be an object in Python becomes a `Dictionary`, a `Stored` tensor, a `NumpyArray`, or `PLAIN`. The
last stands for other data of a training checkpoint (a path, a date, a random state, a log), whose content is not kept.
A pickle that names anything else is refused with that name.

Instructions, nesting and sizes are limited, since an untrusted file may be made to keep a reader busy.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from bench.checkpoints.pickled_names import (
    DICTIONARIES,
    NAMED_TUPLES,
    ODD_TENSORS,
    RECORDS,
    SAME,
    TENSORS,
    TORCH_DTYPES,
    full_name,
    is_known,
    storage_type,
)
from bench.checkpoints.storages import BeyondBoundsError, NumpyArray, NumpyType, Odd, Stored, UnreadableError

MOST_INSTRUCTIONS = 3_000_000
"""Most instructions of a pickle: a checkpoint has about 40 per tensor, and one for each number in its lists."""


class ForbiddenError(Exception):
    """The pickle names a Python object that is not weights. The text is its name."""


class Dictionary(dict[Any, Any]):
    """A dictionary of the file, of whatever kind."""


class _Plain:
    """Data other than weights, which the benchmark does not need."""


PLAIN = _Plain()


@dataclass(frozen=True)
class _Named:
    """A Python object that the pickle names; it is never looked up."""

    name: str


class _OtherKey:
    """A key of a dictionary that is neither text nor a number."""


class Record:
    """An object of a class that is known to hold plain data: the name of the class and the fields that are known."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fields: dict[Any, Any] = {}


_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
"""Instructions that put their argument on the stack."""
_CONSTANTS: dict[str, Callable[[], object]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": Dictionary,
    "EMPTY_SET": lambda: PLAIN,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _no_storage(_: tuple[Any, ...]) -> object:
    raise UnreadableError("it names storages where none can be")


def read_pickle(stream: BinaryIO, storage: Callable[[tuple[Any, ...]], object] = _no_storage) -> object:
    """The first pickle in `stream`, which afterwards is positioned after it.

    Args:
        stream: an open file or bytes in memory.
        storage: makes a storage from the persistent id by which a torch file names it; other files have none.

    Raises:
        ForbiddenError: it names something that is not weights.
        UnreadableError: it is damaged, or beyond the limits. The text says why.
    """
    machine = _Machine(storage)
    try:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
            if count > MOST_INSTRUCTIONS:
                raise BeyondBoundsError(
                    f"its pickle has more than {MOST_INSTRUCTIONS:,} instructions, which no checkpoint has"
                )
            machine.play(instruction.name, argument)
        return machine.stack.pop()
    except (ForbiddenError, UnreadableError):
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError, MemoryError) as error:
        # Wherever the instructions make no sense (an empty stack, a number for a text ...), the file is damaged.
        raise UnreadableError(f"its pickle makes no sense ({type(error).__name__})") from error


class _Machine:
    """The stack and the memo on which a pickle's instructions operate."""

    def __init__(self, storage: Callable[[tuple[Any, ...]], object]) -> None:
        self.stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._storage = storage

    def play(self, name: str, argument: Any) -> None:
        """Execute one instruction."""
        if name in _PUSHED:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self._memo[argument])
        elif name in _TUPLES:
            size = _TUPLES[name]
            if len(self.stack) < size:
                raise IndexError(name)
            self.stack[-size:] = [tuple(self.stack[-size:])]
        elif name not in ("PROTO", "FRAME", "STOP"):
            getattr(self, f"_{name.lower()}", self._unknown)(argument)

    def _unknown(self, argument: Any) -> None:
        raise UnreadableError("its pickle has an instruction that no checkpoint has")

    def _mark(self, _: Any) -> None:
        self._below.append(self.stack)
        self.stack = []

    def _to_mark(self) -> list[Any]:
        items, self.stack = self.stack, self._below.pop()
        return items

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._to_mark()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _tuple(self, _: Any) -> None:
        items = self._to_mark()
        self.stack.append(tuple(items))

    def _list(self, _: Any) -> None:
        items = self._to_mark()
        self.stack.append(items)

    def _frozenset(self, _: Any) -> None:
        self._to_mark()
        self.stack.append(PLAIN)

    def _dict(self, _: Any) -> None:
        items = self._to_mark()
        self.stack.append(_filled(Dictionary(), items))

    def _append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._to_mark())

    def _extend(self, items: list[Any]) -> None:
        if self.stack[-1] is not PLAIN:
            if not isinstance(self.stack[-1], list):
                raise TypeError("no list")
            self.stack[-1].extend(items)

    def _additems(self, _: Any) -> None:
        self._to_mark()

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _filled(self.stack[-1], [key, value])

    def _setitems(self, _: Any) -> None:
        items = self._to_mark()
        _filled(self.stack[-1], items)

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(_named(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise TypeError("a name that is no text")
        self.stack.append(_named(module, name))

    def _inst(self, argument: str) -> None:
        self._global(argument)
        made = self.stack.pop()
        arguments = self._to_mark()
        self.stack.append(_made(made, arguments))

    def _obj(self, _: Any) -> None:
        made, *arguments = self._to_mark()
        self.stack.append(_made(made, arguments))

    def _reduce(self, _: Any) -> None:
        arguments, made = self.stack.pop(), self.stack.pop()
        if not isinstance(arguments, tuple):
            raise TypeError("arguments that are no tuple")
        self.stack.append(_made(made, arguments))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        self.stack.pop()  # keywords
        self._reduce(None)

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        made = self.stack[-1]
        if isinstance(made, NumpyArray | NumpyType):
            made.fill(state)
        elif isinstance(made, Record) and isinstance(state, Dictionary):
            made.fields = state

    def _binpersid(self, _: Any) -> None:
        wanted = self.stack.pop()
        if not isinstance(wanted, tuple) or len(wanted) < 5 or wanted[0] != "storage":
            raise UnreadableError("it names a part that is not a storage of torch.save")
        kind = wanted[1].name if isinstance(wanted[1], _Named) else ""
        self.stack.append(self._storage((storage_type(kind), *wanted[2:])))


def _filled(target: Any, items: list[Any]) -> Any:
    """The dictionary `target`, filled with alternating keys and values."""
    if isinstance(target, Dictionary):
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[key if isinstance(key, str | int | float | bytes | Record | None) else _OtherKey()] = value
    elif target is not PLAIN:
        raise TypeError("no dictionary")
    return target


def _named(module: str, name: str) -> _Named:
    full = full_name(module, name)
    if not is_known(full):
        raise ForbiddenError(f"{module}.{name}")
    return _Named(full)


def _made(what: Any, arguments: Sequence[Any]) -> Any:
    """The stand-in for the object that Python would make by calling `what` with `arguments`."""
    if not isinstance(what, _Named):
        raise TypeError("a call of what is no name")
    name = what.name
    if name in TENSORS:
        dtype = TORCH_DTYPES[arguments[6].name] if name.endswith("_v3") else None
        return Stored(arguments[0], arguments[1], tuple(arguments[2]), tuple(arguments[3]), dtype)
    if name in SAME:
        return arguments[0]
    if name in ODD_TENSORS:
        return Odd(ODD_TENSORS[name])
    if name == "torch.nn.parameter.Parameter":
        return arguments[0] if arguments else PLAIN
    if name == "torch._tensor._rebuild_from_type_v2":
        return _made(arguments[0], arguments[2])
    if name == "torch.Size":
        return tuple(arguments[0])
    if name in DICTIONARIES:
        pairs = arguments[0] if arguments else ()
        if isinstance(pairs, list):
            return _filled(Dictionary(), [part for pair in pairs for part in (pair[0], pair[1])])
        return Dictionary(pairs) if isinstance(pairs, Dictionary) else Dictionary()
    if fields := NAMED_TUPLES.get(name.rpartition(".")[2]):
        return Dictionary(zip(fields, arguments, strict=True))
    if name.startswith(RECORDS):
        return Record(name)
    if name == "jax._src.array._reconstruct_array":
        array = _made(arguments[0], arguments[1])
        array.fill(arguments[2])
        return array
    if name == "_codecs.encode":
        return arguments[0].encode("latin-1") if arguments[1] in ("latin1", "latin-1") else PLAIN
    if name in ("numpy.core.multiarray._reconstruct", "numpy.ndarray"):
        return NumpyArray()
    if name == "numpy.core.numeric._frombuffer":
        return NumpyArray.of(*arguments)
    if name == "numpy.dtype":
        return NumpyType(str(arguments[0]))
    return PLAIN
