"""NamedTuple, TextEnum, contextmanager and JSON for what a session's first answer loads, without typing, enum, contextlib and re.

Loading those and json takes 15 to 19 ms of a PC's CPU, more than starting the interpreter does (8 to 12 ms).  Such a module
has `from __future__ import annotations`, imports what only its annotations use under `if TYPE_CHECKING`, and takes what is
here from here.  They do what those of the standard library do.
"""

from __future__ import annotations

from _operator import itemgetter

TYPE_CHECKING = False  # known to type checkers
if TYPE_CHECKING:
    import enum
    from contextlib import contextmanager as contextmanager
    from typing import Any, Callable, ClassVar, Dict, Iterator, Tuple
    from typing import NamedTuple as NamedTuple

    class TextEnum(str, enum.Enum):
        """Texts with names, each of which is one object; `TextEnum(text)` raises ValueError for any other text."""

    make_encoder: Any
    make_scanner: Any
    encode_basestring_ascii: Any
else:
    try:
        from _json import encode_basestring_ascii, make_encoder, make_scanner  # of CPython; what json itself runs
    except ImportError:
        make_encoder = make_scanner = encode_basestring_ascii = None


class _Record(tuple):  # type: ignore[type-arg]  # the base at run time of what a type checker takes for a NamedTuple
    """A tuple whose items have names, as typing.NamedTuple makes it."""

    __slots__ = ()
    _fields: ClassVar[Tuple[str, ...]] = ()
    _field_defaults: ClassVar[Dict[str, Any]] = {}

    def __new__(cls, *values: Any, **named: Any) -> Any:
        if named or len(values) != len(cls._fields):
            values = cls._all(values, named)
        return tuple.__new__(cls, values)

    @classmethod
    def _all(cls, values: Tuple[Any, ...], named: Dict[str, Any]) -> Tuple[Any, ...]:
        fields = cls._fields
        twice = [name for name in fields[: len(values)] if name in named]
        unknown = [name for name in named if name not in fields]
        given = dict(cls._field_defaults, **named)
        missing = [name for name in fields[len(values) :] if name not in given]
        if twice or unknown or missing or len(values) > len(fields):
            wrong = "%d values, given twice: %s, unknown: %s, missing: %s" % (len(values), twice, unknown, missing)
            raise TypeError("%s takes %s; got %s" % (cls.__name__, ", ".join(fields), wrong))
        return values + tuple(given[name] for name in fields[len(values) :])

    @classmethod
    def _make(cls, values: Any) -> Any:
        return cls(*values)

    def _replace(self, **named: Any) -> Any:
        kept = {name: value for name, value in zip(self._fields, self) if name not in named}  # noqa: B905
        return type(self)(**kept, **named)

    def _asdict(self) -> Dict[str, Any]:
        return dict(zip(self._fields, self))  # noqa: B905

    def __repr__(self) -> str:
        return "%s(%s)" % (type(self).__name__, ", ".join("%s=%r" % pair for pair in self._asdict().items()))

    def __getnewargs__(self) -> Tuple[Any, ...]:  # for copies and pickles
        return tuple(self)


class _Maker(type):
    """Makes a `_Record` of a class that names NamedTuple as its base."""

    def __new__(cls, name: str, bases: Tuple[type, ...], space: Dict[str, Any]) -> Any:
        if not bases:
            return type.__new__(cls, name, bases, space)
        fields = tuple(space.get("__annotations__", ()))
        defaults = {field: space.pop(field) for field in fields if field in space}
        for place, field in enumerate(fields):
            space[field] = property(itemgetter(place))
        return type(name, (_Record,), dict(space, __slots__=(), _fields=fields, _field_defaults=defaults))


class _TextEnumMaker(type):
    """Makes the texts of a class that names TextEnum as its base into its only instances."""

    def __new__(cls, name: str, bases: Tuple[type, ...], space: Dict[str, Any]) -> Any:
        made: Any = type.__new__(cls, name, bases, space)
        made.members = {}
        for key, text in space.items():
            if not key.startswith("_") and isinstance(text, str):
                member = made.members[text] = str.__new__(made, text)
                member.name, member.value = key, text
                setattr(made, key, member)
        return made

    def __call__(cls: Any, text: object) -> Any:
        known = cls.members.get(text) if isinstance(text, str) else None
        if known is None:
            raise ValueError("%r is not a valid %s" % (text, cls.__name__))
        return known

    def __iter__(cls: Any) -> Iterator[Any]:
        return iter(cls.members.values())


class _Block:
    """What a `with` statement runs: a generator with one `yield`."""

    def __init__(self, steps: Any) -> None:
        self._steps = steps

    def __enter__(self) -> Any:
        return next(self._steps)

    def __exit__(self, kind: object, error: Any, trace: object) -> bool:
        try:
            if error is None:
                next(self._steps)
            else:
                self._steps.throw(error)
        except StopIteration as ended:
            return ended is not error and error is not None
        except BaseException as raised:
            # A generator turns the StopIteration that is thrown into it into a RuntimeError.
            same = isinstance(error, StopIteration) and isinstance(raised, RuntimeError) and raised.__cause__ is error
            if raised is not error and not same:
                raise
            error.__traceback__ = trace  # else it holds this frame, which holds it: files in it would stay open
            return False
        raise RuntimeError("the block's generator did not end")


if not TYPE_CHECKING:
    NamedTuple = _Maker("NamedTuple", (), {})
    TextEnum = _TextEnumMaker("TextEnum", (str,), {})

    def contextmanager(function: Callable[..., Iterator[Any]]) -> Callable[..., _Block]:
        """As contextlib.contextmanager."""

        def make(*args: Any, **named: Any) -> _Block:
            return _Block(function(*args, **named))

        make.__doc__ = function.__doc__
        return make


class _Reading:
    """How JSON is read: what json.loads does."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float, parse_int = float, int
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__
    memo: ClassVar[Dict[str, str]] = {}


def dumps(value: object, item: str = ",", key: str = ":") -> str:
    """Return a value's JSON with sorted keys, as json.dumps does with these separators.  Raises what that raises."""
    if _encoder is None:
        import json

        return json.dumps(value, sort_keys=True, separators=(item, key))
    if isinstance(value, str):
        return str(encode_basestring_ascii(value))
    return "".join(_encoder(key, item)(value, 0))


def loads(text: str) -> Any:
    """Return the value of a JSON text, as json.loads does.  Raises ValueError, RecursionError."""
    if _scanner is None:
        import json

        return json.loads(text)
    stripped = text.strip(" \t\n\r")
    try:
        value, end = _scanner(stripped, 0)
        if end == len(stripped):
            return value
    except (StopIteration, SystemError):  # the latter where json.decoder, which has the error's type, is not loaded
        pass
    import json  # says what is wrong

    return json.loads(text)


def _unknown(value: object) -> object:
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


def _encoder_of(key: str, item: str) -> Any:
    return make_encoder({}, _unknown, encode_basestring_ascii, None, key, item, True, False, True)


def _usable(make: Callable[[], Any]) -> Any:
    """Return what `make` returns, None where this interpreter's accelerator takes other arguments."""
    try:
        return make()
    except (AttributeError, TypeError):
        return None


_scanner = _usable(lambda: make_scanner(_Reading))
_encoder = _usable(lambda: _encoder_of(":", ",") and _encoder_of)
