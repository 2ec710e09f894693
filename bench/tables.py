"""Writes the tables of a run into docs/performance.md, between its marks, in both languages.

    python -m bench.tables RESULTS.json docs/performance.md docs/performance.zh.md

A table stands between `<!-- table NAME -->` and `<!-- end -->`; what was not measured is named below the tables.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from bench.results import Figures, Results, all_cpu, median_of

BASE = "litefleet transport"
_MARK = re.compile(r"(<!-- table ([a-z]+(?: \d+)?) -->\n).*?(<!-- end -->)", re.DOTALL)
_CHINESE = {
    "litefleet rollout": "litefleet rollout",
    "wall s": "耗时（秒）",
    "CPU s": "CPU（秒）",
    "CPU s of children": "子进程 CPU（秒）",
    "CPU ms a device": "每台设备 CPU（毫秒）",
    "round trips": "往返次数",
    "bytes sent": "发送字节数",
    "peak MB": "峰值内存（MB）",
    "runs": "次数",
    "tool": "工具",
    "line": "线路",
    "state": "状态",
    "fastest other / litefleet": "最快的其他工具 / litefleet",
    "full: wall s": "全量：耗时（秒）",
    "devices' CPU s": "设备 CPU（秒）",
    "no-op: wall s": "无事可做：耗时（秒）",
    "no-op: CPU s": "无事可做：CPU（秒）",
    "MB sent, no-op kB": "发送 MB，无事可做 kB",
    "devices": "设备数",
    "proofs alone, s": "仅验证（秒）",
    "transport alone, s": "仅传输（秒）",
    "rollout, s": "rollout（秒）",
    "rollout / (proofs + transport)": "rollout /（验证 + 传输）",
    "full job": "全量",
    "no-op job": "无事可做",
    "with runtime bundle": "携带运行库",
    "proofs alone": "仅验证",
    "Not measured": "未测量",
    "Measured at commit": "测量所用提交",
}


def _words(chinese: bool) -> Callable[[str], str]:
    return (lambda text: _CHINESE[text]) if chinese else str


def _head(columns: list[str], chinese: bool) -> list[str]:
    said = _words(chinese)
    return [f"| {' | '.join(map(said, columns))} |", "|---" * len(columns) + "|"]


def rollout_table(results: Results, chinese: bool = False) -> str:
    """Return the whole job's figures as Markdown."""
    said = _words(chinese)
    columns = ["litefleet rollout", "wall s", "CPU s", "CPU s of children", "CPU ms a device", "round trips"]
    lines = _head([*columns, "bytes sent", "peak MB", "runs"], chinese)
    for name, figures in results.rollouts.items():
        kind, _, count = name.partition(", N=")
        wall, cpu, children, peak = (
            median_of(figures, lambda f, k=k: float(f[k])) for k in ("wall", "cpu", "children", "peak_mb")
        )
        trips = "–".join(str(t) for t in figures[0].get("round_trips", ())) or "–"
        sent = f"{median_of(figures, lambda f: f['sent_bytes']):,.0f}" if "sent_bytes" in figures[0] else "–"
        cells = [f"{wall:.2f}", f"{cpu:.2f}", f"{children:.2f}", f"{1000 * cpu / int(count):.1f}", trips, sent]
        lines.append(f"| {said(kind)}, N={count} | {' | '.join(cells)} | {peak:.0f} | {len(figures)} |")
    return "\n".join(lines)


def proof_table(results: Results, chinese: bool = False) -> str:
    """Return the whole job's wall beside that of its proofs alone and of the transport's own no-op, as Markdown."""
    columns = ["devices", "proofs alone, s", "transport alone, s", "rollout, s", "rollout / (proofs + transport)"]
    lines = _head(columns, chinese)
    for name, figures in results.rollouts.items():
        if not name.startswith("full job, N="):
            continue
        count = int(name.partition("N=")[2])
        proofs = results.rollouts.get(f"proofs alone, N={count}", [])
        idles = results.pushes.get(count, {}).get(BASE, ([], []))[1]
        full = median_of(figures, _wall)
        alone = median_of(proofs, _wall) if proofs else None
        sent = median_of(idles, _wall) if idles else None
        ratio = f"{full / (alone + (sent or 0.0)):.2f}" if alone else "–"
        lines.append(f"| {count} | {_cell(alone)} | {_cell(sent)} | {full:.2f} | {ratio} |")
    return "\n".join(lines)


