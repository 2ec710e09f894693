"""litefleet.yaml: what it means, and the exact words for what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from litefleet_controller.build.conversion.variant import make_variant
from litefleet_controller.common.errors import ConfigError
from litefleet_controller.config import Config, config_schema, load_config, runtimes_for
from litefleet_controller.config.choices import GoldenSpec, InputSpec, RuntimeChoice

WHOLE = """\
inventory: fleet.yaml
store: .litefleet
toolchain: {paddlelite: 2.13rc0}
models:
  cls:
    source: models/cls
    inputs: {x: [1, 3, 48, 192]}
    golden: {engine: paddle, cases: 3, seed: 5}
    options: {quant: int8, x86_64: {quant: none}, aarch64: {quant: none, fp16: true}}
    targets: {aarch64: "opencl, arm"}
    tolerance: {max_abs: 1e-4, cosine_min: 0.999}
    gates: {p90_ms: 50, peak_rss_mb: 400}
  ready:
    nb: {amd64: ready.nb}
    golden: {files: [a.npz, /abs/b.npz]}
  files:
    source: {model: m.pdmodel, params: m.pdiparams}
runtimes:
  x86_64: {paddlelite: 2.12, numpy: "1.21.6"}
  arm64: {wheel: wheels/x.whl}
  built: {folder: runtimes/aarch64}
  own: system
verify: {runs: 5, warmup: 0, time_limit_s: 30}
ssh: {concurrency: 100, known_hosts: known_hosts, accept_new_host_keys: true}
"""


def load(tmp_path: Path, text: str) -> Config:
    (tmp_path / "litefleet.yaml").write_text(text, encoding="utf-8")
    return load_config(tmp_path / "litefleet.yaml")


def problems(tmp_path: Path, text: str) -> list[str]:
    """The problems, without the file's name: 'LINE: sentence'."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    start = f"{tmp_path / 'litefleet.yaml'}:"
    assert all(p.startswith(start) for p in caught.value.problems)
    return [p.removeprefix(start) for p in caught.value.problems]


def in_model(tmp_path: Path, line: str) -> list[str]:
    return problems(tmp_path, f"models:\n  cls:\n    source: models/cls\n    {line}\n")


def test_everything_is_read_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = load(tmp_path, WHOLE)
    assert (config.inventory.path, config.store) == (tmp_path / "fleet.yaml", tmp_path / ".litefleet")
    cls, ready, files = (config.models[n] for n in ("cls", "ready", "files"))
    assert cls.source is not None
    assert cls.source.folder == tmp_path / "models/cls"
    x = InputSpec(plain=(1, 3, 48, 192))
    assert cls.golden_spec("2.13rc0") == GoldenSpec("paddle", (), {"x": x}, cases=3, seed=5, paddlelite="2.13rc0")
    # As before inputs could state more than sizes: recipes of earlier configurations stay the same.
    assert cls.model_dump(mode="json")["inputs"] == {"x": [1, 3, 48, 192]}
    assert cls.targets == {"aarch64": "opencl,arm"}
    assert (cls.tolerance.max_abs, cls.tolerance.max_rel, cls.gates.p90_ms) == (1e-4, None, 50)
    assert ready.nb == {"x86_64": tmp_path / "ready.nb"}
    assert ready.golden_spec("2.13rc0").files == (tmp_path / "a.npz", Path("/abs/b.npz"))
    assert ready.golden_spec("2.13rc0").engine == "files"
    assert files.source is not None
    assert files.source.params == tmp_path / "m.pdiparams"
    assert config.ssh.known_hosts == tmp_path / "known_hosts"
    assert (config.verify.runs, config.ssh.concurrency, config.ssh.connect_time_limit_s) == (5, 100, 10)


@pytest.mark.parametrize(
    ("arch", "fp16", "quant"), [("x86_64", False, "none"), ("aarch64", True, "none"), ("armv7l", False, "int8")]
)
def test_options_per_architecture(tmp_path: Path, arch: str, fp16: bool, quant: str) -> None:
    options = load(tmp_path, WHOLE).models["cls"].options.for_arch(arch)
    assert (options.fp16, options.quant) == (fp16, quant)


