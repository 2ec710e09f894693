"""The comparison of a model's outputs as configuration and requests write it: a kind and what differs from its defaults."""

from dataclasses import dataclass, replace
from typing import Any, Dict, Mapping, NamedTuple, Optional, Sequence, Tuple

from ...errors import AgentError
from .result import Array, Tolerance, default_tolerance, in_agreement, peak, values
from .rules import DEFAULTS, MaskRule, Rule, TensorRule, probability_tolerance

KINDS = tuple(DEFAULTS)
MAX_NAME = 256  # characters of an output's name, as in .npz files
_MAX_COLUMNS = 64
_MAX_OUTPUTS = 1000
_POINT = ("x", "y")
_BOX_FORMS = (("x", "y", "w", "h"), ("cx", "cy", "w", "h"))


class _Number(NamedTuple):
    """Bounds, both included; `whole` for counts."""

    low: float
    high: float
    whole: bool = False

    def problem(self, value: Any) -> str:
        """Return what a value must be, "" when it is."""
        kinds = (int,) if self.whole else (int, float)
        if (
            type(value) in kinds and self.low <= value <= self.high
        ):  # false for NaN; an int may be too large for a float
            return ""
        return "a %s from %g to %g" % ("whole number" if self.whole else "number", self.low, self.high)


class _Word(NamedTuple):
    """One of a few words."""

    words: Tuple[str, ...]

    def problem(self, value: Any) -> str:
        return "" if value in self.words and isinstance(value, str) else "one of %s" % ", ".join(self.words)


class _OutputName(NamedTuple):
    """The name of another output."""

    def problem(self, value: Any) -> str:
        sound = isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()
        return "" if sound else "the name of an output (1 to %d characters)" % MAX_NAME


class _Columns(NamedTuple):
    """The names of a detection's columns."""

    def problem(self, value: Any) -> str:
        if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= _MAX_COLUMNS:
            return "a list of 1 to %d column names" % _MAX_COLUMNS
        if not all(isinstance(name, str) for name in value):
            return "a list of column names"
        return _columns_problem([name for name in value if name != "-"])


