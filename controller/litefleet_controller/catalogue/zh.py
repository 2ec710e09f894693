"""The catalogue in Chinese: one entry for every code, and the words that stand around them."""

from __future__ import annotations

from collections.abc import Mapping

from .details import Zh, read_texts

ZH: Mapping[str, Zh] = {code: Zh(**texts) for code, texts in read_texts(".zh").items()}

HEADINGS_ZH: Mapping[str, str] = {
    "findings": "发现一览",
    "code": "代码",
    "title": "名称",
    "symptoms": "现象",
    "example": "消息示例",
    "why": "原因",
    "do": "处理办法",
    "detected": "检测方法",
    "certainty": "把握程度",
    "severity": "严重程度",
    "verdict": "判定",
    "references": "参考资料",
    "generated": "由 litefleet 的发现目录生成，请勿手工修改。",
    "decides": "错误决定设备的判定；警告和说明只是附带给出。",
    "possible-weighs-less": "把握程度仅为“可能”的发现，严重程度降低一级。",
    "same": "`litefleet explain CODE --lang zh` 显示同样的内容。",
    "index": "全部发现",
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
