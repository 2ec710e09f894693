"""Draws the picture of the architecture, in both languages, as SVG in docs/pictures; the layers are those that are checked.

`python -m tools.docs_site.diagram` writes it again: the layers come from the import rules in pyproject.toml.
"""

from __future__ import annotations

import html
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from .markdown import Lang

ROOT = Path(__file__).resolve().parents[2]
_ROW, _GAP = 30, 7  # of a layer's box
_STEP = _ROW + _GAP
_TOP = 140  # of the first layer
_LEFT, _WIDE = 190, 330  # the controller's boxes
_DEVICE, _NARROW = 688, 240  # the agent's boxes
_WIDTH, _LEGEND = 1130, 27

_WORDS = {
    Lang.EN: {
        "title": "Packages, layers, and the way of a release",
        "operator": "operator's machine",
        "device": "device",
        "api": "litefleet: public Python API",
        "controller": "litefleet_controller, top layer first",
        "agent": "litefleet_agent, top layer first",
        "source": ("model", "folder"),
        "state": ("state", "database"),
        "child": ("child process", "with Paddle-Lite"),
        "application": ("application",),
        "steps": (
            "convert, add goldens and runtime",
            "release: manifest and files",
            "commit each state",
            "deliver over SSH",
            "LFF1 frames",
            "verify",
            "activate under a lease, then confirm",
        ),
    },
    Lang.ZH: {
        "title": "包、层次，以及一个发布的路径",
        "operator": "操作者的机器",
        "device": "设备",
        "api": "litefleet：公开的 Python API",
        "controller": "litefleet_controller，上层在前",
        "agent": "litefleet_agent，上层在前",
        "source": ("模型", "文件夹"),
        "state": ("状态", "数据库"),
        "child": ("运行 Paddle-Lite", "的子进程"),
        "application": ("应用程序",),
        "steps": (
            "转换，加参考输出和运行库",
            "发布：清单和文件",
            "提交每个状态",
            "经 SSH 交付",
            "LFF1 帧",
            "验证",
            "在租约之下启用，再确认",
        ),
    },
}
_STYLE = (
    "text{font:14px system-ui,-apple-system,'Segoe UI','Noto Sans','Noto Sans CJK SC','Microsoft YaHei',sans-serif;fill:#1a1f28}"
    ".area{fill:#f5f6f8;stroke:#c3c9d3}.part{fill:#fff;stroke:#c3c9d3}.box{fill:#e6f2f1;stroke:#5f9c97}"
    ".thing{fill:#fff3dc;stroke:#c08a2b}.head{font-weight:600}.small{font-size:13px;fill:#4b5360}"
    ".way{fill:none;stroke:#1d55a0;stroke-width:2}.may{fill:none;stroke:#8a93a1;stroke-width:1.2}"
    ".spot{fill:#1d55a0}.number{fill:#fff;font-size:12px;font-weight:600}"
)


class Box(NamedTuple):
    """A rectangle, in the picture's units."""

    x: float
    y: float
    width: float
    height: float = _ROW

    @property
    def middle(self) -> float:
        """The height of its middle."""
        return self.y + self.height / 2


def layers() -> dict[str, list[str]]:
    """Return the layers of both large packages, the top one first, as the import rules name them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rules = project["tool"]["importlinter"]["contracts"]
    found = {rule["containers"][0]: rule["layers"] for rule in rules if rule["type"] == "layers"}
    return {
        package: [", ".join(one.strip(" ()") for one in layer.split("|")) for layer in named]
        for package, named in found.items()
    }


def pictures() -> dict[str, str]:
    """Return each picture by its file's name."""
    return {f"architecture{'' if lang is Lang.EN else '-zh'}.svg": _picture(lang) for lang in Lang}


def _picture(lang: Lang) -> str:
    words = _WORDS[lang]
    known = layers()
    ours = {name: Box(_LEFT, _TOP + n * _STEP, _WIDE) for n, name in enumerate(known["litefleet_controller"])}
    theirs = {name: Box(_DEVICE, _TOP + n * _STEP, _NARROW) for n, name in enumerate(known["litefleet_agent"])}
    low = _TOP + len(ours) * _STEP
    height = low + 80 + _LEGEND * 4
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" role="img">',
        f"<title>{html.escape(str(words['title']))}</title><style>{_STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L10 5L0 10z" fill="#1d55a0"/></marker><marker id="may" viewBox="0 0 10 10" refX="9" refY="5" '
        'markerWidth="7" markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="#8a93a1"/></marker></defs>',
        f'<rect width="{_WIDTH}" height="{height:g}" rx="8" fill="#fff"/>',
        *_areas(words, low),
        *(_layer(name, box) for boxes in (ours, theirs) for name, box in boxes.items()),
        *(_down(first, second) for boxes in (ours, theirs) for first, second in _pairs(list(boxes.values()))),
        *_ways(words, ours, theirs, low),
        *_legend(words["steps"], low + 85),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _areas(words: Mapping[str, object], low: float) -> Iterator[str]:
    """Draw the machines, and the packages in them."""
    yield _rect(Box(12, 12, 600, low + 50), "area") + _text(26, 36, words["operator"], "head")
    yield _rect(Box(640, 12, _WIDTH - 652, low + 50), "area") + _text(654, 36, words["device"], "head")
    api = Box(_LEFT - 16, 50, _WIDE + 32, 32)
    yield _rect(api, "box") + _text(api.x + api.width / 2, api.middle + 5, words["api"], "", "middle")
    yield _rect(Box(_LEFT - 16, 98, _WIDE + 32, low - 92), "part") + _text(_LEFT, 124, words["controller"], "head")
    yield _rect(Box(_DEVICE - 16, 98, _NARROW + 32, low - 92), "part") + _text(_DEVICE, 124, words["agent"], "head")