def test_runtimes(tmp_path: Path) -> None:
    config = load(tmp_path, WHOLE)
    assert runtimes_for(config, "x86_64") == (RuntimeChoice("wheels", "2.12", "numpy==1.21.6"),)
    assert runtimes_for(config, "aarch64") == (RuntimeChoice("wheel", path=tmp_path / "wheels/x.whl"),)
    assert runtimes_for(config, "x86_64", "built") == (RuntimeChoice("folder", path=tmp_path / "runtimes/aarch64"),)
    assert (
        runtimes_for(config, "x86_64", "own") == runtimes_for(config, "x86_64", "system") == (RuntimeChoice("system"),)
    )
    assert runtimes_for(config, "armv7l") == (RuntimeChoice("wheels", "2.13rc0", "numpy<2"),)
    with pytest.raises(ConfigError) as caught:
        runtimes_for(config, "x86_64", "bulit")
    assert str(caught.value) == "runtime 'bulit' is not under `runtimes:` in litefleet.yaml; did you mean 'built'?"


@pytest.mark.parametrize("state", ["my.db", "sqlite:///my.db", "sqlite:///{folder}/my.db", "{folder}/my.db"])
def test_the_state_is_found_from_any_folder(tmp_path: Path, state: str) -> None:
    stated = state.format(folder=tmp_path)
    config = load(tmp_path, f"models: {{cls: {{source: models/cls}}}}\nstate: {stated}")
    assert config.state == str(tmp_path / "my.db")


def test_the_least_that_will_do(tmp_path: Path) -> None:
    config = load(tmp_path, "models: {cls: {source: models/cls}}")
    assert config.inventory.path == tmp_path / "fleet.yaml"
    assert config.toolchain.paddlelite == "2.13rc0"
    assert config.ssh.known_hosts == Path("~/.ssh/known_hosts").expanduser()
    assert (config.ssh.accept_new_host_keys, config.verify.runs) == (False, 3)


def test_a_version_is_taken_as_it_is_written(tmp_path: Path) -> None:
    config = load(tmp_path, "toolchain: {paddlelite: 2.10}\nmodels: {cls: {source: models/cls}}")
    assert config.toolchain.paddlelite == "2.10"


def test_all_problems_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
inventroy: fleet.yaml
models:
  cls:
    source: models/cls
    gates:
      p90: 50
    golden: {cases: 1}
    inputs: {x: [1, -1, a]}
  det:
    nb: {sparc: a.nb}
runtimes:
  x86_64: native
  a: {wheel: b.whl, folder: c}
