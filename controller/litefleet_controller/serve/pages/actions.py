"""Which actions a rollout's page offers: what `litefleet status` names as next commands, for people who may act."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...catalogue.translate import tr
from ...rollout import RolloutState
from ..auth import Person, Role
from ..queries.rollouts import RolloutPage


@dataclass(frozen=True)
class Action:
    """One action on a rollout: the command's verb, the command itself, and what it does, in English."""

    verb: str
    command: str
    does: str

    @property
    def label(self) -> str:
        """The words on its button."""
        return LABELS[self.verb]()

    @property
    def is_grave(self) -> bool:
        """Whether it ends something, or changes what devices run."""
        return self.verb in ("abort", "rollback")


LABELS: dict[str, Callable[[], str]] = {
    "approve": lambda: tr("Approve"),
    "pause": lambda: tr("Pause"),
    "resume": lambda: tr("Resume"),
    "abort": lambda: tr("Abort"),
    "retry": lambda: tr("Retry failed devices"),
    "rollback": lambda: tr("Roll back"),
}


def actions_for(view: RolloutPage, person: Person) -> tuple[Action, ...]:
    """Return what a person may do to a rollout now; nothing for those who may only look.

    One that is done can be taken back as well, which `litefleet status` does not name: nothing asks for it.
    """
    if not person.role.includes(Role.OPERATE):
        return ()
    named = [Action(verb, command, does) for command, does in view.next if (verb := command.split()[1]) in LABELS]
    ident, verbs = view.rollout.id, {action.verb for action in named}
    if view.rollout.state is RolloutState.DONE and view.counts.get("done") and "rollback" not in verbs:
        does = "reverts its devices to the releases that they ran before"
        named.append(Action("rollback", f"litefleet rollback --rollout {ident}", does))
    return tuple(named)
