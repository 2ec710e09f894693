"""Which Paddle-Lite a device gets: one rule for the build, the advice and the doctor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from litefleet_agent.facts import Facts, Libc, Package, PythonFacts
from litefleet_controller.advise.kinds import runtime_on
from litefleet_controller.build.runtimes.choose import choose_runtime, own_runtime_findings
from litefleet_controller.common.errors import ConfigError
from litefleet_controller.config import Config, load_config
from litefleet_controller.config.choices import RuntimeChoice
from litefleet_controller.doctor.device_checks import judge_device
from litefleet_inventory import Device

PYTHON = PythonFacts("/usr/bin/python3", "3.10.13", "cpython", "cp310", 64)
NUC = Facts(machine="x86_64", arch="x86_64", bits=64, libc=Libc("glibc", "2.36"), python=PYTHON, writable=True)
PI = NUC._replace(machine="aarch64", arch="aarch64")
OWN = Package("2.12", "/opt/paddlelite")
DEVICE = Device("one", "192.0.2.1")


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Config]:
    def make(runtimes: str) -> Config:
        path = tmp_path / "litefleet.yaml"
        path.write_text(f"models: {{cls: {{source: m}}}}\nruntimes: {runtimes}\n")
        return load_config(path)

    return make


@pytest.mark.parametrize(
    ("runtimes", "facts", "kind", "codes"),
    [
        ("{}", NUC, "wheels", []),
        ("{}", NUC._replace(python=PYTHON._replace(tag="cp311")), "wheels", []),
        ("{}", NUC._replace(python=PYTHON._replace(tag="cp311"), paddlelite=OWN), "system", []),
        ("{}", NUC._replace(libc=Libc("musl", "1.2.4"), paddlelite=OWN), "wheels", ["LF309"]),
        ("{}", PI, "wheels", ["LF302"]),
        ("{}", PI._replace(paddlelite=OWN), "system", []),
        ("{aarch64: {paddlelite: 2.12}}", PI._replace(paddlelite=OWN), "wheels", ["LF302"]),  # named: no fall-back
        ("{aarch64: {wheel: no.whl}}", PI._replace(paddlelite=OWN), "wheel", ["LF302"]),
        ("{aarch64: {folder: none}}", PI, "folder", ["LF302"]),
        ("{aarch64: system}", PI, "system", []),
        ("{x86_64: {paddlelite: 9.9}}", NUC, "wheels", []),  # the index knows versions that litefleet does not
    ],
)
def test_build_advice_and_doctor_agree(
    config: Callable[[str], Config], runtimes: str, facts: Facts, kind: str, codes: list[str]
) -> None:
    settings = config(runtimes)
    chosen = choose_runtime(settings, DEVICE, facts)
    assert (chosen.choice.kind, [f.code for f in chosen.refusals]) == (kind, codes)
    advised = runtime_on(settings, DEVICE, facts)
    _, doctor = judge_device(settings, DEVICE, facts)
    if kind == "system":
        assert advised.label.startswith("its own Paddle-Lite")
        assert [f.code for f in advised.findings] == [f.code for f in own_runtime_findings(facts)]
    else:
        assert advised.findings == chosen.refusals
        assert set(chosen.refusals) <= set(doctor)


def test_a_runtime_that_the_configuration_lacks_is_an_error(config: Callable[[str], Config]) -> None:
    with pytest.raises(ConfigError, match="runtime 'old' is not under `runtimes:`"):
        choose_runtime(config("{}"), Device("one", "192.0.2.1", runtime="old"), NUC)
    assert choose_runtime(config("{}"), Device("one", "192.0.2.1", runtime="system"), NUC).choice == RuntimeChoice(
        "system"
    )


def test_the_devices_own_runtime_must_be_there_and_its_numpy_does_not_matter() -> None:
    assert own_runtime_findings(PI._replace(paddlelite=OWN, numpy=Package("2.1.0", "/opt/numpy"))) == ()
    (missing,) = own_runtime_findings(PI._replace(python=PYTHON._replace(executable="/usr/bin/py\x1b[2J")))
    assert (missing.code, "\x1b" in missing.observed) == ("LF302", False)
