"""The catalogue in Chinese: one entry for every code, and the words that stand around them."""

from __future__ import annotations

from collections.abc import Mapping

from .zh_device import ZH_DEVICE
from .zh_entry import Zh
from .zh_files import ZH_FILES
from .zh_fleet import ZH_FLEET
from .zh_host import ZH_HOST
from .zh_run import ZH_RUN
from .zh_source import ZH_SOURCE

__all__ = ["BLOCKS_ZH", "CERTAINTIES_ZH", "HEADINGS_ZH", "SEVERITIES_ZH", "VERDICTS_ZH", "WHERE_ZH", "ZH", "Zh"]

ZH: Mapping[str, Zh] = {**ZH_FILES, **ZH_SOURCE, **ZH_DEVICE, **ZH_RUN, **ZH_FLEET, **ZH_HOST}

HEADINGS_ZH: Mapping[str, str] = {
    "findings": "发现",
    "code": "代码",
    "title": "名称",
    "symptoms": "人们会看到什么",
    "example": "litefleet 会这样说",
    "seen": "看到了什么",
    "why": "为什么会这样",
    "do": "该怎么做",
    "steps": "步骤",
    "detected": "如何检测",
    "where": "在何处检测",
    "certainty": "把握程度",
    "severity": "轻重",
    "verdict": "判定",
    "references": "参考资料",
    "none": "无",
    "generated": "由 litefleet 的发现目录生成，请勿手工修改。",
    "decides": "错误决定设备的判定；警告和说明只是附带给出。",
    "possible-weighs-less": "把握程度为“可能”的发现，轻重降低一级。",
    "same": "`litefleet explain CODE --lang zh` 显示同样的内容。",
    "index": "全部发现",
    "english": "English",
    "chinese": "中文",
}

SEVERITIES_ZH: Mapping[str, str] = {"note": "说明", "warning": "警告", "error": "错误"}

CERTAINTIES_ZH: Mapping[str, str] = {"certain": "确定", "likely": "很可能", "possible": "可能"}

VERDICTS_ZH: Mapping[str, str] = {
    "verified": "通过验证",
    "refused": "被拒绝",
    "crashed": "崩溃",
    "wrong": "结果错误",
    "slow": "超过限制",
    "unreachable": "无法连接",
    "unsupported": "不受支持",
    "failed": "失败",
}

WHERE_ZH: Mapping[str, str] = {
    "host": "在操作者的机器上",
    "source": "转换之前，读取源模型",
    "conversion": "转换时，由转换器得知",
    "file": "读取文件时：inspect、doctor，以及每次发送之前",
    "contact": "连接设备时",
    "device": "加载模型之前，由设备信息得知",
    "run": "模型在设备上运行时",
    "log": "读取程序最后的输出：`litefleet doctor --log`",
    "release": "查看设备上的发布时",
}

BLOCKS_ZH: Mapping[str, str] = {
    "LF1": ".nb 文件及其面向的机器",
    "LF2": "源模型及其转换",
    "LF3": "设备的环境",
    "LF4": "模型运行时的表现",
    "LF5": "与设备的连接和对话",
    "LF6": "设备上的发布，以及部署",
    "LF7": "操作者的机器",
    "LF9": "其他",
}
