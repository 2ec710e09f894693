"""Loads litefleet.yaml and reports all of its problems at once, each with file, line and key."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ..common.errors import ConfigError
from ..common.text import sanitize
from .choices import PUBLISHED_PYTHONS, RuntimeChoice, split_targets, versions_with_target
from .document import read_document
from .model import Config, ConvertOptions, Gates, ModelConfig, SshConfig, ToleranceConfig, VerifyConfig, known_keys

__all__ = [
    "Config",
    "ConvertOptions",
    "Gates",
    "ModelConfig",
    "SshConfig",
    "ToleranceConfig",
    "VerifyConfig",
    "config_schema",
    "load_config",
    "parse_config",
    "runtimes_for",
]


def load_config(path: Path) -> Config:
    """Return the configuration in a file, its paths made relative to that file's folder.

    Raises: ConfigError with every problem at once, each as 'FILE:LINE: WHERE: what is wrong'.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            [f"{path} is missing: write one, or name it with -c (`litefleet demo` makes one)."]
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path} cannot be read: {error}"]) from error
    return parse_config(text, path)


def parse_config(text: str, path: Path) -> Config:
    """Return the configuration that a text holds, as if it were the file's content.  Raises: as `load_config`."""
    document = read_document(text, str(path))
    if document.problems:
        raise ConfigError([str(problem) for problem in document.problems])
    try:
        value = {} if document.value is None else document.value
        config = Config.model_validate(value, context={"base": path.resolve().parent})
    except ValidationError as error:
        places = [(_written_place(e["loc"], value), e) for e in error.errors()]
        lines = sorted((document.line(loc), sanitize(_sentence(loc, e), 2000)) for loc, e in places)
        raise ConfigError([f"{path}:{line}: {message}" for line, message in dict.fromkeys(lines)]) from error
    if missing := _unknown_to_converters(config):
        raise ConfigError([f"{path}:{document.line(place)}: {message}" for place, message in missing])
    return config


def _unknown_to_converters(config: Config) -> list[tuple[tuple[str, ...], str]]:
    """Return (place, sentence) for each target that no configured version's converter knows."""
    versions = (config.toolchain.paddlelite, *config.toolchain.also)
    if not set(versions) <= set(PUBLISHED_PYTHONS):
        return []  # the targets of an unpublished converter are unknown
    found: list[tuple[tuple[str, ...], str]] = []
    for model, configured in config.models.items():
        for arch, targets in configured.targets.items():
            place = ("models", model, "targets", arch)
            for name in split_targets(targets):
                known = versions_with_target(name)
                if not set(versions) & set(known):
                    observed = f"the converter of Paddle-Lite {' and '.join(versions)} has no target '{name}'"
                    remedy = f"write `toolchain: {{paddlelite: {known[0]}}}`, whose converter has it"
                    found.append((place, f"{'.'.join(place)}: {observed}; {remedy}"))
    return found


def config_schema() -> dict[str, object]:
    """Return litefleet.yaml's JSON schema."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "litefleet.yaml"}


def runtimes_for(config: Config, arch: str, name: str = "") -> tuple[RuntimeChoice, ...]:
    """Return the runtimes that a device may get: those under the name that it has, its architecture's, or the published wheels.

    Raises: ConfigError for a name that `runtimes:` lacks.
    """
    if name and name != "system" and name not in config.runtimes:
        raise ConfigError(
            [f"runtime '{name}' is not under `runtimes:` in litefleet.yaml{_nearest(name, config.runtimes)}"]
        )
    if name == "system" and name not in config.runtimes:
        return (RuntimeChoice("system"),)
    version = config.toolchain.paddlelite
    named = config.runtimes.get(name or arch)
    return tuple(one.choice(version) for one in named) if named else (RuntimeChoice(paddlelite=version),)


def _nearest(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for a similar name, else the list of known ones."""
    near = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f"; did you mean '{near[0]}'?" if near else f"; known are: {', '.join(known) or 'none'}"


def _written_place(loc: tuple[str | int, ...], value: object) -> tuple[str | int, ...]:
    """Return an error's place as the file has it: a runtime that is written alone has no number."""
    if loc[:1] != ("runtimes",) or loc[2:3] != (0,) or not isinstance(value, dict):
        return loc
    named = value["runtimes"]
    return loc if isinstance(named, dict) and isinstance(named.get(loc[1]), list) else (*loc[:2], *loc[3:])


def _sentence(place: tuple[str | int, ...], error: ErrorDetails) -> str:
    """Return one of pydantic's errors as a sentence that begins with its place."""
    loc = [part for part in place if part != "[key]"]
    where = ".".join(str(part) for part in loc)
    kind, got = error["type"], error.get("input")
    if kind == "extra_forbidden":
        parent = ".".join(str(part) for part in loc[:-1])
        return (
            f"unknown key '{loc[-1]}'{f' in {parent}' if parent else ''}{_nearest(str(loc[-1]), known_keys(loc[:-1]))}"
        )
    if kind == "missing":
        return f"{where}: is missing"
    if kind == "value_error":
        message = str(error["ctx"]["error"])
        return f"{where}: {message}" if where else message
    message = _PLAIN.get(kind) or error["msg"].removeprefix("Input ").lower()
    shown = getattr(got, "text", got)
    return f"{where or 'the file'}: {message} (it is {shown!r})"


_PLAIN = {
    "int_parsing": "should be a whole number",
    "int_type": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
    "string_type": "should be a text",
    "bool_parsing": "should be true or false",
    "bool_type": "should be true or false",
    "model_type": "should be a mapping (`key: value`)",
    "dict_type": "should be a mapping (`key: value`)",
    "tuple_type": "should be a list",
    "path_type": "should be a path",
    "too_short": "should not be empty",
    "string_too_short": "should not be empty",
}
