"""All that speaks for or against a file on this device before anything of it is loaded: its kernels, the CPU, the runtime."""

from typing import List

from .arch import ARCHES
from .compat import check_file
from .environment import check_environment, describe_runtime
from .facts import Facts
from .facts.runtime import with_flavour
from .findings import Finding, finding
from .nb import NbError, NbModel, read_nb

__all__ = ["altered", "static_findings"]


def altered(model: NbModel, sha256: str) -> List[Finding]:
    """Return LF602 when a model's bytes are not those of `sha256`: one flipped bit gives slightly wrong answers."""
    if not sha256 or model.sha256 == sha256:
        return []
    return [finding("LF602", "The model's file %s no longer holds the bytes that were sent." % sha256[:12])]


def static_findings(nb: str, facts: Facts, runtime: str, sha256: str = "") -> List[Finding]:
    """Return what the file at the path `nb` has against it here; `runtime` is a folder, "" = what the interpreter has.

    `sha256` is what its bytes must be, "" = that is not known.
    """
    arch = ARCHES.get(facts.arch)
    if arch is None:
        return [finding("LF303", "This device is %s." % facts.machine)]
    try:
        with open(nb, "rb") as file:
            model = read_nb(file.read())
    except NbError as error:
        return [finding(error.finding_code, str(error))]
    except OSError as error:
        return [finding("LF602", "The model's file can't be read: %s." % (error.strerror or error))]
    found = altered(model, sha256) + check_file(model, arch, frozenset(facts.cpu.features) or None)
    return found + check_environment(model, facts, with_flavour(describe_runtime(runtime or None)))
