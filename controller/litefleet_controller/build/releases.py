"""Builds releases: the .nb, goldens and runtime for each kind of device, each of them once per run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from litefleet_agent.facts import Disk, Facts, Memory
from litefleet_agent.facts.arch import ARCHES, Arch
from litefleet_agent.findings import Finding
from litefleet_agent.findings.model_file import check_file
from litefleet_agent.formats.engine_settings import EngineSettings
from litefleet_agent.releases.store import release_id
from litefleet_agent.verification.comparison import TENSOR
from litefleet_agent.verification.golden_cases import precision_of
from litefleet_inventory.model import Device

from ..common.errors import FindingError, LitefleetError, UsageError, findings_of
from ..common.files import expanded, sha256_of
from ..config import Config
from ..config.choices import GoldenSpec, RuntimeChoice
from ..config.model import DataSetFields
from ..config.runtimes import RuntimeConfig
from ..devices.deliver import is_special, kind_of
from ..devices.release import Release
from .artifacts import ArtifactStore
from .conversion.convert import Artifact, admit, convert_with_any
from .conversion.params import ParamsError
from .conversion.preflight import Source, find_source, load_source
from .conversion.program import read_program
from .conversion.variant import Variant, make_variant
from .golden.dataset import read_dataset
from .golden.files import LOD, Array, Tensor
from .golden.judged import JudgedGolden, Reference, findings_at, judged_golden
from .golden.make import make_golden, run_reference
from .golden.meaning import OutputMeaning, by_position, data_set_decides, meanings_of, with_fp16_weights
from .golden.perturb import is_rounded_to_fp16
from .runtimes.build import Bundle, build_bundle
from .runtimes.choose import (
    ChosenRuntime,
    choose_runtime,
    errors_beforehand,
    falls_back_to_own,
    is_named,
    told_beforehand,
)
from .runtimes.compatibility import DeviceKind
from .toolchain import Toolchains

_T = TypeVar("_T")
_CONVERSIONS_AT_ONCE = 2
_SAMPLES_AS_CASES = 4  # of a data set, by default: real inputs of several classes, which seldom need more
# What a model's configuration says of its version, inputs and accuracy changes no release.
_NOT_IN_RELEASES: Any = {
    "version": True,
    "source": True,
    "nb": True,
    "preprocess": True,
    "golden": set(DataSetFields.model_fields),
}

# The tolerance of goldens for a file of reduced precision whose model has a data set: finite, and alike in direction.
_DATA_SET_DECIDES = {"max_abs": 1e30, "max_rel": 1e30, "mean_abs": 1e30, "cosine_min": 0.9}


@dataclass(frozen=True)
class Limits:
    """How a file's outputs are compared with its goldens, for a release and for advice alike.

    `tolerance` is None for the precision's own; with `data_set_decides` both bound hardly more than that numbers are finite.
    """

    meanings: tuple[OutputMeaning, ...]
    tolerance: dict[str, float] | None
    data_set_decides: bool

    def outputs(self) -> dict[str, dict[str, Any]]:
        """Return the form of manifests and requests, without outputs that are compared as tensors."""
        return {one.name: one.spec.to_dict() for one in self.meanings if one.spec != TENSOR}


class ReleaseBuilder:
    """Builds what a run's devices need; each part is built once, when the first device needs it."""

    def __init__(self, config: Config, toolchains: Toolchains, cache: Path, say: Callable[[str], None]) -> None:
        self._config = config
        self._toolchains = toolchains
        self._cache = cache
        self._log = say
        self._store = ArtifactStore(config.store / "artifacts")
        self._made: dict[Hashable, asyncio.Task[Any]] = {}
        self._converting = asyncio.Semaphore(_CONVERSIONS_AT_ONCE)

    async def release_for(self, model: str, device: Device, facts: Facts) -> Release:
        """Return the release of `model` for this device.

        Raises: FindingError when no release can be built for the device, with the code of the error that prevented it.
        """
        # All that a release depends on: what differs between devices of one kind decides nothing here.
        kind = facts._replace(hostname="", memory=Memory(), disk=Disk())
        key = ("release", model, device.artifact, device.runtime, kind)
        try:
            return await self._once(key, lambda: self._release_for(model, device, kind))
        except LitefleetError as error:
            raise FindingError(findings_of(error)) from error

    async def _release_for(self, model: str, device: Device, facts: Facts) -> Release:
        arch = ARCHES[facts.arch]
        if self._config.models[model].golden.files and self._config.models[model].source is not None:
            await self.judged_golden(model)  # a golden that does not fit is reported before anything is converted
        artifact = await self.artifact(model, arch, device.artifact)
        features = frozenset(facts.cpu.features) or None  # None: unknown
        findings = list(dict.fromkeys([*artifact.findings, *check_file(artifact.nb, arch, features)]))
        if any(f.decides for f in findings):
            return Release(artifact=artifact.sha256, findings=tuple(findings))
        engine = self._config.models[model].engine.for_arch(arch.name)
        bundle, chosen = await self._runtime(device, facts, artifact, engine)
        if unfit := errors_beforehand(artifact.nb, facts, bundle.runtime, engine):
            return Release(artifact=artifact.sha256, findings=(*unfit, *findings))
        if is_named(self._config, device, facts.arch):
            findings = [_with_named_runtime(found, artifact) for found in findings]
        judged = await self.judged_golden(model)
        golden = {await self._hash(path): path for path in judged.paths}
        limits = await self.limits(model, artifact)
        noticed = judged.findings
        if _is_reduced(artifact) and not limits.data_set_decides:
            noticed = noticed or await self._told_at(model, precision_of(artifact.nb), judged.paths)
        findings += told_beforehand(artifact.nb, facts, bundle.runtime, engine)
        manifest = self._manifest(model, artifact, tuple(golden), bundle.key, limits, engine)
        return Release(
            id=release_id(manifest),
            model=model,
            kind=kind_of(facts),
            manifest=manifest,
            artifact=artifact.sha256,
            blobs={artifact.sha256: artifact.path, **golden},
            runtime_key=bundle.key,
            runtime_blob=(bundle.sha256, bundle.path) if bundle.path else None,
            runtime_size=bundle.unpacked_size,
            findings=(*findings, *noticed),
            outputs=tuple(one.to_dict() for one in limits.meanings),
            golden=judged.sentence,
            golden_power=judged.record,
            no_runtime=chosen.refusals,
            runtime_words=chosen.why,
            recipe=await self.recipe(model),
            special=is_special(device) or chosen.one_of > 1,  # another of its kind may have another libstdc++
            version=self._config.models[model].version,
        )

    async def artifact(self, model: str, arch: Arch, ready: str = "") -> Artifact:
        """Return the .nb of `model` for `arch`: the file `ready` as it is, the configured one, or a conversion."""
        given = expanded(ready) if ready else self._config.models[model].nb.get(arch.name)
        if given is not None:
            path = self._config.inventory.path.parent / given if ready else given
            return await self._once(("nb", path), lambda: asyncio.to_thread(admit, path, self._store))
        source = await self.source(model)
        if source is None:
            observed = f"litefleet.yaml has no .nb of {model} for {arch.name}, and no source to convert from"
            raise FindingError.of("LF201", observed)
        configured = self._config.models[model]
        options = configured.options.for_arch(arch.name)
        variant = make_variant(
            source.sha256,
            configured.targets.get(arch.name, arch.target),
            fp16=options.fp16,
            quant="" if options.quant == "none" else options.quant,
            opt_version=self._config.toolchain.paddlelite,
        )

        async def make() -> Artifact:
            async with self._converting:
                also = self._config.toolchain.also
                return await convert_with_any(source, variant, also, self._toolchains, self._store, say=log_candidate)

        def log_candidate(candidate: Variant) -> None:
            with_version = "" if candidate == variant else f" with Paddle-Lite {candidate.opt_version}"
            self._log(f"converting {model} for {variant.label}{with_version}")

        return await self._once(("convert", variant), make)

    async def source(self, model: str) -> Source | None:
        """Return the model's source, read once; None when the configuration has ready-made files only."""
        source = self._config.models[model].source
        if source is None:
            return None
        path = source.folder or source.model
        assert path is not None  # the configuration holds one of the two
        return await self._once(("source", model), lambda: asyncio.to_thread(load_source, path, source.params))

    async def goldens(self, model: str) -> tuple[Path, ...]:
        """Return the model's golden cases, one .npz each.  Raises: FindingError, LitefleetError as `make_golden` does."""
        return (await self.judged_golden(model)).paths

    async def limits(self, model: str, artifact: Artifact) -> Limits:
        """Return how the outputs of a file of this model are compared.  Raises: as `judged_golden` and `meanings`."""
        configured, reduced = self._config.models[model], _is_reduced(artifact)
        meanings = by_position(await self.meanings(model), [tensor.name for tensor in artifact.nb.outputs])
        given = configured.tolerance.model_dump(exclude_none=True) or None
        if reduced and configured.golden.dataset is not None:
            return Limits(data_set_decides(meanings), given or dict(_DATA_SET_DECIDES), True)
        if not reduced and await self._weights_are_rounded(model):
            paths = await self.goldens(model)
            meanings = await asyncio.to_thread(with_fp16_weights, meanings, paths)
        return Limits(meanings, given, False)

    async def _told_at(self, model: str, precision: str, golden: Sequence[Path]) -> tuple[Finding, ...]:
        """Return the warning about a golden that tells nothing at a file's precision."""
        specs, inputs = {one.name: one.spec for one in await self.meanings(model)}, await self._input_names(model)
        return await self._once(
            ("told", model, precision), lambda: asyncio.to_thread(findings_at, precision, golden, specs, inputs)
        )

    async def _input_names(self, model: str) -> list[str]:
        """Return the names of the arrays of a golden that are inputs."""
        inputs, _ = await self.tensors(model)
        return [name for tensor in inputs for name in (tensor.name, tensor.name + LOD)]

    async def _weights_are_rounded(self, model: str) -> bool:
        """Return whether the source's weights were rounded to fp16 and the golden, which a user gave, may not be of them."""
        source = await self.source(model)
        if source is None or not self._config.models[model].golden.files:
            return False

        def examine() -> bool:
            try:
                with source.params.reader() as reader:
                    return is_rounded_to_fp16(read_program(source.program), reader)
            except ParamsError:
                return False

        return await self._once(("rounded", model), lambda: asyncio.to_thread(examine))

    async def _pair(self, model: str) -> tuple[Path, Path]:
        """Return the program's and the combined parameters' paths; a model with a file per parameter gets combined copies."""
        configured, source = self._config.models[model].source, await self.source(model)
        assert configured is not None  # callers have a source
        assert source is not None
        if configured.model is not None and configured.params is not None and configured.params.is_file():
            return configured.model, configured.params
        files = find_source(configured.folder or configured.model or Path())
        if files.params.is_file():
            return files
        folder = self._config.store / "sources" / source.sha256[:32]
        paths = folder / "inference.pdmodel", folder / "inference.pdiparams"
        await asyncio.to_thread(source.write_pair, *paths)
        return paths

    async def judged_golden(self, model: str) -> JudgedGolden:
        """Return the model's golden and its power, made once.  Raises: as `make_golden` and `judged_golden` do."""
        return await self._once(("golden", model), lambda: self._judged_golden(model))

    async def meanings(self, model: str) -> tuple[OutputMeaning, ...]:
        """Return how each output is compared, by the source model's names.  Raises: ConfigError for a wrong name."""

        async def make() -> tuple[OutputMeaning, ...]:
            configured, source = self._config.models[model], await self.source(model)
            _, outputs = await self.tensors(model)
            program = None if source is None else await asyncio.to_thread(read_program, source.program)
            return meanings_of(
                model, outputs, program, configured.outputs, configured.tolerance.model_dump(exclude_none=True)
            )

        return await self._once(("meanings", model), make)

    async def _judged_golden(self, model: str) -> JudgedGolden:
        """Make the golden, measure its power, and make more cases while they help."""
        spec = await self._golden_spec(model)
        source = await self.source(model)
        reference = None
        if source is not None and spec.engine == "paddle":
            program, params = await self._pair(model)
            reference = Reference(program, params, read_program(source.program), self._toolchains)
        return await judged_golden(
            lambda cases: self._make_golden(model, cases),
            spec.cases,
            {one.name: one.spec for one in await self.meanings(model)},
            await self._input_names(model),
            reference,
            self._config.store / "goldens",
            # the files that a user names are what is compared
            more=not self._config.models[model].golden.files and not self._config.models[model].golden.inputs,
            refuse=spec.refuse,
        )

    async def _golden_spec(self, model: str, cases: int = 0) -> GoldenSpec:
        """Return how a model's golden of `cases` cases is made, of the configured number for 0.

        Samples of a data set are the inputs where no others are named.  Raises: ConfigError as `read_dataset`.
        """
        golden = self._config.models[model].golden
        spec = self._config.models[model].golden_spec(self._config.toolchain.paddlelite)
        spec = replace(spec, cases=cases or spec.cases)
        data = golden.accuracy_spec()
        if data is None or golden.files or golden.inputs:
            return spec
        if not cases and "cases" not in golden.model_fields_set:
            spec = replace(spec, cases=_SAMPLES_AS_CASES)
        found = await self._once(("data set", model), lambda: asyncio.to_thread(read_dataset, data, model))
        return replace(spec, own=found.spread(spec.cases))

    async def _make_golden(self, model: str, cases: int) -> tuple[Path, ...]:
        spec = await self._golden_spec(model, cases)
        source = await self.source(model)
        nb = None
        if spec.engine == "paddlelite":
            nb, version = await self._lite_reference(model)
            spec = replace(spec, paddlelite=version)
        program, params = await self._pair(model) if source is not None else (Path(), Path())
        inputs, outputs = await self.tensors(model)
        if spec.engine != "files":
            self._log(
                f"making golden outputs of {model} with {'PaddlePaddle' if spec.engine == 'paddle' else 'Paddle-Lite'}"
            )
        return await make_golden(
            program,
            params,
            inputs,
            spec,
            self._toolchains,
            self._config.store / "goldens",
            outputs=outputs,
            nb=nb,
            model=model,
            vocabularies=source.facts.vocabularies if source is not None else None,
        )

    async def tensors(self, model: str) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the model's inputs and outputs as its source declares them, or one of its .nb files."""
        source = await self.source(model)
        if source is not None:
            return source.facts.inputs, source.facts.outputs
        made = await self.artifact(model, ARCHES[next(iter(self._config.models[model].nb))])
        return made.nb.inputs, made.nb.outputs

    async def reference(
        self, model: str, given: Sequence[Mapping[str, Array]]
    ) -> tuple[str, Sequence[Mapping[str, Array]]]:
        """Return (the reference engine's name, its outputs for each of these inputs).

        The engine is the one that makes the model's goldens.

        Raises: LitefleetError when it fails, UsageError when the model has no source for it.
        """
        configured = self._config.models[model]
        if configured.golden_spec("").engine == "paddlelite":
            nb, version = await self._lite_reference(model)
            return await run_reference([nb], given, self._toolchains, version)
        await self.reference_identity(model)
        return await run_reference(await self._pair(model), given, self._toolchains)

    async def reference_identity(self, model: str) -> tuple[str, str]:
        """Return (the reference engine's name and version, the SHA-256 of the model that it runs).  Raises: as `reference`."""
        if self._config.models[model].golden_spec("").engine == "paddlelite":
            nb, version = await self._lite_reference(model)
            return f"Paddle-Lite {version}", await self._hash(nb)
        source = await self.source(model)
        if source is None:
            raise UsageError(f"{model} has no `source:`, so PaddlePaddle has nothing to run as a reference")
        return f"PaddlePaddle {await self._toolchains.paddle_version()}", source.sha256

    async def _lite_reference(self, model: str) -> tuple[Path, str]:
        """Return the x86_64 .nb that Paddle-Lite runs on this machine, and the version that converted it."""
        made = await self.artifact(model, ARCHES["x86_64"])
        return made.path, made.variant.opt_version if made.variant else self._config.toolchain.paddlelite

    async def _runtime(
        self, device: Device, facts: Facts, artifact: Artifact, engine: EngineSettings
    ) -> tuple[Bundle, ChosenRuntime]:
        """Return (the runtime, how it was chosen): the device's own, with refusals, when none is named and no wheel fits."""
        # File and runtime are of one version: some files of 2.12 end the process on the runtime of 2.13rc0.
        published = artifact.variant.opt_version if artifact.variant else ""
        chosen = await asyncio.to_thread(
            choose_runtime, self._config, device, facts, artifact.nb, self._cache, published, engine
        )
        try:
            if chosen.refusals:
                raise FindingError(chosen.refusals)
            return await self._bundle(chosen.choice, DeviceKind.of(facts)), chosen
        except FindingError as error:
            if not falls_back_to_own(self._config, device, facts.arch, error.findings):
                raise
            own = await build_bundle(RuntimeChoice("system"), DeviceKind.of(facts), self._cache)
            return own, ChosenRuntime(RuntimeChoice("system"), error.findings)

    async def _bundle(self, choice: RuntimeChoice, kind: DeviceKind) -> Bundle:
        async def make() -> Bundle:
            if choice.kind != "system":
                self._log(
                    f"preparing the runtime for {kind.arch}, {kind.python_tag}, {kind.libc_kind} {kind.libc_version}"
                )
            return await build_bundle(choice, kind, self._cache / "bundles")

        return await self._once(("bundle", choice, kind), make)

    def _manifest(
        self,
        model: str,
        artifact: Artifact,
        golden: tuple[str, ...],
        runtime: str,
        limits: Limits,
        engine: EngineSettings,
    ) -> dict[str, object]:
        configured, settings = self._config.models[model], self._config.verify
        gates: dict[str, float] = configured.gates.model_dump(exclude_none=True)
        if "peak_rss_mb" in gates:
            gates["peak_rss_bytes"] = int(gates.pop("peak_rss_mb") * 2**20)
        verify = {
            **settings.model_dump(),
            "tolerance": limits.tolerance,
            "gates": gates or None,
        }
        about = asdict(artifact.variant) if artifact.variant else {}
        outputs = limits.outputs()
        return {
            "schema": 1,
            "model": {"name": model, "nb": artifact.sha256, "opt_version": artifact.nb.opt_version, "variant": about},
            "golden": list(golden),
            "runtime": runtime,
            "verify": verify,
            **({"outputs": outputs} if outputs else {}),
            **({"engine": engine.to_dict()} if engine.to_dict() else {}),  # absent, so that ids stay what they were
        }

    async def recipe(self, model: str) -> str:
        """Return the SHA-256 over everything but the device that decides a model's releases: equal recipes, equal releases."""

        async def make() -> str:
            configured = self._config.models[model]
            source = await self.source(model)
            spec = await self._golden_spec(model)
            files = [*configured.nb.values(), *configured.golden.files, *spec.own]
            left_out = _NOT_IN_RELEASES if configured.engine.asks else {**_NOT_IN_RELEASES, "engine": True}
            about = {
                "model": configured.model_dump(mode="json", exclude=left_out),
                "source": source.sha256 if source else "",
                "files": [await self._hash(path) for path in files],
                "verify": self._config.verify.model_dump(mode="json"),
                "toolchain": self._config.toolchain.paddlelite,
                **({"data set": _prepared_by(spec)} if configured.golden.dataset is not None else {}),
                **({"also": list(self._config.toolchain.also)} if self._config.toolchain.also else {}),
                "runtimes": {name: _as_in_recipes(given) for name, given in sorted(self._config.runtimes.items())},
            }
            return release_id(about)

        return await self._once(("recipe", model), make)

    async def _hash(self, path: Path) -> str:
        return await self._once(("hash", path), lambda: asyncio.to_thread(sha256_of, path))

    async def _once(self, key: Hashable, make: Callable[[], Awaitable[_T]]) -> _T:
        """Return the result of `make`, called once per key; cancelling one device does not cancel what others wait for."""
        task = self._made.get(key)
        if task is None:
            task = self._made[key] = asyncio.ensure_future(_awaited(make))
        value: _T = await asyncio.shield(task)
        return value

    async def close(self) -> None:
        """Cancel the builds that are still running."""
        for task in self._made.values():
            task.cancel()
        await asyncio.gather(*self._made.values(), return_exceptions=True)


