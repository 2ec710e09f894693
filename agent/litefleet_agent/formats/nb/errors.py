"""The one error of the .nb reader."""

from ...errors import AgentError

__all__ = ["NbError"]


class NbError(AgentError):
    """The bytes can't be described as a .nb; `finding_code` is the catalogue's LF105, LF106 or LF107."""

    code = "bad-nb"

    def __init__(self, message: str, finding_code: str = "LF105") -> None:
        super().__init__(message)
        self.finding_code = finding_code