def _ways(words: Mapping[str, object], ours: dict[str, Box], theirs: dict[str, Box], low: float) -> Iterator[str]:
    """Draw what travels, with a number for each step, and which package imports the inventory and the controller."""
    build, engine = _with(ours, "build"), _with(ours, "rollout_engine")
    devices, operations = _with(ours, "devices"), _with(ours, "operations")
    session, child = _with(theirs, "session"), _with(theirs, "verification")
    releases = _with(theirs, "releases")
    source, state = Box(28, build.y - 2, 100, 44), Box(28, engine.y - 62, 100, 44)
    inventory = Box(22, low - 8, 142, 32)
    right, edge = _LEFT + _WIDE, _LEFT + _WIDE + 16
    yield _thing(source, words["source"]) + _thing(state, words["state"])
    yield _rect(inventory, "box") + _text(inventory.x + 71, inventory.middle + 5, "litefleet_inventory", "", "middle")
    yield _line(f"M{_LEFT} {devices.middle + 8:g}H146V{low - 10:g}", "may")
    yield _line(f"M{edge} 66H{edge + 34}V{operations.middle:g}H{right + 3}", "may")
    yield _line(f"M128 {build.middle:g}H{_LEFT - 2}", "way") + _spot(156, build.middle, 1)
    yield _line(f"M{right} {build.middle:g}H{edge + 22}V{engine.middle + 7:g}H{right + 3}", "way")
    yield _spot(edge + 22, (build.middle + engine.middle) / 2 + 3, 2)
    yield _line(f"M{_LEFT} {engine.middle:g}H78V{state.y + 46:g}", "way") + _spot(120, engine.middle, 3)
    yield _line(f"M{right} {engine.middle - 7:g}H{edge + 48}V{devices.middle - 8:g}H{right + 3}", "way")
    yield _spot(edge + 48, build.middle + 12, 4)
    yield _line(f"M{right} {devices.middle + 5:g}H632V{session.middle:g}H{_DEVICE - 3}", "way") + _spot(632, 300, 5)
    process, application = Box(974, child.y - 8, 132, 46), Box(974, releases.y + 16, 132, 40)
    yield _thing(process, words["child"]) + _thing(application, words["application"])
    yield _line(f"M{_DEVICE + _NARROW} {child.middle:g}H971", "way") + _spot(946, child.middle, 6)
    yield _line(f"M{_DEVICE + _NARROW} {releases.middle:g}H946V{application.middle:g}H971", "way")
    yield _spot(946, releases.middle + 12, 7)


def _legend(steps: object, top: float) -> Iterator[str]:
    assert isinstance(steps, tuple)
    for number, text in enumerate(steps, 1):
        x, y = 34 + 560 * ((number - 1) // 4), top + _LEGEND * ((number - 1) % 4)
        yield _spot(x, y - 5, number) + _text(x + 18, y, text, "small")


def _with(boxes: dict[str, Box], name: str) -> Box:
    return next(box for layer, box in boxes.items() if name in layer.split(", "))


def _pairs(boxes: Sequence[Box]) -> Iterator[tuple[Box, Box]]:
    return pairwise(boxes)


def _layer(name: str, box: Box) -> str:
    return _rect(box, "box") + _text(box.x + box.width / 2, box.middle + 5, name, "", "middle")


def _down(first: Box, second: Box) -> str:
    x = first.x + first.width / 2
    return _line(f"M{x:g} {first.y + first.height:g}V{second.y:g}", "may")


def _thing(box: Box, lines: object) -> str:
    assert isinstance(lines, tuple)
    top = box.middle + 5 - 8.5 * (len(lines) - 1)
    shown = (_text(box.x + box.width / 2, top + 17 * n, line, "", "middle") for n, line in enumerate(lines))
    return _rect(box, "thing") + "".join(shown)


def _rect(box: Box, kind: str) -> str:
    return f'<rect class="{kind}" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="5"/>'


def _text(x: float, y: float, text: object, kind: str = "", anchor: str = "") -> str:
    about = (f' class="{kind}"' if kind else "") + (f' text-anchor="{anchor}"' if anchor else "")
    return f'<text x="{x:g}" y="{y:g}"{about}>{html.escape(str(text))}</text>'


def _line(path: str, kind: str) -> str:
    return f'<path class="{kind}" d="{path}" marker-end="url(#{"tip" if kind == "way" else "may"})"/>'


def _spot(x: float, y: float, number: int) -> str:
    return f'<circle class="spot" cx="{x:g}" cy="{y:g}" r="9"/>' + _text(x, y + 4.5, number, "number", "middle")


def main() -> None:
    """Write the pictures."""
    for name, text in pictures().items():
        (ROOT / "docs" / "pictures" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