async def _awaited(make: Callable[[], Awaitable[_T]]) -> _T:
    return await make()


def _as_in_recipes(given: tuple[RuntimeConfig, ...]) -> object:
    """Return the runtimes of one name as recipes have them: what earlier versions lacked is there only where it is used."""
    since = [{key for key in ("archive", "library") if getattr(one, key) is None} for one in given]
    found = [one.model_dump(mode="json", exclude=unused) for one, unused in zip(given, since, strict=True)]
    return found[0] if len(found) == 1 else found


def _with_named_runtime(found: Finding, artifact: Artifact) -> Finding:
    """Return LF211 (another version made the file) with what to do where that version's runtime does not go along."""
    if found.code != "LF211" or artifact.variant is None:
        return found
    version = artifact.variant.opt_version
    words = f"`runtimes:` or the inventory names this device's runtime: without that it gets Paddle-Lite {version} with the file."
    return replace(found, observed=f"{found.observed.rstrip()} {words}")


def _prepared_by(spec: GoldenSpec) -> object:
    """Return how the samples of a data set become golden inputs."""
    return None if spec.preprocess is None else spec.preprocess.model_dump(mode="json")


def _is_reduced(artifact: Artifact) -> bool:
    """Whether a file was converted with fp16 or quantisation."""
    variant = artifact.variant
    return variant is not None and (variant.fp16 or variant.quant != "")
