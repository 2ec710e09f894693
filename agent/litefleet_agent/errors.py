"""The agent's errors: each is a sentence an operator can act on."""


class AgentError(Exception):
    """Base of every error the agent raises on purpose.

    `code` is a short machine-readable word ("busy", "disk-full", "bad-request", ...); the text is for people.
    """

    code = "failed"

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        if code:
            self.code = code