verify: {runs: many}
ssh: 3
"""
    assert problems(tmp_path, text) == [
        "1: unknown key 'inventroy'; did you mean 'inventory'?",
        "6: unknown key 'p90' in models.cls.gates; did you mean 'p90_ms'?",
        "7: models.cls.golden.cases: should be greater than or equal to 2 (it is 1)",
        "8: models.cls.inputs.x.dims.1: should be greater than or equal to 1 (it is -1)",
        "8: models.cls.inputs.x.dims.2: should be a whole number (it is 'a')",
        "10: models.det.nb.sparc: 'sparc' is not an architecture that litefleet converts for; known are x86_64, i686, "
        "aarch64, armv7l",
        "12: runtimes.x86_64: 'native' is no runtime: write `system`, or a mapping with paddlelite, wheel, folder, "
        "archive or library",
        "13: runtimes.a: wheel and folder cannot both be the runtime: name one, or write a list of runtimes",
        "14: verify.runs: should be a whole number (it is 'many')",
        "15: ssh: should be a mapping (`key: value`) (it is 3)",
    ]


@pytest.mark.parametrize(
    "accelerator",
    [
        "cambricon_mlu",
        "verisilicon_timvx",
        "mediatek_apu",
        "huawei_kirin_npu",
        "android_nnapi",
        "eeasytech_npu",
        "qualcomm_qnn",
        "kunlunxin_xtcl",
    ],
)
def test_every_accelerator_of_the_converter_is_accepted(tmp_path: Path, accelerator: str) -> None:
    config = load(tmp_path, f"models: {{cls: {{source: m, targets: {{aarch64: '{accelerator}, arm'}}}}}}")
    targets = config.models["cls"].targets["aarch64"]
    assert targets == f"{accelerator},arm"
    assert make_variant("a" * 64, targets).target == targets


@pytest.mark.parametrize(
    ("toolchain", "accepted"),
    [
        ("{paddlelite: 2.12}", True),
        ("{also: [2.12]}", True),  # the second converter takes it
        ("{paddlelite: 3.0}", True),  # an unpublished converter reports for itself
        ("{paddlelite: 2.13rc0}", False),
    ],
)
def test_a_target_of_another_version_depends_on_the_toolchain(tmp_path: Path, toolchain: str, accepted: bool) -> None:
    text = f"toolchain: {toolchain}\nmodels:\n  cls: {{source: m, targets: {{aarch64: 'intel_fpga,arm'}}}}\n"
    if accepted:
        assert load(tmp_path, text).models["cls"].targets == {"aarch64": "intel_fpga,arm"}
    else:
        (problem,) = problems(tmp_path, text)
        assert problem.startswith("3: models.cls.targets.aarch64: the converter of Paddle-Lite 2.13rc0 has no target")


@pytest.mark.parametrize("targets", ["arm,x86", "x86,arm", "x86, arm", "arm x86"])
def test_two_cpu_isas_in_one_file_are_refused(tmp_path: Path, targets: str) -> None:
    assert in_model(tmp_path, f"targets: {{x86_64: '{targets}'}}") == [
        f"4: models.cls.targets: '{targets}' names two CPU instruction sets in one file (LF102): opt takes the first "
        "that has a kernel, op by op, and the result crashes or answers NaN. Write 'x86' for x86_64; litefleet makes "
        "one file per architecture by itself"
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "targets: {x86_64: arm}",
            "models.cls.targets: 'arm' has arm kernels, and x86_64 runs x86 ones (LF101): name x86 once",
        ),
        (
            "targets: {aarch64: opencl}",
            "models.cls.targets: 'opencl' names no CPU, and aarch64 runs arm ones (LF101): name arm once",
        ),
        (
            "targets: {aarch64: 'opencll,arm'}",
            "models.cls.targets: 'opencll' is not a target of the converter; did you mean 'opencl'?",
        ),
        (
            "targets: {aarch64: 'npu,arm'}",
            "models.cls.targets: 'npu' is not a target of the converter; did you mean 'xpu' or 'huawei_ascend_npu' or "
            "'huawei_kirin_npu' or 'eeasytech_npu' or 'rockchip_npu' or 'amlogic_npu'?",
        ),
        (
            "targets: {aarch64: 'arm64'}",
            "models.cls.targets: 'arm64' is not a target of the converter; for arm64 the target is 'arm'",
        ),
        (
            "targets: {aarch64: 'intel_fpga,arm'}",
            "models.cls.targets.aarch64: the converter of Paddle-Lite 2.13rc0 has no target 'intel_fpga'; "
            "write `toolchain: {paddlelite: 2.12}`, whose converter has it",
        ),
        (
            "options: {fp16: true, quant: int8}",
            "models.cls.options: fp16 and int8 in one file are not supported by Paddle-Lite (LF112): choose one",
        ),
        (
            "options: {quant: int8, aarch64: {fp16: true}}",
            "models.cls.options: for aarch64, fp16 and int8 come together (LF112): choose one",
        ),
        (
            "options: {quant: int4}",
            "models.cls.options.quant: should be 'none', 'int8' or 'int16' (it is 'int4')",
        ),
        (
            "options: {aarch64: {fp61: true}}",
            "unknown key 'fp61' in models.cls.options.aarch64; did you mean 'fp16'?",
        ),
        (
            "golden: {files: [a.npz]}",
            "models.cls.golden: 1 golden file given; at least two with different inputs are needed",
        ),
        (
            "golden: {files: [a.npz, b.npz], seed: 3}",
            "models.cls.golden: give `files`, or how to make them (seed), not both",
        ),
        ("tolerance: {max_abs: -1}", "models.cls.tolerance.max_abs: should be greater than or equal to 0 (it is -1)"),
        (
            "zzz: 1",
            "unknown key 'zzz' in models.cls; known are: version, source, nb, inputs, golden, options, targets, "
            "tolerance, outputs, gates, preprocess, engine",
        ),
    ],
)
def test_what_a_model_cannot_be(tmp_path: Path, line: str, said: str) -> None:
    assert in_model(tmp_path, line) == [f"4: {said}"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1: models: is missing"),
        ("- a\n", "1: the file: should be a mapping (`key: value`) (it is ['a'])"),
        ("models: {}\n", "1: models: should not be empty (it is {})"),
        (
            "a: [1\nb: 2\n",
            "2: not valid YAML: while parsing a flow sequence that begins on line 1, did not find expected ',' or ']'",
        ),
        ("models:\n  a: {source: x}\n  a: {source: y}\n", "3: models.a: written twice; first on line 2"),
        (
            "models:\n  a:\n    inputs: {x: [1]}\n",
            "2: models.a: give `source:` (a folder), or `nb:` with ready-made files per architecture",
        ),
        (
            "models:\n  a:\n    nb: {x86_64: a.nb}\n",
            "2: models.a: without `source:` PaddlePaddle has nothing to run: give `golden: {files: [a.npz, b.npz]}`, "
            "or `golden: {engine: paddlelite}` with an x86_64 .nb",
        ),
        (
            "models:\n  a:\n    source: {params: p}\n",
            "3: models.a.source: give a folder, or `{model: FILE, params: FILE}`",
        ),
        (
            "models: {a: {source: x}}\nruntimes:\n  old: {folder: x, numpy: '<2'}\n",
            "3: runtimes.old: numpy cannot be chosen for a folder runtime: it brings its own",
        ),
    ],
)
def test_what_a_file_cannot_be(tmp_path: Path, text: str, said: str) -> None:
    assert problems(tmp_path, text) == [said]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no\.yaml is missing: write one, or name it with -c"):
        load_config(tmp_path / "no.yaml")
    (tmp_path / "bin.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"bin\.yaml cannot be read"):
        load_config(tmp_path / "bin.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [*x]\n",
        "a: &x [*x, *x, *x]\n",
        "a: " + "[" * 5000,
        "a: " + "[" * 200,
        "? [1]\n: 2\n",
        "a: 2001-99-99\n",
        "a: !!python/object:x {}\n",
        "a: !!int '3'\n",
        "models: {a: {source: x}}\n---\nmodels: {}\n",
        "a: *nowhere\n",
        "a: \0\n",
        "\t",
    ],
)
def test_odd_yaml_is_a_sentence_too(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text)


def test_aliases_that_multiply_are_stopped(tmp_path: Path) -> None:
    lines = ["x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "holds more than 100,000 values" in problems(tmp_path, "\n".join(lines))[0]


def test_scalars_are_resolved_as_yaml_does_and_merges_are_applied(tmp_path: Path) -> None:
    text = """\
