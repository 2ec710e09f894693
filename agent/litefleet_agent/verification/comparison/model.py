"""How all outputs of one model are compared: what a release says of each, and the tolerance for plain numbers."""

from typing import Any, Dict, Mapping, NamedTuple, Optional

from ...errors import AgentError
from ..compare import Tolerance, default_tolerance
from .spec import MAX_NAME, TENSOR, ComparisonSpec

_MAX_OUTPUTS = 1000


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
