"""`litefleet convert`: converts each model once per architecture, with every check, into the store."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from litefleet_agent.facts.arch import ARCHES
from litefleet_agent.findings import Finding
from litefleet_inventory import load
from litefleet_inventory.checks import as_name
from pydantic import ValidationError

from ..build.conversion.variant import parse_targets
from ..build.releases import ReleaseBuilder
from ..build.toolchain import Toolchains, default_cache
from ..catalogue.articles import advice
from ..catalogue.language import in_lang
from ..catalogue.translate import tr, translated_cell, translated_sentence
from ..catalogue.wrap import padded
from ..common.errors import FindingError, LitefleetError, UsageError
from ..config import Config, load_config
from ..config.choices import arch_of_option
from ..config.model import OptionsConfig, check_targets
from .project import chosen_models


@dataclass(frozen=True)
class ConvertRow:
    """One file that `litefleet convert` made or found in the store, or the findings that prevented it."""

    model: str
    arch: str
    sha256: str
    path: str
    cached: bool
    seconds: float
    findings: tuple[Finding, ...]
    failed: bool

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        found = [f.to_dict() for f in self.findings]
        return {**{k: v for k, v in self.__dict__.items() if k != "findings"}, "findings": found}

    def to_text(self) -> str:
        """Return the lines for a terminal."""
        status = "refused" if self.failed else ("in the store" if self.cached else f"converted in {self.seconds:.1f} s")
        status, colon = translated_cell(status), in_lang(":", "：")
        lines = [f"{self.model}  {self.arch:8}  {status}  {self.sha256[:12]}  {self.path}".rstrip()]
        for found in self.findings:
            lines.append(f"    {found.code} {translated_sentence(found.observed)}")
            why, do = advice(found.code)
            lines += [
                f"          {padded(tr('Why') + colon, 4)} {why}",
                f"          {padded(tr('Do') + colon, 4)} {do}",
            ]
        return "\n".join(lines)


@dataclass(frozen=True)
class ConvertChoice:
    """The command line's options of `litefleet convert`; litefleet.yaml decides about the others."""

    arches: tuple[str, ...] = ()
    targets: str = ""
    fp16: bool = False
    quant: str = ""
    tries: tuple[str, ...] = ()  # Paddle-Lite versions to try when the configured one fails, before those of `also`


async def convert_models(
    config_path: Path, models: tuple[str, ...], choice: ConvertChoice, out: Path | None
) -> list[ConvertRow]:
    """Convert each model for each architecture and return a row for each; `out` receives copies as MODEL-ARCH.nb.

    Raises: FindingError LF102 for two CPU instruction sets in one request; UsageError, ConfigError.
    """
    return await _convert_all(load_config(config_path), models, choice, out)


async def convert_folders(paths: Sequence[Path], choice: ConvertChoice, out: Path | None) -> list[ConvertRow]:
    """Convert source models that belong to no project: folders, or program files; copies go to `out`, else this folder.

    Raises: as `convert_models` does; UsageError for a path that does not exist, and for two models of one name.
    """
    models: dict[str, object] = {}
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist: name a model's folder, or its program file")
        place = path.resolve()
        name = as_name((place if place.is_dir() else place.parent).name) or "model"
        if name in models:
            raise UsageError(f"two models would have the name {name}: convert them one at a time")
        models[name] = {"source": {"folder" if place.is_dir() else "model": place}}
    cache = default_cache()
    value = {"models": models, "store": cache / "converted", "inventory": cache / "no-inventory.yaml"}
    return await _convert_all(Config.model_validate(value), (), choice, out or Path(), goldens=False)


async def _convert_all(
    config: Config, models: tuple[str, ...], choice: ConvertChoice, out: Path | None, goldens: bool = True
) -> list[ConvertRow]:
    targets = parse_targets(choice.targets) if choice.targets else ()
    names = [arch_of_option(a).name for a in choice.arches] or _arches_of(targets) or _expected(config)
    config = _overridden(config, names, ",".join(targets), choice)
    toolchains = Toolchains()
    release_builder = ReleaseBuilder(config, toolchains, default_cache(), lambda text: None)
    rows: list[ConvertRow] = []
    try:
        for model in chosen_models(config, models):
            if config.models[model].outputs:
                with suppress(FindingError):  # an unreadable source is its row's finding
                    await release_builder.meanings(model)  # ConfigError for an output that the model lacks
            made = [await _convert_one(release_builder, model, arch, out) for arch in names]
            if goldens and not all(row.failed for row in made):
                warnings = await _golden_warnings(config, release_builder, model, toolchains)
                made = [row if row.failed else replace(row, findings=(*row.findings, *warnings)) for row in made]
            rows += made
        return rows
    finally:
        await release_builder.close()


async def _golden_warnings(
    config: Config, release_builder: ReleaseBuilder, model: str, toolchains: Toolchains
) -> tuple[Finding, ...]:
    """Return what the model's golden cannot tell (LF425, LF412); () where no reference engine is at hand to make it.

    A golden that cannot be made is no matter of the conversion: `litefleet plan` reports it.
    """
    configured = config.models[model]
    if configured.source is None or configured.golden_spec("").engine != "paddle":
        return ()
    if not (await toolchains.paddle_status()).ready:
        return ()
    try:
        return (await release_builder.judged_golden(model)).findings
    except FindingError as error:
        return tuple(found for found in error.findings if found.code == "LF412")
    except LitefleetError:
        return ()


def _arches_of(targets: tuple[str, ...]) -> list[str]:
    return [{"x86": "x86_64", "arm": "aarch64"}[t] for t in targets if t in ("x86", "arm")]


def _overridden(config: Config, arches: list[str], targets: str, choice: ConvertChoice) -> Config:
    """Return the configuration with the command line's targets and options in every model."""
    changes: dict[str, object] = {}
    try:
        if targets:
            changes["targets"] = {arch: check_targets(arch, targets) for arch in arches}
        if choice.fp16 or choice.quant:
            options = {"fp16": choice.fp16, "quant": choice.quant or "none"}
            changes["options"] = OptionsConfig.model_validate(options)
    except ValueError as error:  # pydantic's ValidationError is one too
        messages = (
            [e["msg"].removeprefix("Value error, ") for e in error.errors()]
            if isinstance(error, ValidationError)
            else []
        )
        raise UsageError("--targets, --fp16, --quant: " + ("; ".join(messages) or str(error))) from error
    tries = tuple(dict.fromkeys([*choice.tries, *config.toolchain.also]))
    toolchain = config.toolchain.model_copy(update={"also": tries})
    models = {name: model.model_copy(update=changes) for name, model in config.models.items()}
    return config.model_copy(update={"models": models, "toolchain": toolchain})


def _expected(config: Config) -> list[str]:
    inventory = config.inventory
    if inventory.path.exists():
        named = {arch_of_option(d.arch).name for d in load(inventory.path, inventory.kind).devices if d.arch}
        if named:
            return sorted(named)
    return ["x86_64", "aarch64"]


async def _convert_one(release_builder: ReleaseBuilder, model: str, arch: str, out: Path | None) -> ConvertRow:
    try:
        made = await release_builder.artifact(model, ARCHES[arch])
    except FindingError as error:
        return ConvertRow(model, arch, "", "", False, 0.0, error.findings, True)
    path = made.path
    if out is not None:
        path = out / f"{model}-{arch}.nb"
        try:
            out.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(made.path, path)
        except OSError as error:
            raise LitefleetError(f"{path} cannot be written: {error.strerror}") from error
    return ConvertRow(model, arch, made.sha256, str(path), made.cached, made.seconds, made.findings, False)
