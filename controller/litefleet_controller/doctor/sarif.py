"""Diagnoses as SARIF 2.1.0, the format that code-scanning pages and editors read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_from_bytes

from litefleet_agent.findings import CATALOGUE, Certainty, Entry, Finding, Severity

from .. import __version__
from ..catalogue.articles import advice, title_of
from ..catalogue.language import Lang, current_lang, in_lang
from ..catalogue.translate import tr, translated_sentence
from ..common.files import sha256_of
from .diagnosis import Diagnosis, Kind, exit_code_of

ROOT_NAME = "%SRCROOT%"  # the conventional name of the scanned root
_MOST = 2 << 30  # bytes; a larger file's hash is left out


def root_uri(root: Path) -> str:
    """Return a folder's URI, with the final slash that SARIF requires."""
    return root.as_uri().rstrip("/") + "/"


def relative_uri(path: Path, root: Path) -> str:
    """Return a percent-encoded URI: relative inside `root`, else `file:///...`; a folder's ends with a slash."""
    absolute = Path(os.path.normpath(root / path))
    inside = _inside(absolute, root) or _inside(Path(os.path.realpath(absolute)), Path(os.path.realpath(root)))
    uri = _quoted(inside) if inside is not None else absolute.as_uri()
    folder = os.path.isdir(absolute)  # noqa: PTH112  (Path.is_dir raises for names that are too long)
    return uri.rstrip("/") + "/" if folder else uri


def artifact_of(diagnosis: Diagnosis, uri: str) -> dict[str, object]:
    """Return SARIF's artifact for the file or folder that a diagnosis is of, with size and SHA-256 when they are available."""
    path = diagnosis.path
    location = _location_of(uri)
    if path is None or uri.endswith("/"):
        return {"location": location, "roles": ["analysisTarget", "directory"]}
    known = diagnosis.data.get("sha256") if diagnosis.kind is Kind.NB else None
    size, digest = _measured(path, known if isinstance(known, str) else None)
    return {
        "location": location,
        "roles": ["analysisTarget"],
        **({"length": size} if size is not None else {}),
        **({"hashes": {"sha-256": digest}} if digest else {}),
    }


def _location_of(uri: str) -> dict[str, str]:
    return {"uri": uri} if uri.startswith("file:") else {"uri": uri, "uriBaseId": ROOT_NAME}


def _inside(path: Path, root: Path) -> Path | None:
    return path.relative_to(root) if path.is_relative_to(root) and path != root else None


def _quoted(path: Path) -> str:
    return quote_from_bytes(os.fsencode(path.as_posix()), safe="/")


def _measured(path: Path, known: str | None) -> tuple[int | None, str | None]:
    """Return a file's size and SHA-256, None for unavailable ones."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            return None, known
        if known or about.st_size > _MOST:
            return about.st_size, known
        return about.st_size, sha256_of(path)
    except OSError:
        return None, known


_MOST_RULES = 1024  # characters of a description that GitHub accepts
_PRECISION = {Certainty.CERTAIN: "very-high", Certainty.LIKELY: "high", Certainty.POSSIBLE: "medium"}
_PROBLEM = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "recommendation"}


_MARKDOWN = "**Why.** {why}\n\n**What to do.** {do}\n\n`litefleet explain {code}` has the steps."


def rule_of(entry: Entry, certainty: Certainty) -> dict[str, object]:
    """Return the rule for a catalogue's row; `certainty` is that of the least sure finding in this run."""
    words = entry.slug.split("-")
    why, do = advice(entry.code)
    return {
        "id": entry.code,
        "name": "".join(word[:1].upper() + word[1:] for word in words),
        "shortDescription": {"text": in_lang(f"{' '.join(words).capitalize()}.", f"{title_of(entry.code)}。")},
        "fullDescription": {"text": _bounded(why)},
        "help": {
            "text": tr("Why: {why}\n\nWhat to do: {do}", why=why, do=do),
            "markdown": tr(_MARKDOWN, why=why, do=do, code=entry.code),
        },
        "defaultConfiguration": {"level": entry.severity.value},
        "properties": {
            "precision": _PRECISION[certainty],
            "problem.severity": _PROBLEM[entry.severity],
            "tags": ["paddle-lite"],
        },
    }


