"""litefleet's public Python API: open a project, plan, roll out, verify, infer, inspect.

    import litefleet

    project = litefleet.open_project("litefleet.yaml", limit="hall")
    print(litefleet.plan(project).to_dict())
    report = litefleet.rollout(project)
    print(report.exit_code, [(o.device, o.verdict.value, o.sentence) for o in report.outcomes])

Names are imported when they are first used, so `import litefleet` loads nothing else. What is listed in `__all__` keeps its
name and its meaning from version to version; every other module of the project may change.

All functions block until they are done; in an asyncio program, run them with `asyncio.to_thread`. `Inference` is asynchronous.
Times are seconds, sizes are bytes, latencies are milliseconds. Each error is a `LitefleetError` whose
text contains the remedy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litefleet_agent.findings import Finding, Severity, Verdict
    from litefleet_controller import __version__
    from litefleet_controller.build.golden.pictures import prepare, read_picture
    from litefleet_controller.common.errors import ConfigError, LitefleetError, UsageError
    from litefleet_controller.config.preprocess import PreprocessConfig
    from litefleet_controller.devices.outcome import DeviceOutcome, Interrupted, RunReport
    from litefleet_controller.devices.progress import Progress, QuietProgress
    from litefleet_controller.evaluate.figures import Accuracy, ClassAccuracy, accuracy_of
    from litefleet_controller.infer.cases import Case
    from litefleet_controller.infer.infer import Inference
    from litefleet_controller.infer.report import CaseAnswer, DeviceAnswer
    from litefleet_controller.inspection.model import Inspection
    from litefleet_controller.project.project import Project
    from litefleet_controller.rollout_engine.plan import Plan, PlannedDevice

    from .api import RolloutStatus, evaluate, inspect, open_project, plan, rollout, status, verify

__all__ = [
    "Accuracy",
    "Case",
    "CaseAnswer",
    "ClassAccuracy",
    "ConfigError",
    "DeviceAnswer",
    "DeviceOutcome",
    "Finding",
    "Inference",
    "Inspection",
    "Interrupted",
    "LitefleetError",
    "Plan",
    "PlannedDevice",
    "PreprocessConfig",
    "Progress",
    "Project",
    "QuietProgress",
    "RolloutStatus",
    "RunReport",
    "Severity",
    "UsageError",
    "Verdict",
    "__version__",
    "accuracy_of",
    "evaluate",
    "inspect",
    "open_project",
    "plan",
    "prepare",
    "read_picture",
    "rollout",
    "status",
    "verify",
]

_CONTROLLER = "litefleet_controller."
# the module that defines each public name
_MODULES = {
    **dict.fromkeys(
        ("RolloutStatus", "evaluate", "inspect", "open_project", "plan", "rollout", "status", "verify"), "litefleet.api"
    ),
    **dict.fromkeys(("Finding", "Severity", "Verdict"), "litefleet_agent.findings"),
    **dict.fromkeys(("ConfigError", "LitefleetError", "UsageError"), _CONTROLLER + "common.errors"),
    **dict.fromkeys(("DeviceOutcome", "Interrupted", "RunReport"), _CONTROLLER + "devices.outcome"),
    **dict.fromkeys(("Progress", "QuietProgress"), _CONTROLLER + "devices.progress"),
    **dict.fromkeys(("CaseAnswer", "DeviceAnswer"), _CONTROLLER + "infer.report"),
    **dict.fromkeys(("Accuracy", "ClassAccuracy", "accuracy_of"), _CONTROLLER + "evaluate.figures"),
    **dict.fromkeys(("prepare", "read_picture"), _CONTROLLER + "build.golden.pictures"),
    **dict.fromkeys(("Plan", "PlannedDevice"), _CONTROLLER + "rollout_engine.plan"),
    "__version__": "litefleet_controller",
    "Case": _CONTROLLER + "infer.cases",
    "Inference": _CONTROLLER + "infer.infer",
    "Inspection": _CONTROLLER + "inspection.model",
    "PreprocessConfig": _CONTROLLER + "config.preprocess",
    "Project": _CONTROLLER + "project.project",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'litefleet' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
