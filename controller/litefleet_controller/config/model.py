"""The shape of litefleet.yaml as pydantic models; all are frozen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

from litefleet_agent.errors import AgentError
from litefleet_agent.facts.arch import ARCHES, arch_of
from litefleet_agent.formats.checked import is_safe_name
from litefleet_agent.verification.comparison import KINDS, ComparisonSpec
from litefleet_inventory.foreign import KINDS as INVENTORY_KINDS
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from ..rollout.policy import Duration, Policy
from .bandwidth import BandwidthConfig, SiteCacheConfig
from .base import ArchName, FilePath, Strict, TextOrMapping, Version, as_written, resolved
from .choices import (
    CPU_TARGETS,
    DEFAULT_PADDLELITE,
    PUBLISHED_PYTHONS,
    TARGETS,
    AccuracySpec,
    GoldenSpec,
    InputSpec,
    MetricName,
    split_targets,
    target_hint,
)
from .engine import EngineConfig
from .inputs import InputConfig
from .notify import ReceiverConfig
from .preprocess import PreprocessConfig
from .runtimes import PythonsConfig, RuntimesConfig


def _checked_name(name: str) -> str:
    """Return a model's or runtime's name.  Raises: ValueError for one that devices and file names do not take."""
    if not is_safe_name(name):  # models and runtimes are folders on devices
        raise ValueError(
            f"{name[:80]!r} is not a name: it may hold letters, digits, '.', '_' and '-', begins with a letter or digit, "
            "and has at most 128 characters"
        )
    return name


def _canonical_or_free(name: str) -> str:
    """Return `arm64` as `aarch64`, and a free name as it is."""
    arch = arch_of(name)
    return arch.name if arch else _checked_name(name)


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=86400)]


class SourceConfig(TextOrMapping):
    """Where a source model is: a folder, or its two files."""

    folder: FilePath | None = None
    model: FilePath | None = None
    params: FilePath | None = None

    @classmethod
    def _spelled(cls, text: str) -> dict[str, object]:
        return {"folder": text}

    @model_validator(mode="after")
    def _whole(self) -> SourceConfig:
        if (self.folder is None) == (self.model is None):
            raise ValueError("give a folder, or `{model: FILE, params: FILE}`")
        if self.folder is not None and self.params is not None:
            raise ValueError("`params` goes with `model`, not with a folder")
        return self


class DataSetFields(Strict):
    """Labelled data on which a device must be as accurate as the reference engine, or reach a score."""

    dataset: FilePath | None = None
    metric: MetricName | None = None
    min: Share | None = None
    drop: Share | None = None
    output: str = ""
    characters: FilePath | None = None
    reference: FilePath | None = None  # a source model that is more precise: what was quantised
    samples: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 10_000

    @model_validator(mode="after")
    def _data_set_and_metric(self) -> DataSetFields:
        if self.dataset is None:
            alone = sorted(self.model_fields_set & set(DataSetFields.model_fields) - {"dataset"})
            if alone:
                raise ValueError(f"`{alone[0]}` goes with `dataset:` (a folder or a CSV file of labelled data)")
            return self
        if self.metric is None:
            raise ValueError("`dataset` needs `metric:`, one of top1, map50, iou, exact, cer")
        if self.characters is not None and self.metric != "cer":
            raise ValueError("`characters` goes with `metric: cer`")
        return self

    def accuracy_spec(self) -> AccuracySpec | None:
        """Return how accuracy is measured; None without a data set.  Without `min` and `drop`, a drop of 0.01 is allowed."""
        if self.dataset is None or self.metric is None:
            return None
        drop = 0.01 if self.min is None and self.drop is None else self.drop
        return AccuracySpec(
            self.dataset, self.metric, self.min, drop, self.output, self.characters, self.reference, self.samples
        )


class GoldenConfig(DataSetFields):
    """How golden outputs are made, or the files that hold them."""

    engine: Literal["paddle", "paddlelite"] = "paddle"
    cases: Annotated[int, Field(ge=2, le=100)] = 2
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    files: tuple[FilePath, ...] = ()
    inputs: tuple[FilePath, ...] = ()  # the engine's answers to these: .npz, .npy, pictures
    preprocess: PreprocessConfig | None = None  # of pictures among them; default: the model's
    refuse: bool = True  # a golden that cannot tell the model from constants

    @model_validator(mode="after")
    def _either(self) -> GoldenConfig:
        making = self.model_fields_set - {"files", "refuse"} - set(DataSetFields.model_fields)
        if self.files and making:
            others = ", ".join(sorted(making))
            raise ValueError(f"give `files`, or how to make them ({others}), not both")
        if "files" in self.model_fields_set and len(self.files) < 2:
            raise ValueError(f"{len(self.files)} golden file given; at least two with different inputs are needed")
        if "inputs" in self.model_fields_set and len(self.inputs) < 2:
            raise ValueError(f"{len(self.inputs)} input given; at least two different ones are needed")
        if self.inputs and self.model_fields_set & {"cases", "seed"}:
            raise ValueError("`cases` and `seed` are of inputs that litefleet draws: leave them out beside `inputs`")
        if self.preprocess is not None and not self.inputs:
            raise ValueError("`preprocess` goes with `inputs`; for `litefleet infer` write it under the model")
        return self


class ConvertOptions(Strict):
    """Conversion options that change the kernels of a .nb."""

    fp16: bool = False
    quant: Literal["none", "int8", "int16"] = "none"

    @model_validator(mode="after")
    def _possible(self) -> ConvertOptions:
        if self.fp16 and self.quant != "none":
            raise ValueError(f"fp16 and {self.quant} in one file are not supported by Paddle-Lite (LF112): choose one")
        return self


class OptionsConfig(ConvertOptions):
    """Options for every architecture, and under an architecture's name the ones that differ for it."""

    x86_64: ConvertOptions | None = None
    i686: ConvertOptions | None = None
    aarch64: ConvertOptions | None = None
    armv7l: ConvertOptions | None = None

    def for_arch(self, arch: str) -> ConvertOptions:
        """Return one architecture's options: its own where it names them, else the general ones."""
        general = {"fp16": self.fp16, "quant": self.quant}
        own: ConvertOptions | None = getattr(self, arch, None) if arch in ARCHES else None
        return ConvertOptions(**{**general, **(own.model_dump(exclude_unset=True) if own else {})})

    @model_validator(mode="after")
    def _each_possible(self) -> OptionsConfig:
        for arch in ARCHES:
            mixed = self.fp16, self.quant
            own: ConvertOptions | None = getattr(self, arch)
            if own is not None:
                given = own.model_dump(exclude_unset=True)
                mixed = given.get("fp16", self.fp16), given.get("quant", self.quant)
            if mixed[0] and mixed[1] != "none":
                raise ValueError(f"for {arch}, fp16 and {mixed[1]} come together (LF112): choose one")
        return self


