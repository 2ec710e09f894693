"""The light forms of NamedTuple, contextmanager and JSON do what those of the standard library do."""

import contextlib
import copy
import enum
import json
import pickle
import subprocess
import sys
import typing
from pathlib import Path

import litefleet_agent
import pytest
from litefleet_agent.formats import light

VALUE = {"b": [1, 2.5, None, True, 'ü"\n\u2028', {}], "a": (1,), "c": float("inf"), "d": -(10**30), "e": ""}
WRONG = ["", "{", "[1] x", "\ufeff{}", '{"a":"\x01"}', "[1,]", "nul", '{"a" 1}', '"\\x"', "{nope"]


class Light(light.NamedTuple):
    """A record."""

    name: str
    size: int = 0
    parts: tuple = ()

    @property
    def words(self) -> str:
        return f"{self.name} of {self.size}"

    @classmethod
    def empty(cls) -> "Light":
        return cls("")


class Heavy(typing.NamedTuple):
    """The same."""

    name: str
    size: int = 0
    parts: tuple = ()


make_light: typing.Any = Light  # mypy does not know what the metaclass adds


def test_records_are_named_tuples() -> None:
    heavy = Heavy("a", parts=("x",))
    light_one = make_light("a", parts=("x",))
    assert [light_one, heavy] == [("a", 0, ("x",))] * 2
    assert (light_one._fields, light_one._asdict()) == (heavy._fields, heavy._asdict())
    assert repr(light_one) == repr(heavy).replace("Heavy", "Light")
    assert light_one._replace(size=3) == heavy._replace(size=3)
    assert light_one._replace(size=3).words == "a of 3"
    assert Light._make(["a", 1, ()]) == Heavy._make(["a", 1, ()])
    assert Light.empty() == Heavy("")
    for again in (copy.copy(light_one), copy.deepcopy(light_one), pickle.loads(pickle.dumps(light_one))):
        assert (type(again), again) == (Light, light_one)
    with pytest.raises(AttributeError):
        light_one.name = "b"  # type: ignore[misc]


@pytest.mark.parametrize("make", [Light, Heavy])
@pytest.mark.parametrize(
    ("given", "named"), [((), {}), (("a", 1, (), 2), {}), (("a",), {"name": "b"}), (("a",), {"other": 1})]
)
def test_wrong_values_are_type_errors(make: type, given: tuple, named: dict) -> None:
    with pytest.raises(TypeError):
        make(*given, **named)


@pytest.mark.parametrize("make", [light.contextmanager, contextlib.contextmanager])
def test_a_block_sees_its_error_and_may_take_or_replace_it(make: typing.Any) -> None:
    seen = []

    @make
    def block(take, other=None):
        try:
            yield 7
        except KeyError as error:
            seen.append(error)
            if other:
                raise other from error
            if not take:
                raise
        finally:
            seen.append("left")

    with block(take=True) as value:
        assert value == 7
        raise KeyError(1)
    with pytest.raises(KeyError), block(take=False):
        raise KeyError(2)
    with pytest.raises(OSError), block(take=False, other=OSError()):
        raise KeyError(3)
    with pytest.raises(StopIteration), block(take=False):
        raise StopIteration
    with block(take=False):
        pass
    assert seen.count("left") == 5


def test_json_is_written_as_json_writes_it() -> None:
    assert light.dumps(VALUE) == json.dumps(VALUE, sort_keys=True, separators=(",", ":"))
    assert light.dumps(VALUE, ", ", ": ") == json.dumps(VALUE, sort_keys=True)
    assert light.dumps("é") == json.dumps("é")
    assert light.loads(f" {json.dumps(VALUE)}\n") == json.loads(json.dumps(VALUE))
    circle: list = []
    circle.append(circle)
    for wrong, error in ((object(), TypeError), ({1: object()}, TypeError), (circle, ValueError)):
        with pytest.raises(error):
            light.dumps(wrong)


@pytest.mark.parametrize("loaded", ["", "import json;"])
def test_what_is_no_json_is_a_value_error(loaded: str) -> None:
    """In a process of its own: the accelerator's own errors need json, which may not be loaded there."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(litefleet_agent.__file__).parents[1])!r}); {loaded}\n"
        "from litefleet_agent.formats.light import loads\n"
        f"for text in [*{WRONG!r}, '[' * 100000]:\n"
        " try: loads(text)\n except (ValueError, RecursionError): pass\n else: sys.exit(text[:20])"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


class _Standard(str, enum.Enum):  # noqa: UP042  as the agent had it, for Python 3.7
    BEGUN = "begin"
    DONE = "done"


class _Light(light.TextEnum):
    BEGUN = "begin"
    DONE = "done"

    @property
    def over(self) -> bool:
        return self is type(self).DONE


@pytest.mark.parametrize("kind", [_Standard, _Light])
def test_texts_are_an_enum(kind: typing.Any) -> None:
    assert (kind("begin"), kind(kind.DONE)) == (kind.BEGUN, kind.DONE)
    assert kind("done") is kind.DONE
    assert kind.DONE == "done"
    assert (kind.DONE.value, kind.DONE.name, [one.value for one in kind]) == ("done", "DONE", ["begin", "done"])
    assert {kind.BEGUN: 1}["begin"] == 1
    for wrong in ("BEGUN", "", None, 1, ["begin"], {}):
        with pytest.raises(ValueError, match="is not a valid"):
            kind(wrong)


def test_a_text_of_an_enum_has_its_properties() -> None:
    assert (_Light("done").over, _Light("begin").over) == (True, False)
