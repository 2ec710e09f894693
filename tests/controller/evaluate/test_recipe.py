"""A data set's samples are goldens, so they decide a release; its metric and its limits do not."""

from __future__ import annotations

from pathlib import Path

from litefleet_controller.build.releases import ReleaseBuilder
from litefleet_controller.build.toolchain import Toolchains
from litefleet_controller.config import load_config
from PIL import Image

MODEL = "nb: {{x86_64: model.nb}}, golden: {{engine: paddlelite{}}}, preprocess: {{scale: {}}}"


async def recipe(folder: Path, golden: str = "", scale: str = "1/255") -> str:
    (folder / "litefleet.yaml").write_text(f"models: {{m: {{{MODEL.format(golden, scale)}}}}}\n")
    (folder / "model.nb").write_bytes(b"nb")
    builder = ReleaseBuilder(load_config(folder / "litefleet.yaml"), Toolchains(folder), folder, lambda text: None)
    try:
        return await builder.recipe("m")
    finally:
        await builder.close()


async def test_what_of_a_data_set_decides_a_release(tmp_path: Path) -> None:
    for name, color in (("a", "red"), ("b", "blue")):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4), color).save(tmp_path / "set" / name / "1.png")
    data = ", dataset: set, metric: top1"
    plain, measured = await recipe(tmp_path), await recipe(tmp_path, data)
    assert plain != measured
    assert await recipe(tmp_path, data + ", drop: 0.5, samples: 7") == measured
    assert await recipe(tmp_path, data, "1") != measured
    assert await recipe(tmp_path, "", "1") == plain
    Image.new("RGB", (4, 4), "green").save(tmp_path / "set" / "a" / "1.png")
    assert await recipe(tmp_path, data) != measured
