"""A rollout and a plan read and check the source model once, and take the agent's archive as the last process left it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

from litefleet_controller.demo import EmbeddedFleet

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import rollout

# Runs the command line, then says what it loaded and how often it did what it need do only once or not at all.
PROGRAM = """
import sys
import threading
from collections import Counter
from litefleet_controller.cli import main

called = Counter()

def count(frame, event, argument):
    if event == "call":
        called[frame.f_code.co_name] += 1

sys.setprofile(count)
threading.setprofile(count)
try:
    main()
finally:
    sys.setprofile(None)
    print("read", called["check_source"], "zipped", called["_zipped"], file=sys.stderr)
"""


async def run(job: Project, *words: str) -> str:
    """Return the last line of what a command says, which ends well."""
    command = [sys.executable, "-c", PROGRAM, *words, "-c", "litefleet.yaml"]
    environ = {**os.environ, "LITEFLEET_LANG": "en", "LITEFLEET_CACHE": str(job.folder.parent / "cache")}
    pipe = asyncio.subprocess.PIPE
    begun = await asyncio.create_subprocess_exec(*command, cwd=job.folder, stdout=pipe, stderr=pipe, env=environ)
    out, said = (text.decode() for text in await asyncio.wait_for(begun.communicate(), 120))
    assert begun.returncode == 0, out + said
    return said.splitlines()[-1]


async def test_what_is_ready_is_used(fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]) -> None:
    async with fleet("a") as devices:
        job = project(devices)
        job.policy()
        assert (await rollout(job)).exit_code == 0
        (job.folder.parent / "cache").symlink_to(os.environ["LITEFLEET_CACHE"])
        await run(job, "rollout")  # the archive of these sources may be new to the cache
        assert await run(job, "rollout") == "read 1 zipped 0"
    assert await run(job, "plan", "--offline") == "read 1 zipped 0"
