"""Several Paddle-Lite versions: the real converters, one after the other, and their runtimes against one golden."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from litefleet_agent.facts.arch import ARCHES
from litefleet_agent.findings import Severity
from litefleet_agent.formats.engine_settings import NOTHING_ASKED
from litefleet_controller.build.artifacts import ArtifactStore
from litefleet_controller.build.conversion.convert import convert_with_any
from litefleet_controller.build.conversion.preflight import Source, load_source
from litefleet_controller.build.conversion.variant import Variant, make_variant
from litefleet_controller.build.releases import Limits, ReleaseBuilder
from litefleet_controller.build.toolchain import Toolchain, Toolchains
from litefleet_controller.common.errors import FindingError, LitefleetError
from litefleet_controller.config import Config, load_config
from litefleet_controller.project.convert_models import ConvertChoice, convert_models

from tests.conftest import CACHE

pytestmark = pytest.mark.toolchain


@pytest.fixture(scope="module")
def rec(models: dict[str, Path]) -> Source:
    return load_source(models["rec"])


class Broken:
    """Real converters but for one version, which is unavailable, or which ends as the script says."""

    def __init__(self, real: Toolchains, version: str, script: Path | None = None) -> None:
        self.real, self.version, self.script = real, version, script

    async def lite(self, version: str) -> Toolchain:
        if version != self.version:
            return await self.real.lite(version)
        if self.script is None:
            raise LitefleetError(f"no wheel of {version}")
        return Toolchain(version, Path(sys.executable), self.script)


async def test_the_next_version_is_asked_and_all_is_reported(
    rec: Source, toolchains: Toolchains, store: ArtifactStore
) -> None:
    received: list[Variant] = []
    old = make_variant(rec.sha256, "x86", opt_version="2.10")
    made = await convert_with_any(rec, old, ["2.13rc0", "2.12"], toolchains, store, say=received.append)
    assert made.variant is not None
    assert (made.variant.opt_version, made.nb.opt_version) == ("2.13rc0", "v2.13-rc")
    assert [v.opt_version for v in received] == ["2.10", "2.13rc0"]
    assert [(f.code, f.severity) for f in made.findings] == [("LF211", Severity.NOTE)]
    assert "2.10 reported LF206" in made.findings[0].observed
    assert "matmul_v2" in made.findings[0].observed
    again = await convert_with_any(rec, old, ["2.13rc0"], toolchains, store)
    assert (again.cached, again.sha256, again.findings) == (True, made.sha256, made.findings)


async def test_where_the_first_converts_nobody_else_is_asked(
    rec: Source, toolchains: Toolchains, store: ArtifactStore
) -> None:
    only = Broken(toolchains, "2.12")
    made = await convert_with_any(rec, make_variant(rec.sha256, "x86"), ["2.12"], only, store)
    assert made.findings == ()


async def test_where_none_converts_every_word_is_kept(
    rec: Source, toolchains: Toolchains, store: ArtifactStore, tmp_path: Path
) -> None:
    crash = tmp_path / "opt.py"
    crash.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    old = make_variant(rec.sha256, "x86", opt_version="2.10")
    with pytest.raises(FindingError) as caught:
        await convert_with_any(rec, old, ["2.12", "2.13rc0"], _Two(toolchains, crash), store)
    reported = [(f.code, f.observed) for f in caught.value.findings]
    assert [code for code, _ in reported] == ["LF206", "LF205", "LF205", "LF204"]
    assert "SIGSEGV" in reported[1][1]
    assert "2.13rc0's converter is unavailable: no wheel" in reported[2][1]
    assert "dropout without the attribute fix_seed" in reported[3][1]


class _Two(Broken):
    """2.12 crashes, 2.13rc0 is unavailable."""

    def __init__(self, real: Toolchains, script: Path) -> None:
        super().__init__(real, "2.12", script)

    async def lite(self, version: str) -> Toolchain:
        if version == "2.13rc0":
            raise LitefleetError(f"no wheel of {version}")
        return await super().lite(version)


async def test_a_first_version_that_is_unavailable_is_an_internal_error(
    rec: Source, toolchains: Toolchains, store: ArtifactStore
) -> None:
    with pytest.raises(LitefleetError, match="no wheel"):
        await convert_with_any(rec, make_variant(rec.sha256, "x86"), ["2.12"], Broken(toolchains, "2.13rc0"), store)


def project(folder: Path, models: dict[str, Path], toolchain: str) -> Config:
    text = (
        f"store: store\ntoolchain: {toolchain}\nmodels:\n"
        f"  rec: {{source: {models['rec']}, inputs: {{x: [1, 3, 48, 64]}}, golden: {{engine: paddlelite}}}}\n"
    )
    (folder / "litefleet.yaml").write_text(text)
    return load_config(folder / "litefleet.yaml")


async def test_supply_takes_it_and_release_and_recipe_say_so(
    tmp_path: Path, models: dict[str, Path], toolchains: Toolchains
) -> None:
    output: list[str] = []
    config = project(tmp_path, models, "{paddlelite: 2.10, also: [2.13rc0]}")
    assert config.toolchain.also == ("2.13rc0",)
    release_builder = ReleaseBuilder(config, toolchains, tmp_path / "cache", output.append)
    try:
        made = await release_builder.artifact("rec", ARCHES["x86_64"])
        golden = await release_builder.goldens("rec")
        recipe = await release_builder.recipe("rec")
    finally:
        await release_builder.close()
    assert made.variant is not None
    assert made.variant.opt_version == "2.13rc0"
    limits = Limits((), None, False)
    manifest = release_builder._manifest("rec", made, (), "system", limits, NOTHING_ASKED)
    assert manifest["model"]["variant"]["opt_version"] == "2.13rc0"
    assert len(golden) == 2  # by the version that made the file: 2.10 could not have run it
    assert output[:2] == ["converting rec for x86", "converting rec for x86 with Paddle-Lite 2.13rc0"]
    alone = ReleaseBuilder(
        project(tmp_path, models, "{paddlelite: 2.10}"), toolchains, tmp_path / "cache", output.append
    )
    assert await alone.recipe("rec") != recipe
    await alone.close()


def test_versions_are_read_as_written(tmp_path: Path, models: dict[str, Path]) -> None:
    assert project(tmp_path, models, "{also: [2.10, 2.12]}").toolchain.also == ("2.10", "2.12")
    assert project(tmp_path, models, "{}").toolchain.also == ()


async def test_convert_asks_what_try_names(
    tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITEFLEET_CACHE", str(CACHE / "toolchains"))
    project(tmp_path, models, "{paddlelite: 2.10}")
    path = tmp_path / "litefleet.yaml"
    assert yaml.safe_load(path.read_text())["toolchain"] == {"paddlelite": 2.1}
    refused = await convert_models(path, ("rec",), ConvertChoice(("x86_64",)), None)
    assert (refused[0].failed, refused[0].findings[0].code) == (True, "LF206")
    made = await convert_models(path, ("rec",), ConvertChoice(("x86_64",), tries=("2.12",)), tmp_path / "out")
    assert (made[0].failed, made[0].findings[0].code) == (False, "LF211")
    assert (tmp_path / "out" / "rec-x86_64.nb").read_bytes()[2:7] == b"v2.12"