def _columns_problem(names: Sequence[str]) -> str:
    """Return what the named columns must be, "" when they describe a detection."""
    if len(set(names)) < len(names) or not {"class", "score"} <= set(names):
        return "names that are used once, class and score among them"
    box = [name for name in names if name not in ("class", "score", "image")]
    points = [axis + str(number + 1) for number in range(len(box) // 2) for axis in _POINT]
    if sorted(box) in [sorted(form) for form in _BOX_FORMS] or (len(box) >= 4 and sorted(box) == sorted(points)):
        return ""
    return "class, score and a box as x1 y1 x2 y2 (more points: x3 y3 ...), x y w h, or cx cy w h"


_SHARE = _Number(0.0, 1.0)
_LIMIT = _Number(0.0, 1e30)
_NAME = _OutputName()
# kind -> parameter -> what it may be; whatever is not here is rejected
_PARAMETERS: Dict[str, Dict[str, Any]] = {
    "tensor": {
        "max_abs": _LIMIT, "max_rel": _LIMIT, "mean_abs": _LIMIT, "cosine_min": _Number(-1.0, 1.0),
        "scale": _Word(("unit", "peak")),
    },
    "labels": {
        "agree": _SHARE, "iou": _SHARE, "tie": _SHARE, "least": _Number(1, 1 << 31, True),
        "order": _Word(("kept", "free")), "scores": _NAME,
    },
    "topk": {"score": _Number(0.0, 0.999), "tie": _SHARE, "agree": _SHARE, "k": _Number(1, 1000, True)},
    "detections": {
        "iou": _Number(0.1, 1.0), "score": _LIMIT, "box": _SHARE, "missing": _SHARE, "floor": _LIMIT,
        "keep": _Number(0, 1 << 31, True), "overlap": _SHARE, "columns": _Columns(),
    },
    "counts": {"differ": _SHARE, "rows": _NAME},
    "mask": {
        "iou": _SHARE, "off": _Number(0.0, 1e30), "outliers": _SHARE, "threshold": _Number(-1e30, 1e30),
    },
    "embedding": {"cosine": _Number(-1.0, 1.0), "length": _Number(0.0, 1e30)},
}  # fmt: skip
_OF_ITEMS = ("max_abs", "max_rel")
_TOLERANCE = (*_OF_ITEMS, "mean_abs", "cosine_min")


@dataclass(frozen=True)
class ComparisonSpec:
    """How one output is compared: `kind` is one of `KINDS`, `given` what replaces the precision's defaults.

    Build it with `from_dict`, which checks; `given` is sorted by name, so equal specifications are equal values.
    """

    kind: str
    given: Tuple[Tuple[str, Any], ...] = ()

    @classmethod
    def from_dict(cls, data: Any, where: str = "outputs") -> "ComparisonSpec":
        """Read `{"compare": KIND, PARAMETER: VALUE, ...}`.

        Raises AgentError (bad-request) with one sentence that begins with `where` and says what to write instead.
        """
        if not isinstance(data, dict) or not all(isinstance(name, str) for name in data):
            raise _bad("%s is %.60r; it must be an object such as {compare: labels}" % (where, data))
        kind = data.get("compare")
        if not isinstance(kind, str) or kind not in KINDS:
            raise _bad("%s.compare is %.60r; it must be one of %s" % (where, kind, ", ".join(KINDS)))
        known = _PARAMETERS[kind]
        for name, value in data.items():
            if name == "compare":
                continue
            if name not in known:
                raise _bad("%s has no %.60r with compare: %s; known are %s" % (where, name, kind, ", ".join(known)))
            problem = known[name].problem(value)
            if problem:
                raise _bad("%s.%s is %.60r; it must be %s" % (where, name, value, problem))
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
        return cls(kind, tuple(sorted((name, value) for name, value in given.items() if name != "compare")))

    def to_dict(self) -> Dict[str, Any]:
        """Return the JSON form, which `from_dict` reads."""
        given = {name: list(value) if isinstance(value, tuple) else value for name, value in self.given}
        return dict({"compare": self.kind}, **given)

    def with_given(self, **more: Any) -> "ComparisonSpec":
        """Return this one with more parameters, checked; what `more` names replaces.  Raises AgentError."""
        return ComparisonSpec.from_dict(dict(self.to_dict(), **more))

    def rule(self, precision: str) -> Rule:
        """Return the kind's rule for one of `PRECISIONS` with the given parameters; KeyError for another precision."""
        return replace(
            DEFAULTS[self.kind][precision], **{name: value for name, value in self.given if name not in _TOLERANCE}
        )

    def tolerance(self, precision: str, expected: Array) -> Tolerance:
        """Return the elementwise tolerance for a reference.

        What is given is final; the defaults scale with its largest magnitude and do not contradict what is given for single
        items (see `in_agreement`).  KeyError for another precision.
        """
        rule, largest = self.rule(precision), peak(expected)
        if isinstance(rule, MaskRule) or (isinstance(rule, TensorRule) and rule.scale == "peak"):
            default = probability_tolerance(precision, largest)
        else:
            default = default_tolerance(precision, largest)
        given = {name: value for name, value in self.given if name in _TOLERANCE}
        of_items = {name: value for name, value in given.items() if name in _OF_ITEMS}
        limits = in_agreement(Tolerance.from_dict(of_items, default), values(expected))
        return Tolerance.from_dict(given, limits)

    def gives(self, name: str) -> bool:
        """Return whether a parameter was given, so that its default does not count."""
        return name in dict(self.given)


TENSOR = ComparisonSpec("tensor")


def _bad(text: str) -> AgentError:
    return AgentError(text, "bad-request")


class ModelComparison(NamedTuple):
    """The specification of each output that has one, by name; `tolerance` holds for all that are compared as tensors."""

    specs: Mapping[str, ComparisonSpec]
    tolerance: Mapping[str, Any]  # some of Tolerance's fields; an output's own specification goes before it

    @classmethod
    def parse(cls, outputs: object = None, tolerance: object = None) -> "ModelComparison":
        """Read the JSON forms: `{NAME: {compare: KIND, ...}}` and a tolerance; None for what is not given.

        Raises AgentError "bad-request".
        """
        if tolerance is not None:
            Tolerance.from_dict(tolerance, default_tolerance("fp32"))  # raises for what is not well formed
        given = {} if outputs is None else outputs
        if not isinstance(given, dict) or len(given) > _MAX_OUTPUTS:
            raise AgentError("outputs must be an object of at most %d entries" % _MAX_OUTPUTS, "bad-request")
        specs: Dict[str, ComparisonSpec] = {}
        for name, data in given.items():
            if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
                raise AgentError("outputs has a name that is not 1 to %d characters" % MAX_NAME, "bad-request")
            specs[name] = ComparisonSpec.from_dict(data, "outputs.%s" % name)
        return cls(specs, dict(tolerance) if isinstance(tolerance, dict) else {})

    def of(self, name: str) -> ComparisonSpec:
        """Return how the output `name` is compared."""
        spec = self.specs.get(name, TENSOR)
        if spec.kind != "tensor" or not self.tolerance:
            return spec
        return spec.with_given(**{key: value for key, value in self.tolerance.items() if not spec.gives(key)})

    def outputs(self) -> Optional[Dict[str, object]]:
        """Return the specifications in their JSON form, None where there is none."""
        return {name: spec.to_dict() for name, spec in self.specs.items()} or None


AS_TENSORS = ModelComparison({}, {})