def push_table(results: Results, count: int, chinese: bool = False) -> str:
    """Return the push comparison for one fleet size as Markdown, with ratios to litefleet's transport."""
    tools = results.pushes.get(count, {})
    columns = ["tool", "full: wall s", "CPU s", "devices' CPU s", "no-op: wall s", "no-op: CPU s"]
    lines = _head([*columns, "MB sent, no-op kB", "peak MB", "runs"], chinese)
    base = _cells(*tools[BASE]) if BASE in tools else None
    for tool, (full, idle) in tools.items():
        values = _cells(full, idle)
        row = [
            f"{value:.2f}" + (f" ({value / one:.1f}x)" if one else "")
            for value, one in zip(values, base or [0.0] * len(values), strict=True)
        ]
        sent = "–"
        if full[0].get("bytes") is not None:
            sent = (
                f"{median_of(full, lambda f: f['bytes']) / 1e6:.1f}, {median_of(idle, lambda f: f['bytes']) / 1e3:.0f}"
            )
        peak = median_of(full, lambda f: f["peak_mb"])
        lines.append(f"| {tool} | {' | '.join(row)} | {sent} | {peak:.0f} | {len(full)} |")
    return "\n".join(lines)


def lines_table(results: Results, chinese: bool = False) -> str:
    """Return the pushes over bad lines as Markdown, with the ratio of the fastest other tool to litefleet."""
    tools = list(results.lines[0]["tools"])
    said = _words(chinese)
    rows = [f"| {said('line')} | {said('state')} | {' | '.join(tools)} | {said('fastest other / litefleet')} |"]
    rows.append("|---|---|" + "---|" * (len(tools) + 1))
    for one in results.lines:
        found = one["tools"]
        ratio = min(found[tool][0] for tool in tools if tool != "litefleet") / found["litefleet"][0]
        cells = [f"{seconds:.2f} s, {size / 1e3:.0f}, {turns}" for seconds, size, turns in map(found.get, tools)]
        rows.append(f"| {one['line']} | {one['state']} | {' | '.join(cells)} | {ratio:.2f} |")
    return "\n".join(rows)


def _cells(full: list[Figures], idle: list[Figures]) -> list[float]:
    fulls = [median_of(full, key) for key in (_wall, all_cpu, lambda f: f["device_cpu"])]
    return [*fulls, median_of(idle, _wall), median_of(idle, all_cpu)]


def _wall(figures: Figures) -> float:
    return float(figures["wall"])


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _machine(results: Results, chinese: bool) -> str:
    return f"{results.machine}. {_words(chinese)('Measured at commit')}: {results.commit or '–'}."


def _left_out(results: Results, chinese: bool) -> str:
    """Return what was not measured, each with the first line of the reason."""
    said = _words(chinese)
    named = [f"{what} ({why.splitlines()[0][:160]})" for what, why in results.left_out.items() if why]
    return f"{said('Not measured')}: {'; '.join(named) or '–'}."


def tables(results: Results, chinese: bool) -> Mapping[str, str]:
    """Return the text of every mark that the figures can fill; what was not measured at all is not in it."""
    found = {"machine": _machine(results, chinese), "missing": _left_out(results, chinese)}
    if results.rollouts:
        found |= {"rollout": rollout_table(results, chinese), "proofs": proof_table(results, chinese)}
    if results.lines:
        found["lines"] = lines_table(results, chinese)
    return found | {f"push {count}": push_table(results, count, chinese) for count, t in results.pushes.items() if t}


def filled(page: str, texts: Mapping[str, str]) -> str:
    """Return a page with the marked tables replaced by those of `texts`; the others stay."""
    return _MARK.sub(lambda m: f"{m[1]}{texts[m[2]]}\n{m[3]}" if m[2] in texts else m[0], page)


def main() -> None:
    """Read the figures and write the pages."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    results = Results.read(Path(sys.argv[1]))
    for name in sys.argv[2:]:
        page = Path(name)
        page.write_text(
            filled(page.read_text(encoding="utf-8"), tables(results, name.endswith(".zh.md"))), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
