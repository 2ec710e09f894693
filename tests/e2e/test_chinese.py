"""The commands of an operator's day over one real fleet, in Chinese: no English sentence is left, and JSON is unchanged."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from litefleet_controller.demo import EmbeddedFleet
from rich.cells import cell_len

from tests.e2e.conftest import Project
from tests.e2e.rollout_helpers import bad_release, new_release

# Three English words in a row are prose; commands stand in backquotes, what devices said is marked.
PROSE = re.compile(r"\b[a-z]{2,} [a-z]{2,} [a-z]{2,}\b")


def run(job: Project, *args: str, lang: str = "zh", width: int = 80, code: int | None = None) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": str(width), "LITEFLEET_LANG": lang}
    call = [sys.executable, "-m", "litefleet_controller", *args]
    done = subprocess.run(
        call, capture_output=True, text=True, cwd=job.folder, env=environment, stdin=subprocess.DEVNULL, timeout=300
    )
    text = done.stdout + done.stderr
    print(f"$ litefleet {' '.join(args)}   ({done.returncode}, {width})\n{text}\n")
    assert "Traceback" not in text, text
    assert code is None or done.returncode == code, text
    return text


def english(text: str) -> list[str]:
    """Return the lines that hold English prose of ours."""
    left = []
    for line in re.sub(r"设备原文：.*?(—|）\n)", "", text, flags=re.DOTALL).splitlines():
        bare = re.sub(r"`[^`]*`|litefleet [a-z]+.*", "", line)
        if PROSE.search(bare):
            left.append(line)
    return left


@pytest.mark.long
async def test_an_operators_day_in_chinese(
    fleet: Callable[..., EmbeddedFleet], project: Callable[..., Project]
) -> None:
    async with fleet("a", "b", "c") as devices:
        job = project(devices)
        texts = [run(job, "plan", code=0), run(job, "rollout", code=0), run(job, "devices"), run(job, "device", "a")]
        new_release(job, 3)
        bad_release(job, devices.devices["a"].root)
        await devices.kill("c")
        texts += [run(job, "rollout"), run(job, "status", width=40), run(job, "resume", "r-1", code=2)]
        texts += [run(job, "rollback", code=2), run(job, "rollback", "--dry-run", code=0)]
        texts += [run(job, "abort", code=0), run(job, "doctor", "--limit", "c")]
        for text in texts:
            assert re.search(r"[\u4e00-\u9fff]", text), text
        found = [line for text in texts for line in english(text)]
        assert found == [], "\n".join(found)
        assert max(map(cell_len, texts[5].splitlines())) <= 40
        shown = [json.loads(run(job, "status", "--json", lang=lang)) for lang in ("en", "zh")]
        assert {**shown[0], "now": 0} == {**shown[1], "now": 0}
