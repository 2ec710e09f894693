"""`litefleet trust`: tells devices whom to trust, with a signature by someone whom they trust already."""

from __future__ import annotations

from litefleet_inventory.model import Device

from ..common.errors import UsageError
from ..devices.agent_client import Refused, Request
from ..devices.fan_out import fan_out
from ..devices.outcome import DeviceOutcome, RunReport
from ..devices.visit import Visit, visit
from ..project.project import Options
from ..project.run_fleet import Interrupted, keep_report
from ..signing import TRUST_NAMESPACE
from .context import ProgressFor, open_desk, who
from .status import Stopwatch, interruptible

__all__ = ["spread_trust"]


async def spread_trust(options: Options, progress_for: ProgressFor) -> RunReport:
    """Send the list of trusted signers to the selected devices and return what became of it.

    Raises: UsageError without `signing:`; ConfigError when it is not usable.
    """
    watch = Stopwatch()
    with interruptible("trust", watch), progress_for(0) as progress:
        async with open_desk(options, progress) as desk:
            if desk.signer is None:
                raise UsageError("litefleet.yaml has no `signing:`: name the key and the allowed_signers there")
            await desk.signer.check()
            text = desk.signer.allowed_signers()
            signature = await desk.signer.sign_text(text, TRUST_NAMESPACE)
            request = Request("trust", {"allowed_signers": text, "signature": signature})

            async def work(device: Device) -> list[DeviceOutcome]:
                return await visit(desk.contact, device, [""], lambda here, done: _tell(here, done, request))

            progress.expect(len(desk.project.devices))
            at_once, per_jump = desk.config.ssh.concurrency, desk.config.rollout.per_jump_host
            outcomes, interrupted = await fan_out(desk.project.devices, work, at_once, progress.device_done, per_jump)
            what = {"devices": [o.device for o in outcomes if not o.findings][:500], **desk.origin()}
            await desk.write(desk.state.log, who(), "trusted signers sent", what)
            report = RunReport("trust", watch.stamp, watch.seconds, outcomes)
            keep_report(desk.config, report)
            if interrupted:
                raise Interrupted(report)
            return report


async def _tell(here: Visit, done: list[DeviceOutcome], request: Request) -> None:
    here.step("trust")
    try:
        await here.ask(request)
    except Refused as error:
        done.append(here.outcome("", [*here.notes, error.found]))
    else:
        done.append(here.outcome("", here.notes))
