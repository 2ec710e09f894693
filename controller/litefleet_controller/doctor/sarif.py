"""Diagnoses as SARIF 2.1.0, the format in which code-scanning pages and editors take findings."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from litefleet_agent.findings import CATALOGUE, Certainty, Finding

from .. import __version__
from .diagnosis import Diagnosis, exit_code_of
from .sarif_places import ROOT_NAME, artifact_of, relative_uri, root_uri
from .sarif_rules import rule_of

__all__ = ["to_sarif"]

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def to_sarif(diagnoses: Sequence[Diagnosis], exit_code: int | None = None, unread: Sequence[str] = ()) -> str:
    """Return one SARIF run with a final newline; paths are given relative to the working directory.

    `exit_code` is the program's where it is not `exit_code_of(diagnoses)`; `unread` holds a sentence for each thing that
    could not be looked at.  Nothing is raised for files that have gone: their hashes are left out.
    """
    run = _Run(Path.cwd())
    run.add_all(diagnoses)
    code = exit_code_of(diagnoses) if exit_code is None else exit_code
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run.to_dict(code, unread)]}
    return _harmless(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"


@dataclass
class _Run:
    """The run as it grows: results refer to rules and artifacts by their place in the lists."""

    root: Path
    least_sure: dict[str, Certainty] = field(default_factory=dict)  # code -> the least sure finding's certainty
    codes: list[str] = field(default_factory=list)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)  # by URI, in order
    results: list[dict[str, Any]] = field(default_factory=list)
    said: set[tuple[str, str, str]] = field(default_factory=set)
    alike: Counter[str] = field(default_factory=Counter)

    def add_all(self, diagnoses: Sequence[Diagnosis]) -> None:
        """Add each diagnosis with its findings; a file judged twice says the same thing once."""
        for diagnosis in diagnoses:
            uri = self._artifact(diagnosis)
            for found in diagnosis.ranked:
                key = (found.code, uri or diagnosis.subject, found.seen)
                if key not in self.said:
                    self.said.add(key)
                    self.results.append(self._result(diagnosis, found, uri))

    def to_dict(self, exit_code: int, unread: Sequence[str]) -> dict[str, Any]:
        """Return the run."""
        driver = {
            "name": "litefleet",
            "version": __version__,
            "semanticVersion": __version__,
            "rules": [rule_of(CATALOGUE[code], self.least_sure[code]) for code in self.codes],
        }
        return {
            "tool": {"driver": driver},
            "columnKind": "unicodeCodePoints",
            "originalUriBaseIds": {ROOT_NAME: {"uri": root_uri(self.root)}},
            "invocations": [_invocation(exit_code, unread, self.root)],
            "artifacts": list(self.artifacts.values()),
            "results": self.results,
        }

    def _artifact(self, diagnosis: Diagnosis) -> str | None:
        if diagnosis.path is None:
            return None
        uri = relative_uri(diagnosis.path, self.root)
        if uri not in self.artifacts:
            self.artifacts[uri] = artifact_of(diagnosis, uri)
        return uri

    def _result(self, diagnosis: Diagnosis, found: Finding, uri: str | None) -> dict[str, Any]:
        return {
            "ruleId": found.code,
            "ruleIndex": self._rule(found),
            "level": found.severity.value,
            "message": {"text": _message(found)},
            "locations": [self._location(diagnosis, uri)],
            "partialFingerprints": self._fingerprints(diagnosis, found, uri),
            "properties": {"certainty": found.certainty.value, "kind": diagnosis.kind.value},
        }

    def _rule(self, found: Finding) -> int:
        order = list(Certainty)
        known = self.least_sure.setdefault(found.code, found.certainty)
        self.least_sure[found.code] = max(known, found.certainty, key=order.index)
        if found.code not in self.codes:
            self.codes.append(found.code)
        return self.codes.index(found.code)

    def _location(self, diagnosis: Diagnosis, uri: str | None) -> dict[str, Any]:
        subject = {"name": diagnosis.subject, "kind": diagnosis.kind.value}
        if uri is None:
            return {"logicalLocations": [subject]}
        index = list(self.artifacts).index(uri)
        physical = {
            "artifactLocation": {**self.artifacts[uri]["location"], "index": index},
            # a binary file has no lines, but code-scanning pages show nothing that has no line
            "region": {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1},
        }
        return {"physicalLocation": physical, "logicalLocations": [subject]}

    def _fingerprints(self, diagnosis: Diagnosis, found: Finding, uri: str | None) -> dict[str, str]:
        """Return what stays the same from run to run: values in the sentence may change, the finding remains."""
        same = "\0".join([found.code, uri or diagnosis.subject, _without_values(found.seen, diagnosis.path)])
        digest = hashlib.sha256(same.encode("utf-8", "backslashreplace")).hexdigest()
        self.alike[digest] += 1
        number = f"{digest[:32]}:{self.alike[digest]}"
        return {"litefleetFinding/v1": number, "primaryLocationLineHash": number}  # GitHub reads the second only


def _message(found: Finding) -> str:
    """Return what was seen and what to do; braces are doubled, since single ones are placeholders in SARIF."""
    seen = found.seen if found.seen.endswith((".", "!", "?", "…")) else f"{found.seen}."
    return f"{seen} {found.entry.do}".replace("{", "{{").replace("}", "}}")


def _without_values(text: str, path: Path | None) -> str:
    text = text.replace(str(path), "FILE") if path else text
    return re.sub(r"\b[0-9a-f]{12,}\b|\d[\d.,]*", "#", text)


def _invocation(exit_code: int, unread: Sequence[str], root: Path) -> dict[str, Any]:
    said = [{"level": "error", "message": {"text": text.replace("{", "{{").replace("}", "}}")}} for text in unread]
    return {
        "executionSuccessful": not unread,
        "exitCode": exit_code,
        "workingDirectory": {"uri": root_uri(root)},
        **({"toolExecutionNotifications": said} if said else {}),
    }


def _harmless(text: str) -> str:
    """Return the document without lone surrogates, which names that are not UTF-8 have and JSON must not."""
    return "".join(f"\\\\x{ord(c) & 0xFF:02x}" if "\ud800" <= c <= "\udfff" else c for c in text)
