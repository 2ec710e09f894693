"""`litefleet trust`: sends devices the list of trusted signers, signed by one that they trust already."""

from __future__ import annotations

import time

from litefleet_inventory.model import Device

from ..common.errors import UsageError
from ..devices.agent_client import Request, RequestRejected
from ..devices.outcome import DeviceOutcome, Interrupted, RunReport
from ..devices.visit import DeviceSession, open_session
from ..project import Options
from ..project.run_fleet import fan_out
from ..signing.signer import TRUST_NAMESPACE
from .context import ProgressFor, open_context
from .run import Stopwatch, interruptible


async def spread_trust(options: Options, progress_for: ProgressFor, reset_time: bool = False) -> RunReport:
    """Send the list of trusted signers to the selected devices and return their outcomes.

    `reset_time` leads devices back that have accepted a release from a wrong time (see docs/releases.md).
    Raises: UsageError without `signing:`; ConfigError when it is not usable.
    """
    watch = Stopwatch()
    with interruptible("trust", watch), progress_for(0) as progress:
        async with open_context(options, progress) as context:
            if context.signer is None:
                raise UsageError("litefleet.yaml has no `signing:`: name the key and the allowed_signers there")
            await context.signer.check()
            text = context.signer.numbered_signers(context.config.fleet, time.time(), reset_time)
            signature = await context.signer.sign_text(text, TRUST_NAMESPACE)
            request = Request("trust", {"allowed_signers": text, "signature": signature})

            async def work(device: Device) -> list[DeviceOutcome]:
                return await open_session(
                    context.session_factory, device, [""], lambda session, done: _send_signers(session, done, request)
                )

            progress.expect(len(context.project.devices))
            outcomes, interrupted = await fan_out(context.project, context.project.devices, work, progress)
            details = {"devices": [o.device for o in outcomes if not o.findings][:500], **context.origin()}
            await context.write(context.state.log, context.actor, "trusted signers sent", details)
            report = RunReport("trust", watch.stamp, watch.seconds, outcomes)
            report = await context.keep(report)
            if interrupted:
                raise Interrupted(report)
            return report


async def _send_signers(session: DeviceSession, done: list[DeviceOutcome], request: Request) -> None:
    session.step("trust")
    try:
        await session.ask(request)
    except RequestRejected as error:
        done.append(session.outcome("", [*session.notes, error.found]))
    else:
        done.append(session.outcome("", session.notes))
