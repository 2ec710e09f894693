"""`litefleet evaluate` and `litefleet verify`: prove releases on devices with goldens and data sets, without activating them."""

from __future__ import annotations

from dataclasses import replace

from ..build.releases import ReleaseBuilder
from ..common.errors import UsageError
from ..devices.outcome import RunReport
from ..devices.progress import Progress
from ..devices.steps import Evaluator
from ..evaluate.run import Evaluations
from ..project import Options
from ..project.project import Project, open_project
from ..project.run_fleet import ProgressFor, run_fleet


async def evaluator_for(
    project: Project, release_builder: ReleaseBuilder, progress: Progress, again: bool = True
) -> Evaluator | None:
    """Return what measures accuracy in a run, its references made; None where no chosen model has a data set.

    Raises: ConfigError and UsageError for data that cannot be used, before a device is contacted.
    """
    if all(project.config.models[model].golden.dataset is None for model in project.models):
        return None
    evaluations = Evaluations(project, release_builder, progress, again)
    await evaluations.prepare()
    return evaluations


async def verify(options: Options, progress_for: ProgressFor) -> RunReport:
    """Prove each device's models on that device again: goldens, and data sets where there are any.

    Raises: ConfigError and UsageError before a device is contacted; Interrupted after Ctrl-C.
    """
    return await run_fleet("verify", options, progress_for, evaluator_for)


async def evaluate(options: Options, progress_for: ProgressFor) -> RunReport:
    """Do as `verify`, for models with a data set only.

    Raises: ConfigError and UsageError (no chosen model has a data set) before a device is contacted; Interrupted.
    """

    project = open_project(options)
    having = tuple(m for m in project.models if project.config.models[m].golden.dataset is not None)
    lacking = [m for m in project.models if m not in having]
    if not having or (options.models and lacking):
        raise UsageError(
            f"{lacking[0]} has no data set: write `golden: {{dataset: FOLDER, metric: top1}}` under `{lacking[0]}:` "
            "in litefleet.yaml, or choose another model with -m"
        )
    return await run_fleet("evaluate", replace(options, models=having), progress_for, evaluator_for)
