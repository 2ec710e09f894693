"""The controller's errors.  An operator's error contains its remedy; only the CLI turns errors into exit codes."""

from __future__ import annotations

from collections.abc import Sequence

from litefleet_agent.findings import Certainty, Finding, finding


class LitefleetError(Exception):
    """Base of every error that the controller raises on purpose.

    `exit_code` is the CLI's.  `code` is the finding that stands for it where it ends the work on one model or device.
    """

    exit_code = 1
    code = "LF900"


class EngineError(LitefleetError):
    """The reference engine could not run a model on the golden's inputs."""

    code = "LF432"


class ToolchainError(LitefleetError):
    """The environment of a converter, an engine or a runtime cannot be made or started."""

    code = "LF702"


class FolderError(LitefleetError):
    """A folder of litefleet's own on this machine cannot be used."""

    code = "LF704"


class RunError(LitefleetError):
    """Ends the whole run, whichever device was at work when it was raised: every other error then is that device's outcome."""


class UsageError(LitefleetError):
    """The command line asks for something impossible (exit code 2); of one model: what is stated of its goldens."""

    exit_code = 2
    code = "LF412"


class ConfigError(LitefleetError):
    """Configuration or inventory is wrong; `problems` has one sentence for each problem, with file and line (exit code 2)."""

    exit_code = 2
    code = "LF412"

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class FindingError(LitefleetError):
    """Work stopped at findings of the catalogue (a rejected source model, a failed conversion)."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(f"{f.code} {f.observed} {f.entry.do}" for f in findings))
        self.findings = tuple(findings)

    @classmethod
    def of(cls, code: str, observed: str, certainty: Certainty = Certainty.CERTAIN) -> FindingError:
        """Return the error for a single finding."""
        return cls([finding(code, observed, certainty)])


def findings_of(error: LitefleetError) -> tuple[Finding, ...]:
    """Return the findings for an error that ended the work on one model or device."""
    return error.findings if isinstance(error, FindingError) else (finding(error.code, str(error)),)