models:
  a: &one
    source: "007"
    gates: &gates {p50_ms: 1_000, p90_ms: 2.5e+3}
    options: {fp16: no}
  b: {<<: *one, gates: {<<: *gates, p90_ms: 7}, golden: {seed: 0x10}}
ssh: {accept_new_host_keys: on}
"""
    config = load(tmp_path, text)
    a, b = config.models["a"], config.models["b"]
    assert a.source is not None
    assert a.source.folder == tmp_path / "007"
    assert (a.gates.p50_ms, a.gates.p90_ms, a.options.fp16) == (1000, 2500, False)
    assert (b.gates.p50_ms, b.gates.p90_ms, b.golden.seed) == (1000, 7, 16)
    assert config.ssh.accept_new_host_keys is True


def test_the_schema_knows_every_key_and_both_spellings() -> None:
    schema = config_schema()
    old = {"inventory", "store", "toolchain", "models", "runtimes", "verify", "ssh"}
    keys = {
        "python",
        "fleet",
        "rollout",
        "signing",
        "cluster",
        "state",
        "history",
        "operator",
        "bandwidth",
        "site_cache",
        "notify",
    }
    assert set(schema["properties"]) == old | keys
    assert schema["additionalProperties"] is False
    assert {"type": "string"} in schema["$defs"]["RuntimeConfig"]["anyOf"]
    json.dumps(schema)


@pytest.mark.parametrize(
    "name", ["../../pwn", "/etc/pwn", "a/b", "", ".hidden", "a b", "a\x1b[31m", "cls\n", "模型", "x" * 129, "-rf"]
)
def test_names_that_are_paths_or_escape_codes_are_refused_where_they_enter(tmp_path: Path, name: str) -> None:
    output = problems(tmp_path, f"models: {{{json.dumps(name)}: {{source: x}}}}\n")
    assert any("is not a name: it may hold letters, digits" in problem for problem in output)
    assert all(problem.isprintable() for problem in output)
    text = f"models: {{a: {{source: x}}}}\nruntimes: {{{json.dumps(name)}: system}}\n"
    assert any("is not a name" in problem for problem in problems(tmp_path, text))


@pytest.mark.parametrize("name", ["cls", "PP-OCRv4_det.2", "0", "x" * 128])
def test_a_name_is_what_the_devices_store_takes(tmp_path: Path, name: str) -> None:
    assert list(load(tmp_path, f"models: {{'{name}': {{source: x}}}}").models) == [name]


def test_a_toolchain_may_be_chosen_by_itself(tmp_path: Path) -> None:
    chosen = load(tmp_path, "toolchain: auto\nmodels: {cls: {source: models/cls}}").toolchain
    assert (chosen.paddlelite, chosen.also) == ("2.13rc0", ("2.12", "2.10"))
    assert problems(tmp_path, "toolchain: newest\nmodels: {cls: {source: models/cls}}") == [
        "1: toolchain: 'newest' is no toolchain: write `auto`, or a mapping with paddlelite and also"
    ]