class ToleranceConfig(Strict):
    """Limits on an output's distance from the reference; absent ones have a default by precision."""

    max_abs: Annotated[float, Field(ge=0)] | None = None
    max_rel: Annotated[float, Field(ge=0)] | None = None
    mean_abs: Annotated[float, Field(ge=0)] | None = None
    cosine_min: Annotated[float, Field(ge=-1, le=1)] | None = None


class Gates(Strict):
    """Limits of speed (milliseconds) and memory (MiB) that a device must keep."""

    p50_ms: Annotated[float, Field(gt=0)] | None = None
    p90_ms: Annotated[float, Field(gt=0)] | None = None
    p99_ms: Annotated[float, Field(gt=0)] | None = None
    peak_rss_mb: Annotated[float, Field(gt=0)] | None = None


def _comparison(value: dict[str, object]) -> dict[str, object]:
    """Return how an output is compared.  Raises: ValueError with what to write."""
    try:
        return ComparisonSpec.from_dict(value, "it").to_dict()
    except AgentError as error:
        raise ValueError(str(error).removeprefix("it").lstrip(". ")) from None


_OUTPUT_SCHEMA = {"properties": {"compare": {"enum": list(KINDS)}}, "required": ["compare"], "type": "object"}
OutputConfig = Annotated[dict[str, object], AfterValidator(_comparison), WithJsonSchema(_OUTPUT_SCHEMA)]


def check_targets(arch: str, targets: str) -> str:
    """Return targets such as "opencl, arm" joined by commas, in lower case.

    Raises: ValueError for an unknown target, for two CPU instruction sets, or for one that `arch` cannot run.
    """
    names = split_targets(targets)
    unknown = [name for name in names if name not in TARGETS]
    if unknown:
        raise ValueError(f"'{unknown[0]}' is not a target of the converter{target_hint(unknown[0])}")
    isa = ARCHES[arch].isa
    cpus = [name for name in names if name in CPU_TARGETS]
    if len(set(cpus)) > 1:
        right = ",".join(name for name in names if name not in CPU_TARGETS or name == isa)
        raise ValueError(
            f"'{targets}' names two CPU instruction sets in one file (LF102): opt takes the first that has a kernel, "
            f"op by op, and the result crashes or answers NaN. Write '{right}' for {arch}; "
            "litefleet makes one file per architecture by itself"
        )
    if cpus != [isa]:
        has = f"'{targets}' has {cpus[0]} kernels" if cpus else f"'{targets}' names no CPU"
        raise ValueError(f"{has}, and {arch} runs {isa} ones (LF101): name {isa} once")
    return ",".join(names)


