"""Takes the pictures of docs/dashboard.md: a real server over an embedded fleet, a rollout that its first wave stopped.

python -m bench.screenshots [FOLDER]      # writes dashboard-*.png, by default into docs/pictures
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from tests.conftest import lite_environment, source_models
from tests.e2e.rollout_helpers import bad_release
from tests.e2e.serve.dashboard import CHROMIUM, Dashboard, demo_fleet, serving

_LARGEST = 150_000  # bytes of one picture


@dataclass(frozen=True)
class Shot:
    """One picture: what is visited, by which browser."""

    name: str
    path: str
    width: int = 1120
    height: int = 700
    theme: str = "light"
    lang: str = "en"


def shots(ident: str) -> tuple[Shot, ...]:
    """Return the pictures; `ident` is the rollout that was stopped."""
    return (
        Shot("fleet", "/"),
        Shot("rollout", f"/rollouts/{ident}", height=980),
        Shot("device-dark", "/devices/cam-1", height=820, theme="dark"),
        Shot("model", "/models/cls", height=760),
        Shot("model-zh", "/models/cls", height=760, lang="zh"),
        Shot("rollout-zh", f"/rollouts/{ident}", height=980, lang="zh"),
        Shot("fleet-zh", "/", lang="zh"),
        Shot("device-dark-zh", "/devices/cam-1", height=820, theme="dark", lang="zh"),
        Shot("phone", "/", width=390, height=844),
        Shot("phone-zh", "/", width=390, height=844, lang="zh"),
    )


def take(browser: Browser, board: Dashboard, shot: Shot, folder: Path) -> Path:
    """Take one picture."""
    context = browser.new_context(
        viewport={"width": shot.width, "height": shot.height},
        color_scheme="dark" if shot.theme == "dark" else "light",
        locale="en-US",
    )
    page = context.new_page()
    page.goto(f"{board.address}/login")
    page.fill("input[name=token]", board.tokens["admin"])
    page.click("button")
    page.goto(f"{board.address}{shot.path}?lang={shot.lang}")
    path = folder / f"dashboard-{shot.name}.png"
    page.screenshot(path=path)
    context.close()
    with Image.open(path) as picture:
        picture.convert("RGB").save(path, optimize=True)
    if path.stat().st_size > _LARGEST:
        raise SystemExit(f"{path} has {path.stat().st_size} bytes, more than {_LARGEST}")
    return path


def main(folder: Path) -> None:
    """Start the fleet, stop a rollout by its canary gate, and take all pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as base,
        demo_fleet(Path(base), lite_environment(), source_models()) as (job, fleet),
    ):
        bad_release(job, fleet.devices["cam-1"].root)
        job.config(rollout={"waves": [1, "50%", "100%"], "gates": {"canary": {"count": 1}}})
        with serving(job, fleet) as board, sync_playwright() as playwright:
            board.command("rollout", code=3)
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            ident = board.command("status", "--json", code=None).split('"id": "')[1].split('"')[0]
            for shot in shots(ident):
                print(take(browser, board, shot, folder))
            browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures"))
