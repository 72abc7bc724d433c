"""An interpreter for the pickle opcodes of torch's state dicts. It executes no code of the file.

A pickle is a program that can make Python's unpickler call any function. This interpreter parses
opcodes with the standard library's disassembler and builds tuples, dicts, numbers and strings. A
global name becomes an inert `Symbol`. A call uses a closed table of functions of this package,
which only check and store their arguments. All other opcodes, names and arguments are refused.
(torch.load's `weights_only` has been broken twice: CVE-2025-32434 and CVE-2026-24747.)
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

_MARK = object()

# A state dict has about 40 opcodes per tensor. Each takes about a microsecond.
_OPCODE_LIMIT = 2_000_000
_LINE_LIMIT = 512  # of a global name

# A state dict needs two levels of tuples: arguments, and the shape in them. With more levels, a few
# shared tuples could form a tree that is too large to print or compare.
_TUPLE_LIMIT = 32  # items

# Opcode -> its function. All opcodes that are not in these tables are refused, such as INST, OBJ,
# NEWOBJ, EXT*, PERSID and the text opcodes of protocol 0.
_PUSH = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
    "MARK": lambda _: _MARK,
}
_PUSH_ARGUMENT = frozenset(
    """BININT BININT1 BININT2 LONG1 BINUNICODE SHORT_BINUNICODE BINUNICODE8""".split()
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class PickleError(Exception):
    """The reason why a pickle is refused."""


class Symbol(NamedTuple):
    """A global name. It does not refer to an object.

    Args:
        module: str.
        name: str.
    """

    module: str
    name: str


Function = Callable[..., Any]


def load_pickle(
    data: bytes,
    *,
    symbols: frozenset[Symbol] = frozenset(),
    functions: Mapping[Symbol, Function] | None = None,
    persistent: Function | None = None,
) -> tuple[Any, int]:
    """Interprets one pickle.

    Args:
        data: bytes that start with the pickle.
        symbols: global names that are allowed as values.
        functions: global name -> function for its calls. It must check its arguments and raise
            PickleError.
        persistent: function that returns the value of a persistent id.

    Returns:
        (value, number of bytes read). The value consists of None, bool, int, str, tuple, list, dict
        with str keys, Symbol, and the results of `functions` and `persistent`.

    Raises:
        PickleError: the pickle is truncated, or has other contents.
    """
    stream = io.BytesIO(data)
    machine = _Machine(symbols, functions or {}, persistent)
    try:
        for _ in range(_OPCODE_LIMIT):
            code = stream.read(1)
            opcode = _OPCODES.get(code)
            if opcode is None:
                name = _NAMES.get(code.decode("latin-1"))
                problem = f"it has the opcode {name}, which no state dict needs"
                raise PickleError(problem if name else "it is not a complete pickle")
            machine.step(opcode.name, _read_argument(opcode, stream, len(data)))
            if opcode.name == "STOP":
                return machine.result(), stream.tell()
    except (ValueError, OverflowError) as error:  # errors of the disassembler
        raise PickleError(f"it is not a complete pickle: {str(error)[:200]!a}") from None
    raise PickleError(f"it has more than {_OPCODE_LIMIT:,} opcodes")


def _read_argument(opcode: pickletools.OpcodeInfo, stream: io.BytesIO, size: int) -> Any:
    if opcode.name == "GLOBAL":
        # The disassembler is not used here: unlike the unpickler, it decodes escapes in names.
        module, name = (stream.readline(_LINE_LIMIT) for _ in range(2))
        if not module.endswith(b"\n") or not name.endswith(b"\n"):
            raise PickleError("it is not a complete pickle")
        return module[:-1].decode("utf-8"), name[:-1].decode("utf-8")
    if opcode.arg is None:
        return None
    argument = opcode.arg.reader(stream)
    if opcode.name == "FRAME" and argument > size - stream.tell():
        raise PickleError("it is not a complete pickle")
    return argument


class _Machine:
    def __init__(
        self,
        symbols: frozenset[Symbol],
        functions: Mapping[Symbol, Function],
        persistent: Function | None,
    ) -> None:
        self._symbols = symbols
        self._functions = functions
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self._stack) != 1 or self._stack[0] is _MARK:
            raise PickleError("it does not end with one value")
        return self._stack[0]

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _PUSH:
            self._stack.append(_PUSH[opcode](argument))
        elif opcode in _PUSH_ARGUMENT:
            self._stack.append(argument)
        elif opcode in _TUPLES:
            count = _TUPLES[opcode]
            items = [self._pop() for _ in range(count)]
            self._push_tuple(tuple(reversed(items)))
        elif opcode == "FRAME":
            pass  # only the size of the next read
        else:
            _STEPS[opcode](self, argument)

    def _pop(self) -> Any:
        value = self._stack.pop() if self._stack else _MARK
        if value is _MARK:
            raise PickleError("it needs a value that is missing")
        return value

    def _pop_to_mark(self) -> list[Any]:
        for position in range(len(self._stack) - 1, -1, -1):
            if self._stack[position] is _MARK:
                items = self._stack[position + 1 :]
                del self._stack[position:]
                return items
        raise PickleError("it needs a mark that is missing")

    def _proto(self, argument: int) -> None:
        if not 2 <= argument <= 5:
            raise PickleError(f"its protocol is {argument}, expected 2 to 5")

    def _stop(self, argument: None) -> None:
        pass

    def _tuple(self, argument: None) -> None:
        self._push_tuple(tuple(self._pop_to_mark()))

    def _push_tuple(self, value: tuple[Any, ...]) -> None:
        if len(value) > _TUPLE_LIMIT:
            raise PickleError(f"it has a tuple of {len(value):,} items")
        if any(type(part) is tuple for item in value if type(item) is tuple for part in item):
            raise PickleError("it nests tuples deeper than a state dict")
        self._stack.append(value)

    def _put(self, argument: int) -> None:
        value = self._pop()
        self._stack.append(value)
        self._memo[argument] = value

    def _memoize(self, argument: None) -> None:
        self._put(len(self._memo))

    def _get(self, argument: int) -> None:
        if argument not in self._memo:
            raise PickleError("it refers to a memo that is missing")
        self._stack.append(self._memo[argument])

    def _global(self, argument: tuple[str, str]) -> None:
        self._push_symbol(*argument)

    def _stack_global(self, argument: None) -> None:
        name, module = self._pop(), self._pop()
        self._push_symbol(module, name)

    def _push_symbol(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleError("it has a global name that is not a string")
        symbol = Symbol(module, name)
        if symbol not in self._functions and symbol not in self._symbols:
            shown = f"{module[:100]}.{name[:100]}"
            raise PickleError(f"it has the name {shown!a}, which no state dict needs")
        self._stack.append(symbol)

    def _reduce(self, argument: None) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Symbol) or function not in self._functions:
            raise PickleError("it calls a value that is not a function")
        if type(arguments) is not tuple:
            raise PickleError("it calls a function without a tuple of arguments")
        try:
            value = self._functions[function](*arguments)
        except TypeError:  # the number of arguments; the functions themselves check the rest
            raise PickleError(
                f"it calls {function.module}.{function.name} with {len(arguments)} arguments"
            ) from None
        self._stack.append(value)

    def _persistent_id(self, argument: None) -> None:
        if self._persistent is None:
            raise PickleError("it has persistent ids")
        self._stack.append(self._persistent(self._pop()))

    def _append(self, argument: None) -> None:
        self._extend([self._pop()])

    def _appends(self, argument: None) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self._pop()
        if not isinstance(target, list):
            raise PickleError("it appends to a value that is not a list")
        target += items
        self._stack.append(target)

    def _set_item(self, argument: None) -> None:
        value, key = self._pop(), self._pop()
        self._update([key, value])

    def _set_items(self, argument: None) -> None:
        self._update(self._pop_to_mark())

    def _update(self, items: list[Any]) -> None:
        target = self._pop()
        if type(target) is not dict:
            raise PickleError("it sets an item of a value that is not a dict")
        if len(items) % 2:
            raise PickleError("it sets a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing keys of other types may be very slow.
            if not isinstance(key, str):
                raise PickleError("it has a dict with a key that is not a string")
            if key in target:
                raise PickleError(f"it has the key {key[:200]!a} twice in one dict")
            target[key] = value
        self._stack.append(target)

    def _build(self, argument: None) -> None:
        # The attribute `_metadata` of an OrderedDict has versions of modules. It is ignored.
        state, target = self._pop(), self._pop()
        if type(target) is not dict or type(state) is not dict or set(state) != {"_metadata"}:
            raise PickleError("it sets the state of a value that is not a state dict")
        self._stack.append(target)


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine._proto,
    "STOP": _Machine._stop,
    "TUPLE": _Machine._tuple,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "BINPERSID": _Machine._persistent_id,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._set_item,
    "SETITEMS": _Machine._set_items,
    "BUILD": _Machine._build,
}

# Opcodes that are not in the first dict are refused before their arguments are read.
_OPCODES = {
    opcode.code.encode("latin-1"): opcode
    for opcode in pickletools.opcodes
    if opcode.name in {*_PUSH, *_PUSH_ARGUMENT, *_TUPLES, *_STEPS, "FRAME"}
}
_NAMES = {opcode.code: opcode.name for opcode in pickletools.opcodes}