ReleaseVersion = Annotated[str, BeforeValidator(as_written), Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._+-]{0,47})?$")]


class ModelConfig(Strict):
    """One model: its source, its golden, its options and its limits."""

    version: ReleaseVersion = ""  # of its releases, for people; "" = the day and a short hash
    source: SourceConfig | None = None
    nb: dict[ArchName, FilePath] = Field(default_factory=dict)
    inputs: dict[str, InputConfig] = Field(default_factory=dict)
    golden: GoldenConfig = Field(default_factory=dict, validate_default=True)
    options: OptionsConfig = Field(default_factory=dict, validate_default=True)
    targets: dict[ArchName, str] = Field(default_factory=dict)
    tolerance: ToleranceConfig = Field(default_factory=dict, validate_default=True)
    outputs: dict[str, OutputConfig] = Field(default_factory=dict)
    gates: Gates = Field(default_factory=dict, validate_default=True)
    preprocess: PreprocessConfig | None = None  # of pictures that `litefleet infer` is given
    engine: EngineConfig = EngineConfig()  # threads, power mode, OpenCL, NNAdapter

    @model_validator(mode="after")
    def _has_a_source(self) -> ModelConfig:
        if self.source is None and not self.nb:
            raise ValueError("give `source:` (a folder), or `nb:` with ready-made files per architecture")
        if self.source is None and not self.golden.files and self.golden.engine == "paddle":
            raise ValueError(
                "without `source:` PaddlePaddle has nothing to run: give `golden: {files: [a.npz, b.npz]}`, "
                "or `golden: {engine: paddlelite}` with an x86_64 .nb"
            )
        return self

    @field_validator("targets")
    @classmethod
    def _targets_fit(cls, targets: dict[str, str]) -> dict[str, str]:
        return {arch: check_targets(arch, given) for arch, given in targets.items()}

    def golden_spec(self, paddlelite: str) -> GoldenSpec:
        """Return how to make the golden; `paddlelite` is the toolchain's version."""
        golden = self.golden
        engine: Literal["paddle", "paddlelite", "files"] = "files" if golden.files else golden.engine
        return GoldenSpec(
            engine,
            golden.files,
            self.input_specs,
            golden.inputs,
            golden.preprocess or self.preprocess,
            cases=golden.cases,
            seed=golden.seed,
            paddlelite=paddlelite,
            refuse=golden.refuse,
        )

    @property
    def input_specs(self) -> dict[str, InputSpec]:
        """What is stated of the inputs, by name."""
        return {name: given.spec() for name, given in self.inputs.items()}


class ToolchainConfig(TextOrMapping):
    """The Paddle-Lite that converts, and the versions that are tried in order when it fails; `auto` tries every published one."""

    paddlelite: Version = DEFAULT_PADDLELITE
    also: tuple[Version, ...] = ()

    @classmethod
    def _spelled(cls, text: str) -> dict[str, object]:
        if text != "auto":
            raise ValueError(f"'{text}' is no toolchain: write `auto`, or a mapping with paddlelite and also")
        return {"also": [version for version in PUBLISHED_PYTHONS if version != DEFAULT_PADDLELITE]}


class VerifyConfig(Strict):
    """How often and how long a model runs on a device."""

    runs: Annotated[int, Field(ge=2, le=1000)] = 3
    warmup: Annotated[int, Field(ge=0, le=100)] = 1
    time_limit_s: Seconds = 60


class SshConfig(Strict):
    """How devices are reached."""

    concurrency: Annotated[int, Field(ge=1, le=2000)] = 32
    connect_time_limit_s: Seconds = 10
    step_time_limit_s: Seconds = 120
    known_hosts: FilePath = Field(default=Path("~/.ssh/known_hosts"), validate_default=True)
    accept_new_host_keys: bool = False
    config: bool | FilePath = True  # the SSH configuration: OpenSSH's own files, another file, or none (false)


class ClusterConfig(Strict):
    """How the connections to a Dask cluster are protected: this machine's certificate and key, and the authority of all."""

    authority: FilePath | None = None
    certificate: FilePath | None = None
    key: FilePath | None = None
    plain_tcp: bool = False  # also to other machines: only in a network where nobody else can listen or connect


class SigningConfig(Strict):
    """How releases are signed: an ed25519 SSH key and the trusted signers."""

    key: FilePath  # private, or the public half of one that an SSH agent holds
    allowed_signers: FilePath  # in the format of ssh-keygen(1); devices trust it
    expires_after: Duration = 90 * 86400.0
    unchecked: Literal["accept", "refuse"] = "accept"  # by a device without ssh-keygen


