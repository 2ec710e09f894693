"""litefleet's public Python API: open a project, plan, roll out, decide, verify, infer, inspect.

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
    from litefleet_controller.common.operator import acting_as
    from litefleet_controller.config.preprocess import PreprocessConfig
    from litefleet_controller.devices.outcome import DeviceOutcome, Interrupted, RunReport
    from litefleet_controller.devices.progress import Progress, QuietProgress
    from litefleet_controller.evaluate.figures import Accuracy, ClassAccuracy, accuracy_of
    from litefleet_controller.infer.cases import Case
    from litefleet_controller.infer.infer import Inference
    from litefleet_controller.infer.report import CaseAnswer, DeviceAnswer
    from litefleet_controller.inspection.model import Inspection
    from litefleet_controller.operations.device_records import DeviceRecord, DeviceStory
    from litefleet_controller.operations.find import RolloutStatus
    from litefleet_controller.operations.host_key import ShownKey
    from litefleet_controller.operations.model_records import ModelRecord, ModelStory
    from litefleet_controller.operations.rollback import RollbackPlan
    from litefleet_controller.project.project import Project
    from litefleet_controller.rollout_engine.plan import Plan, PlannedDevice

    from .api import evaluate, inspect, open_project, plan, rollout, status, verify
    from .calls import Stopper
    from .decisions import abort, approve, pause, plan_rollback, resume, retry, rollback
    from .records import (
        accept_key,
        audit,
        device,
        devices,
        forget,
        history,
        known_models,
        model,
        report,
        reports,
        rollouts,
        shown_key,
        what_is_stored,
    )
    from .remote import RemoteKey, RemoteModel, RemotePlan, RemoteProject, RemoteRollback

__all__ = [
    "Accuracy",
    "Case",
    "CaseAnswer",
    "ClassAccuracy",
    "ConfigError",
    "DeviceAnswer",
    "DeviceOutcome",
    "DeviceRecord",
    "DeviceStory",
    "Finding",
    "Inference",
    "Inspection",
    "Interrupted",
    "LitefleetError",
    "ModelRecord",
    "ModelStory",
    "Plan",
    "PlannedDevice",
    "PreprocessConfig",
    "Progress",
    "Project",
    "QuietProgress",
    "RemoteKey",
    "RemoteModel",
    "RemotePlan",
    "RemoteProject",
    "RemoteRollback",
    "RollbackPlan",
    "RolloutStatus",
    "RunReport",
    "Severity",
    "ShownKey",
    "Stopper",
    "UsageError",
    "Verdict",
    "__version__",
    "abort",
    "accept_key",
    "accuracy_of",
    "acting_as",
    "approve",
    "audit",
    "device",
    "devices",
    "evaluate",
    "forget",
    "history",
    "inspect",
    "known_models",
    "model",
    "open_project",
    "pause",
    "plan",
    "plan_rollback",
    "prepare",
    "read_picture",
    "report",
    "reports",
    "resume",
    "retry",
    "rollback",
    "rollout",
    "rollouts",
    "shown_key",
    "status",
    "verify",
    "what_is_stored",
]

_CONTROLLER = "litefleet_controller."
# the module that defines each public name
_MODULES = {
    **dict.fromkeys(("evaluate", "inspect", "open_project", "plan", "rollout", "status", "verify"), "litefleet.api"),
    **dict.fromkeys(
        ("abort", "approve", "pause", "plan_rollback", "resume", "retry", "rollback"), "litefleet.decisions"
    ),
    **dict.fromkeys(
        ("accept_key", "audit", "device", "devices", "forget", "history", "report", "reports", "rollouts"),
        "litefleet.records",
    ),
    **dict.fromkeys(("known_models", "model", "shown_key", "what_is_stored"), "litefleet.records"),
    **dict.fromkeys(("RemoteKey", "RemoteModel", "RemotePlan", "RemoteProject", "RemoteRollback"), "litefleet.remote"),
    **dict.fromkeys(("DeviceRecord", "DeviceStory"), _CONTROLLER + "operations.device_records"),
    **dict.fromkeys(("ModelRecord", "ModelStory"), _CONTROLLER + "operations.model_records"),
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
    "RollbackPlan": _CONTROLLER + "operations.rollback",
    "RolloutStatus": _CONTROLLER + "operations.find",
    "ShownKey": _CONTROLLER + "operations.host_key",
    "Stopper": "litefleet.calls",
    "acting_as": _CONTROLLER + "common.operator",
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
