"""The reference of the command line, from the program's own parser: in both languages, as `--help` says it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from litefleet_controller.catalogue.language import choose
from litefleet_controller.catalogue.translate import tr
from litefleet_controller.cli import app
from litefleet_controller.cli.help import OTHER, SECTIONS, paragraphs_of

from .markdown import Lang, code, page_name, paragraphs, table

_WORDS = {
    Lang.EN: (
        "Command line",
        "Generated from the program; `litefleet COMMAND --help` says the same. Every command also takes `--help`.",
        ("option", "default", "does"),
        ("argument", "is"),
    ),
    Lang.ZH: (
        "命令行",
        "由程序生成；`litefleet COMMAND --help` 显示相同内容。每条命令都有 `--help`。",
        ("选项", "默认值", "作用"),
        ("参数", "含义"),
    ),
}


def cli_pages() -> dict[str, str]:
    """Return the page of all commands in each language, by its name."""
    made = {}
    for lang in Lang:
        choose(lang.value)
        try:
            made[page_name("reference/cli", lang)] = _page(lang)
        finally:
            choose(None)
    return made


def _page(lang: Lang) -> str:
    title, note, _, _ = _WORDS[lang]
    group: Any = typer.main.get_command(app)
    commands: dict[str, Any] = {name: one for name, one in group.commands.items() if not one.hidden}
    listed = {name for names in SECTIONS.values() for name in names}
    sections = {**SECTIONS, OTHER: tuple(name for name in commands if name not in listed)}
    parts = [f"# {title}", note]
    parts += [part for part in _options(group, lang) if part]
    for section, names in sections.items():
        here = [name for name in names if name in commands]
        if here:
            parts.append(f"## {tr(section)}")
            parts += [part for name in here for part in _command(name, commands[name], lang)]
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: Any, lang: Lang) -> Iterator[str]:
    yield f"### `litefleet {name}` {{ #{name} }}"
    for text in paragraphs_of(command.help or ""):
        yield from paragraphs(tr(text))
    yield from filter(None, _options(command, lang))


def _options(command: Any, lang: Lang) -> list[str]:
    """Return the tables of a command's arguments and options."""
    _, _, option_heads, argument_heads = _WORDS[lang]
    context = typer.Context(command)
    shown = [one for one in command.params if not getattr(one, "hidden", False) and "--help" not in one.opts]
    arguments = [[code(_argument(one)), _help(one)] for one in shown if one.param_type_name == "argument"]
    options = [
        [code(one.get_help_record(context)[0]), code(_default(one)), _help(one)]
        for one in shown
        if one.param_type_name == "option"
    ]
    return [table(argument_heads, arguments), table(option_heads, options)]


def _help(parameter: Any) -> str:
    return " ".join(paragraphs(tr(" ".join((getattr(parameter, "help", None) or "").split()))))


def _argument(argument: Any) -> str:
    name = str(argument.metavar or argument.name.upper())
    return name + ("..." if argument.nargs == -1 and "..." not in name else "")


def _default(option: Any) -> str:
    """Return an option's default where a person would have to type it."""
    value = option.default
    if value is None or callable(value) or isinstance(value, bool) or value in ("", [], ()):
        return ""
    return str(getattr(value, "value", value))