def _bounded(text: str) -> str:
    return text if len(text) <= _MOST_RULES else text[: _MOST_RULES - 1] + "…"


SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def to_sarif(diagnoses: Sequence[Diagnosis], exit_code: int | None = None, unread: Sequence[str] = ()) -> str:
    """Return one SARIF run with a final newline; paths are given relative to the working directory.

    `exit_code` is the program's where it is not `exit_code_of(diagnoses)`; `unread` holds a sentence for each thing that
    could not be read.  Files that disappear raise nothing: their hashes are omitted.
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
    artifacts: dict[str, dict[str, object]] = field(default_factory=dict)  # by URI, in order
    results: list[dict[str, object]] = field(default_factory=list)
    reported: set[tuple[str, str, str]] = field(default_factory=set)
    alike: Counter[str] = field(default_factory=Counter)

    def add_all(self, diagnoses: Sequence[Diagnosis]) -> None:
        """Add each diagnosis with its findings; a file judged twice says the same thing once."""
        for diagnosis in diagnoses:
            uri = self._artifact(diagnosis)
            for found in diagnosis.ranked:
                key = (found.code, uri or diagnosis.subject, found.observed)
                if key not in self.reported:
                    self.reported.add(key)
                    self.results.append(self._result(diagnosis, found, uri))

    def to_dict(self, exit_code: int, unread: Sequence[str]) -> dict[str, object]:
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
            "language": "en-US" if current_lang() is Lang.EN else "zh-CN",
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

    def _result(self, diagnosis: Diagnosis, found: Finding, uri: str | None) -> dict[str, object]:
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

    def _location(self, diagnosis: Diagnosis, uri: str | None) -> dict[str, object]:
        subject = {"name": diagnosis.subject, "kind": diagnosis.kind.value}
        if uri is None:
            return {"logicalLocations": [subject]}
        index = list(self.artifacts).index(uri)
        physical = {
            "artifactLocation": {**_location_of(uri), "index": index},
            # a binary file has no lines, but code-scanning pages show nothing that has no line
            "region": {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1},
        }
        return {"physicalLocation": physical, "logicalLocations": [subject]}

    def _fingerprints(self, diagnosis: Diagnosis, found: Finding, uri: str | None) -> dict[str, str]:
        """Return what stays the same from run to run: values in the sentence may change, the finding remains."""
        same = "\0".join([found.code, uri or diagnosis.subject, _without_values(found.observed, diagnosis.path)])
        digest = hashlib.sha256(same.encode("utf-8", "backslashreplace")).hexdigest()
        self.alike[digest] += 1
        number = f"{digest[:32]}:{self.alike[digest]}"
        return {"litefleetFinding/v1": number, "primaryLocationLineHash": number}  # GitHub reads the second only


def _message(found: Finding) -> str:
    """Return the observation and the remedy; braces are doubled, since single ones are placeholders in SARIF."""
    said, stop = translated_sentence(found.observed), in_lang(". ", "。")
    observed = f"{said} " if said.endswith((".", "!", "?", "…", "。", "？")) else f"{said}{stop}"
    return f"{observed}{advice(found.code)[1]}".replace("{", "{{").replace("}", "}}")


def _without_values(text: str, path: Path | None) -> str:
    text = text.replace(str(path), "FILE") if path else text
    return re.sub(r"\b[0-9a-f]{12,}\b|\d[\d.,]*", "#", text)


def _invocation(exit_code: int, unread: Sequence[str], root: Path) -> dict[str, object]:
    reported = [{"level": "error", "message": {"text": text.replace("{", "{{").replace("}", "}}")}} for text in unread]
    return {
        "executionSuccessful": not unread,
        "exitCode": exit_code,
        "workingDirectory": {"uri": root_uri(root)},
        **({"toolExecutionNotifications": reported} if reported else {}),
    }


def _harmless(text: str) -> str:
    """Return the document without lone surrogates, which names that are not UTF-8 have and JSON must not."""
    return "".join(f"\\\\x{ord(c) & 0xFF:02x}" if "\ud800" <= c <= "\udfff" else c for c in text)