class InventoryConfig(TextOrMapping):
    """The inventory: litefleet's own file or folder, or another tool's file, read in place."""

    yaml: FilePath | None = None
    ansible: FilePath | None = None
    ssh_config: FilePath | None = None
    csv: FilePath | None = None
    netbox: FilePath | None = None

    @classmethod
    def _spelled(cls, text: str) -> dict[str, object]:
        return {"yaml": text}

    @model_validator(mode="after")
    def _one_kind(self) -> InventoryConfig:
        if len([kind for kind in (*INVENTORY_KINDS, "yaml") if getattr(self, kind) is not None]) != 1:
            raise ValueError(f"name one file, or one of {', '.join(f'{{{kind}: FILE}}' for kind in INVENTORY_KINDS)}")
        return self

    @property
    def kind(self) -> str:
        """The tool whose file it is: one of the inventory's KINDS, "" for litefleet's own."""
        return next((kind for kind in INVENTORY_KINDS if getattr(self, kind) is not None), "")

    @property
    def path(self) -> Path:
        """The file or folder."""
        found: Path = getattr(self, self.kind or "yaml")
        return found


class HistoryConfig(Strict):
    """How long the state database keeps finished rollouts."""

    keep_days: Annotated[float, Field(gt=0)] = 365.0
    keep_rollouts: Annotated[int, Field(ge=1)] = 200  # the newest, however old


class Config(Strict):
    """litefleet.yaml as a whole."""

    fleet: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "default"

    inventory: InventoryConfig = Field(default_factory=lambda: {"yaml": "fleet.yaml"}, validate_default=True)
    store: FilePath = Field(default=Path(".litefleet"), validate_default=True)
    toolchain: ToolchainConfig = Field(default_factory=dict, validate_default=True)
    models: Annotated[dict[Annotated[str, AfterValidator(_checked_name)], ModelConfig], Field(min_length=1)]
    runtimes: dict[Annotated[str, AfterValidator(_canonical_or_free)], RuntimesConfig] = Field(default_factory=dict)
    python: PythonsConfig = Field(default_factory=dict, validate_default=True)
    verify: VerifyConfig = Field(default_factory=dict, validate_default=True)
    ssh: SshConfig = Field(default_factory=dict, validate_default=True)
    bandwidth: BandwidthConfig = Field(default_factory=dict, validate_default=True)
    site_cache: SiteCacheConfig = Field(default_factory=dict, validate_default=True)
    rollout: Policy = Field(default_factory=dict, validate_default=True)
    signing: SigningConfig | None = None
    cluster: ClusterConfig = Field(default_factory=dict, validate_default=True)
    state: str = (
        ""  # a file, relative to this configuration's folder, or a database URL; "" = state.db in the store's folder
    )
    history: HistoryConfig = Field(default_factory=dict, validate_default=True)
    notify: Annotated[dict[Annotated[str, AfterValidator(_checked_name)], ReceiverConfig], Field(max_length=20)] = (
        Field(default_factory=dict)
    )
    operator: Annotated[str, Field(max_length=80)] = ""  # who acts, for the audit log; "" = as the environment says

    @field_validator("state")
    @classmethod
    def _state(cls, url: str, info: ValidationInfo) -> str:
        scheme, separator, rest = url.partition("://")
        if separator and ":" in rest.split("@")[0] and "@" in url:
            raise ValueError("no password here: PostgreSQL takes it from ~/.pgpass or PGPASSWORD")
        if not url or (separator and scheme != "sqlite"):
            return url
        return str(resolved(Path(rest.removeprefix("/") if separator else url), info))


def known_keys(path: Sequence[str | int]) -> list[str]:
    """Return the keys that are allowed under a path, such as ('models', 'cls', 'gates')."""
    place: object = Config
    for part in path:
        model = _as_model(place)
        if model is not None:
            field = model.model_fields.get(str(part))
            place = _without_none(field.annotation) if field else None
        else:
            place = _inside(place)
    while _as_model(place) is None and get_origin(place) is tuple:  # a list's item, where it is the only one
        place = _inside(place)
    model = _as_model(place)
    return list(model.model_fields) if model is not None else []


def _inside(place: object) -> object:
    """Return the type of a mapping's values or of a list's items; None for another type."""
    if get_origin(place) is Annotated:
        return _inside(get_args(place)[0])
    arguments = [one for one in get_args(place) if one is not Ellipsis]
    inner = _without_none(arguments[-1]) if arguments else None
    return get_args(inner)[0] if get_origin(inner) is Annotated else inner


def _as_model(place: object) -> type[BaseModel] | None:
    return place if isinstance(place, type) and issubclass(place, BaseModel) else None


def _without_none(annotation: object) -> object:
    """Return X for `X | None`, anything else as it is."""
    arguments = get_args(annotation)
    return arguments[0] if len(arguments) == 2 and arguments[1] is type(None) else annotation
