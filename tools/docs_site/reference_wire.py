"""The reference of the wire format, from the code of both ends: frames, requests, and the service's events and metrics."""

from __future__ import annotations

import inspect
import re
from typing import Any

from litefleet_agent import protocol
from litefleet_agent.service.metrics import METRICS
from litefleet_agent.service.systemd import MESSAGE_IDS
from litefleet_agent.session import requests
from litefleet_agent.session.server import Session

from .markdown import Lang, code, page_name, paragraphs, table

_WORDS = {
    Lang.EN: {
        "title": "Wire format",
        "note": "Generated from the code of both ends. What each part means, and what old agents and new controllers do "
        "together, is in [Protocol and storage](../protocol.md); "
        "the requests of applications are in [the service](../service.md#the-wire).",
        "frames": "Frames",
        "heads": ("limit", "bytes"),
        "prefix": "prefix: magic `LFF1`, u32 header length, u64 body length, big-endian",
        "header": "header: a UTF-8 JSON object, at most",
        "body": "body, at most",
        "requests": "Requests of a controller",
        "request_heads": ("`op`", "fields of the request -> of the result"),
        "metrics": "Metrics of the service",
        "metric_heads": ("name", "meaning"),
        "events": "Events of the service",
        "event_heads": ("kind", "systemd's MESSAGE_ID"),
    },
    Lang.ZH: {
        "title": "线路格式",
        "note": "由两端的代码生成，说明为代码中的英文。各部分的含义，以及旧 agent 与新控制器如何配合，"
        "见[协议与存储](../protocol.md)；应用程序的请求见[服务](../service.md)。",
        "frames": "帧",
        "heads": ("限制", "字节"),
        "prefix": "前缀：`LFF1`、u32 头长度、u64 正文长度，大端",
        "header": "头：UTF-8 JSON 对象，至多",
        "body": "正文，至多",
        "requests": "控制器的请求",
        "request_heads": ("`op`", "请求的字段 -> 结果的字段"),
        "metrics": "服务的指标",
        "metric_heads": ("名称", "含义"),
        "events": "服务的事件",
        "event_heads": ("种类", "systemd 的 MESSAGE_ID"),
    },
}
_OPERATION = re.compile(r'"(\w+)": self\.(_\w+)')


def wire_pages() -> dict[str, str]:
    """Return the page of the wire format in each language, by its name."""
    return {page_name("reference/wire", lang): _page(lang) for lang in Lang}


def operations() -> dict[str, Any]:
    """Return the agent's function for each request of a controller, in the order in which the agent lists them."""
    own = _OPERATION.findall(inspect.getsource(Session.__init__))
    return {op: getattr(Session, method) for op, method in own} | dict(requests.OPERATIONS)


def _page(lang: Lang) -> str:
    words: Any = _WORDS[lang]
    limits = [
        (words["prefix"], str(protocol.PREFIX_SIZE)),
        (words["header"], str(protocol.MAX_HEADER)),
        (words["body"], str(protocol.MAX_BODY)),
    ]
    asked = [(code(op), " ".join(paragraphs(_first(function)))) for op, function in operations().items()]
    parts = [f"# {words['title']}", words["note"], f"## {words['frames']}", table(words["heads"], limits)]
    parts += [f"## {words['requests']}", table(words["request_heads"], asked)]
    metrics = [(code(f"litefleet_{name}"), meaning) for name, meaning in METRICS.items()]
    parts += [f"## {words['metrics']}", table(words["metric_heads"], metrics)]
    events = [(code(kind), code(identity)) for kind, identity in MESSAGE_IDS.items()]
    parts += [f"## {words['events']}", table(words["event_heads"], events)]
    return "\n\n".join(parts) + "\n"


def _first(function: Any) -> str:
    """Return a docstring's first paragraph."""
    return inspect.cleandoc(function.__doc__ or "").split("\n\n")[0]
