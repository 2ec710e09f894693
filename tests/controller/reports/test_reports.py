"""Reports: exact texts, and nothing a device says reaches a terminal or a browser as anything but text."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litefleet_agent.findings import Verdict, finding
from litefleet_controller.common.text import LINE_LIMIT, sanitize, sanitize_lines
from litefleet_controller.devices.outcome import DeviceOutcome, RunReport, to_json
from litefleet_controller.devices.progress import QuietProgress
from litefleet_controller.reports.html import to_html
from litefleet_controller.reports.latency_plot import latency_plots
from litefleet_controller.reports.progress import LineProgress, LiveProgress
from litefleet_controller.reports.terminal import Page, to_table, wants_color
from litefleet_controller.reports.values import (
    counts_line,
    facts_lines,
    human_bytes,
    human_ms,
    human_seconds,
    latency_of,
    listed,
    shared_findings,
)
from rich.cells import cell_len
from rich.console import Console

from tests.controller.support.finding_lines import finding_lines

LATENCY = {"min": 3.1, "p50": 3.42, "p90": 4.0, "p99": 6.0}
MISMATCH = "99 of 104 kernels are for arm; this device is x86_64"


def outcome(name: str = "cam-01", verdict: Verdict = Verdict.VERIFIED, *codes: str, **more: Any) -> DeviceOutcome:
    seen = {"LF101": MISMATCH, "LF501": "no SSH banner from 10.0.0.9:22 within 10 s"}
    more.setdefault("facts", {"arch": "x86_64", "cpu": {"cores": 4}})
    findings = more.pop("findings", tuple(finding(code, seen.get(code, code)) for code in codes))
    return DeviceOutcome(name, "cls", verdict, findings, **more)


def report(*outcomes: DeviceOutcome) -> RunReport:
    return RunReport("rollout", "2026-11-23T11:30:00Z", 12.34, outcomes)


def three() -> RunReport:
    good = outcome("cam-01", measurements={"latency_ms": LATENCY}, steps={"verify": 2.0}, sent_bytes=571_000)
    return report(
        good, outcome("cam-02", Verdict.REFUSED, "LF101"), outcome("cam-03", Verdict.UNREACHABLE, "LF501", facts={})
    )


# --- the table


def test_a_c_library_that_was_brought_is_told_in_every_form() -> None:
    facts = {
        "arch": "aarch64",
        "libc": {"kind": "glibc", "version": "2.36"},
        "brought": {"key": "k", "own_libc": "musl"},
    }
    shown = report(outcome("cam-01", facts=facts), outcome("cam-02"), outcome("cam-03", facts=facts))
    words = "in a Python that litefleet brought, with glibc 2.36 (the system has musl): cam-01, cam-03"
    assert words in to_table(shown, 100).split("\n")
    assert words in to_html(shown)
    assert "that litefleet brought" not in to_table(three(), 100)


def test_table_says_who_what_why_and_what_to_do() -> None:
    assert to_table(three(), 100).split("\n") == [
        "device   arch     verdict       why                                                        p50",
        "─" * 94,
        "cam-01   x86_64   verified      outputs match the reference                            3.42 ms",
        "cam-02   x86_64   refused       99 of 104 kernels are for arm; this device is x86_64         –",
        "cam-03   –        unreachable   no SSH banner from 10.0.0.9:22 within 10 s                   –",
        "",
        "LF101 target-mismatch (error, 1 device)",
        "  seen 99 of 104 kernels are for arm; this device is x86_64 — cam-02",
        *finding_lines("LF101"),
        "",
        "LF501 unreachable (error, 1 device)",
        "  seen no SSH banner from 10.0.0.9:22 within 10 s — cam-03",
        *finding_lines("LF501"),
        "",
        "1 verified · 1 refused · 1 unreachable   (rollout, 12.3 s)",
        "",
    ]


def test_wide_table_has_model_bytes_and_seconds() -> None:
    lines = to_table(three(), 140).split("\n")
    assert lines[0].split() == ["device", "arch", "model", "verdict", "why", "p50", "sent", "seconds"]
    assert lines[2].split()[-6:] == ["3.42", "ms", "571", "kB", "2.0", "s"]


def test_two_hundred_devices_share_one_text() -> None:
    text = to_table(report(*(outcome(f"cam-{i:03d}", Verdict.REFUSED, "LF101") for i in range(200))), 100)
    assert text.count("A .nb holds kernels") == 1
    assert "LF101 target-mismatch (error, 200 devices)" in text
    assert " — cam-[000:199]" in text


def test_many_different_sentences_of_one_code_are_gathered() -> None:
    several = [
        outcome(f"d{i}", Verdict.UNREACHABLE, findings=(finding("LF501", f"no answer from 10.0.0.{i}"),))
        for i in range(9)
    ]
    assert "and 4 more such sentences — d[5:8]" in to_table(report(*several), 100)


def test_no_colour_unless_asked() -> None:
    assert "\x1b" not in to_table(three(), 100)
    assert "\x1b[32mverified" in to_table(three(), 100, color=True)


@pytest.mark.parametrize("width", [1, 40, 80, 119, 120, 200])
def test_table_keeps_to_the_terminal(width: int) -> None:
    lines = to_table(three(), width).split("\n")
    assert all(len(line) <= max(width, 40) for line in lines)


def page_of(width: int, head: list[str], rows: list[list[str]], left: tuple[str, ...] = ()) -> str:
    page = Page(width, False)
    page.table(head, rows, left)
    return page.text


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_no_table_breaks_a_word(width: int) -> None:
    sentence = "the runtime needs libc.so.6 GLIBC_2.29, and this device has 2.17; name another under runtimes:"
    bad = [
        outcome(f"warehouse-camera-{i:02d}", Verdict.UNSUPPORTED, findings=(finding("LF309", sentence),))
        for i in range(3)
    ]
    text = to_table(report(*bad), width)
    shown = text.partition("\nLF309")[0]
    assert max(map(len, shown.split("\n"))) <= width
    assert {word for row in bad for word in (row.device, *sentence.split())} <= set(shown.split())


def test_a_table_that_does_not_fit_is_a_block_for_each_row() -> None:
    rows = [["cam-01", "1.04 GB", "–"], ["cam-02", "2.5 MB", "3"]]
    head = ["device", "memory of all the workers", "findings of the last check"]
    assert page_of(80, head, rows).split("\n")[0].split("   ") == head
    assert page_of(40, head, rows) == (
        "cam-01\n  memory of all 1.04 GB\n  the workers\ncam-02\n  memory of all 2.5 MB\n"
        "  the workers\n  findings of   3\n  the last\n  check\n"
    )


def test_wide_characters_count_twice() -> None:
    text = page_of(40, ["device", "why"], [["相机" * 5, "连接失败 " * 6]], ("device", "why"))
    assert max(map(cell_len, text.split("\n"))) <= 40


@settings(max_examples=60, deadline=None)
@given(
    st.integers(40, 120),
    st.lists(st.lists(st.text(st.sampled_from("abc 相机-"), max_size=25), min_size=4, max_size=4), max_size=4),
)
def test_any_table_keeps_its_width_and_its_words(width: int, rows: list[list[str]]) -> None:
    text = page_of(width, ["a", "b", "c", "d"], rows, ("a", "b"))
    assert max(map(cell_len, text.split("\n"))) <= width
    assert {word for row in rows for cell in row for word in cell.split()} - {"–"} <= set(text.split())


def test_a_table_holds_no_raw_backticks() -> None:
    rows = [["cam-01", "run `litefleet convert` first"]]
    assert "run litefleet convert first" in page_of(80, ["device", "why"], rows, ("device", "why"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colour_is_for_terminals_that_want_it() -> None:
    assert wants_color(Terminal(), {"TERM": "xterm"})
    assert not wants_color(io.StringIO(), {"TERM": "xterm"})
    assert not wants_color(Terminal(), {"TERM": "xterm", "NO_COLOR": "1"})
    assert wants_color(Terminal(), {"NO_COLOR": ""})  # set but empty does not count
    assert not wants_color(Terminal(), {"TERM": "dumb"})


def test_no_devices_is_said() -> None:
    assert to_table(report()) == "no devices   (rollout, 12.3 s)\n"
    assert "No devices were selected." in to_html(report())


# --- hostile devices

HOSTILE = [
    "<script>alert(1)</script>",
    "\x1b[2J\x1b]0;owned\x07",
    "a\rb\x00\x9b31m\x7f",
    "\u202egnp.exe\u2066\u200f",
    "line\u2028line\nline",
    "x" * 10_000,
    "\ud800 lone",
    "{{ 7*7 }}{% raw %}",
    "[red]markup[/red] :smile:",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='x",
]
FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def hostile_report(text: str) -> RunReport:
    everywhere = outcome(
        text,
        Verdict.FAILED,
        findings=(finding("LF507", text), finding("LF900", text)),
        facts={"arch": text, text: text, "cpu": {text: [text, {text: text}]}, "deep": {"a": {"b": {"c": {"d": text}}}}},
        measurements={
            "latency_ms": LATENCY,
            "load_ms": text,
            "outputs": [{"name": text, "max_abs": text, "cosine": float("nan"), "ok": text}, text],
        },
        steps={text: 1.0},
        release=text,
        artifact=text,
        detail=text,
    )
    slow = outcome(text + "2", measurements={"latency_ms": text, "outputs": text}, facts={"machine": text})
    return RunReport(text, text, 1.0, (everywhere, slow))


class Tags(HTMLParser):
    """Collects what the browser would see as elements and attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: ascii(t)[:20])
def test_hostile_text_stays_text(text: str) -> None:
    bad = hostile_report(text)
    page, table = to_html(bad), to_table(bad, 120)
    for shown in (page, table):
        assert not FORBIDDEN.search(shown)
        assert len(shown) < 100_000
        shown.encode("utf-8")
    tags = Tags()
    tags.feed(page)
    assert tags.tags.count("script") == 1
    assert "img" not in tags.tags
    assert not {a for a in tags.attributes if a.startswith("on") or a in {"src", "href", "style"}}


def test_hostile_text_is_shown_not_swallowed() -> None:
    assert sanitize("\x1b[31mred\u202e", LINE_LIMIT) == "\\x1b[31mred\\u202e"
    assert sanitize("x" * 10_000, 20) == "x" * 20 + "… (9980 more characters)"
    assert sanitize("one\ntwo\tthree", LINE_LIMIT) == "one two three"
    assert sanitize_lines("\n".join(str(i) for i in range(50)), lines=2) == "… (48 earlier lines left out)\n48\n49"
    assert "[red]markup[/red] :smile:" in to_table(hostile_report("[red]markup[/red] :smile:"), 120)
    assert "{{ 7*7 }}" in to_html(hostile_report("{{ 7*7 }}{% raw %}"))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    line = sanitize(text, LINE_LIMIT)
    assert not FORBIDDEN.search(line)
    assert "\n" not in line


def test_measurements_that_lie_are_no_latency() -> None:
    for lie in (
        {"min": 1},
        {**LATENCY, "p50": float("nan")},
        {**LATENCY, "p50": 99.0},
        {**LATENCY, "min": True},
        7,
        None,
    ):
        assert latency_of(outcome(measurements={"latency_ms": lie})) is None


# --- JSON


def test_json_round_trips() -> None:
    whole = three()
    assert json.loads(to_json(whole)) == json.loads(json.dumps(whole.to_dict()))
    assert json.loads(to_json(whole))["counts"] == {"verified": 1, "refused": 1, "unreachable": 1}


def test_json_is_strict_and_printable_even_with_nan_and_controls() -> None:
    bad = outcome("\x1b\x7f\u202e", measurements={"outputs": [{"max_abs": float("nan"), "mean_abs": float("-inf")}]})

    def never(word: str) -> None:
        raise AssertionError(word)

    text = to_json(report(bad))
    device = json.loads(text, parse_constant=never)["devices"][0]
    assert device["measurements"]["outputs"] == [{"max_abs": "NaN", "mean_abs": "-Infinity"}]
    assert device["device"] == "\x1b\x7f\u202e"
    assert text.isascii()
    assert not FORBIDDEN.search(text)


def test_json_survives_facts_without_end() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"d": deep}
    assert "too deep" in to_json(report(outcome(facts=deep)))
    assert facts_lines(deep)
    assert to_html(report(outcome(facts=deep))).endswith("</html>")


# --- HTML


def test_page_reaches_for_nothing() -> None:
    page = to_html(three())
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<link|<iframe|<img|src=|href=", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert policy[1].startswith("default-src &#39;none&#39;; style-src &#39;sha256-")
    assert "unsafe" not in policy[1]


def test_page_puts_trouble_first_and_holds_every_device() -> None:
    page = to_html(three())
    order = re.findall(r'<th scope="row">([^<]*)</th>', page)
    assert order == ["cam-02", "cam-03", "cam-01"]
    assert 'aria-label="1 verified, 1 refused, 1 unreachable"' in page
    assert "one .nb per architecture" in page
    assert "(<code>litefleet convert</code>)" in page


def test_page_has_no_raw_backticks_and_says_open_where_no_process_works() -> None:
    seen = finding("LF301", "no Python; none is brought, since the inventory says `python: own`")
    bare = outcome("d1", Verdict.UNSUPPORTED, findings=(seen,))
    rollout = {"id": "r-20261128-0001", "state": "running", "offline": 1}
    page = to_html(RunReport("rollout", "2026-11-23T11:30:00Z", 12.34, (bare,), rollout))
    text = re.sub(r"<script>.*?</script>|<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "`" not in text
    assert text.count("<code>python: own</code>") >= 3  # the finding, the device's line, its details
    assert "r-20261128-0001 (open)" in text
    assert "(running)" not in text


def test_latency_picture_names_few_and_draws_many() -> None:
    few = latency_plots(report(*(outcome(f"d{i}", measurements={"latency_ms": LATENCY}) for i in range(3))))
    many = latency_plots(report(*(outcome(f"d{i}", measurements={"latency_ms": LATENCY}) for i in range(300))))
    assert few[0].svg.count('class="name"') == 3
    assert few[0].caption.startswith("3 devices, fastest first. ")
    assert many[0].svg.count('class="mid"') == 300
    assert 'height="306"' in many[0].svg
    assert (
        latency_plots(three())[0].caption
        == "1 device, fastest first. Thin line: min to p99; thick: min to p90; mark: p50."
    )


@pytest.mark.parametrize("ms", [0.0, 1e-9, 1.0, 1e12])
def test_latency_picture_bears_any_size(ms: float) -> None:
    same = dict.fromkeys(("min", "p50", "p90", "p99"), ms)
    svg = latency_plots(
        report(outcome(measurements={"latency_ms": same}), outcome("b", measurements={"latency_ms": LATENCY}))
    )
    assert "nan" not in svg[0].svg.lower()


def test_thousand_devices_are_quick() -> None:
    devices = [
        outcome(f"cam-{i:04d}", Verdict.REFUSED, "LF101")
        if i % 9 == 0
        else outcome(f"cam-{i:04d}", measurements={"latency_ms": LATENCY})
        for i in range(1000)
    ]
    began = time.process_time()
    big = report(*devices)
    page = to_html(big)
    to_json(big)
    to_table(big, 120)
    assert page.count('<tbody class="device"') == 1000
    assert time.process_time() - began < 10  # about 1.5 s on a slow core


# --- values


def test_findings_of_verified_devices_are_not_trouble() -> None:
    assert shared_findings(report(outcome("a", Verdict.VERIFIED, "LF317"))) == ()
    groups = shared_findings(
        report(outcome("a", Verdict.REFUSED, "LF111", "LF101"), outcome("b", Verdict.REFUSED, "LF101"))
    )
    assert [(g.entry.code, g.devices) for g in groups] == [("LF101", ("a", "b")), ("LF111", ("a",))]


def test_figures_for_people() -> None:
    assert [human_bytes(n) for n in (0, 999, 1500, 571_000, 11_000_000, 2.5e12, None)] == [
        "0 B", "999 B", "1.5 kB", "571 kB", "11.0 MB", "2.5 TB", "–",
    ]  # fmt: skip
    assert [human_ms(n) for n in (0.5, 12.34, 123.4, 12_340, "x")] == ["0.50 ms", "12.3 ms", "123 ms", "12.3 s", "–"]
    assert [human_seconds(n) for n in (0.051, 12.34, 245, 10**400)] == ["0.05 s", "12.3 s", "4 min 05 s", "–"]
    assert listed(("a", "b", "c"), 2) == "a, b and 1 more"
    assert counts_line(report()) == "no devices"
    assert facts_lines({"cpu": {"parts": ["A53", "A72"]}, "none": None, "empty": [], "ok": True}) == [
        ("cpu.parts", "A53, A72"),
        ("ok", "yes"),
    ]
    assert facts_lines({"disk": {"total": 8_000_000_000, "free": "?"}, "memory": {"total": 0, "numbers": 5}}) == [
        ("disk.total", "8.0 GB"),
        ("disk.free", "?"),
        ("memory.total", "0 B"),
        ("memory.numbers", "5"),
    ]


# --- progress


def test_lines_for_logs() -> None:
    out = io.StringIO()
    with LineProgress(2, out) as progress:
        progress.device_step("cam-01", "verify")
        progress.device_done(outcome("cam-01"))
        progress.device_done(outcome("cam\x1b[2J", Verdict.REFUSED, "LF101"))
        progress.message("converted 1 file")
    assert out.getvalue().split("\n") == [
        "[1/2] cam-01 verified: outputs match the reference",
        f"[2/2] cam\\x1b[2J refused: {MISMATCH}",
        "converted 1 file",
        "",
    ]


def test_lines_survive_an_ascii_log() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    LineProgress(1, stream).message("相机 — ok")
    assert raw.getvalue() == b"\\u76f8\\u673a \\u2014 ok\n"


def test_live_display_counts_and_shows_the_longest_at_work() -> None:
    now = [100.0]
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    with LiveProgress(12, console, lambda: now[0]) as progress:
        for i in range(10):
            progress.device_step(f"cam-{i}", "connect")
            now[0] += 1
        progress.device_done(outcome("cam-0"))
        progress.device_done(outcome("cam-1", Verdict.REFUSED, "LF101"))
        progress.device_step("cam-2", "verify\x1b[2J")
        with console.capture() as capture:
            console.print(progress.render())
        shown = capture.get()
    assert "2/12 1 verified · 1 refused 10.0 s" in shown
    assert re.search(r"cam-3 +connect +7\.0 s", shown)
    assert "verify\\x1b[2J" in shown
    assert "more at work" not in shown
    assert f"cam-1 refused: {MISMATCH}" in console.file.getvalue()  # type: ignore[attr-defined]


def test_live_display_bounds_what_it_lists() -> None:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    progress = LiveProgress(40, console, lambda: 0.0)
    for i in range(20):
        progress.device_step(f"cam-{i}", "send")
    with console.capture() as capture:
        console.print(progress.render())
    assert capture.get().count("send") == 8
    assert "and 12 more at work" in capture.get()


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    with QuietProgress() as progress:
        progress.device_step("a", "b")
        progress.device_done(outcome())
        progress.message("x")
    assert capsys.readouterr() == ("", "")


ON_A_TERMINAL = """
import sys, time
from litefleet_agent.findings import Verdict
from litefleet_controller.devices.outcome import DeviceOutcome
from litefleet_controller.reports.progress import make_progress
with make_progress(2, quiet="quiet" in sys.argv) as progress:
    progress.device_step("cam-01", "verify")
    time.sleep(0.4)
    print("result on stdout")
    progress.device_done(DeviceOutcome("cam-01", "cls", Verdict.WRONG))
print(type(progress).__name__)
"""


def run_on(stderr: int, *arguments: str) -> str:
    """Run the little program with stderr as given; return what came on stdout."""
    paths = [str(Path(__file__).parents[3] / part) for part in ("agent", "inventory", "controller")]
    environ = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(paths), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [sys.executable, "-c", ON_A_TERMINAL, *arguments],
        stdout=subprocess.PIPE,
        stderr=stderr,
        env=environ,
        check=True,
    )
    return done.stdout.decode()


@pytest.mark.parametrize(("arguments", "kind"), [((), "LiveProgress"), (("quiet",), "QuietProgress")])
def test_a_real_terminal_gets_the_live_display(arguments: tuple[str, ...], kind: str) -> None:
    master, slave = os.openpty()
    try:
        assert run_on(slave, *arguments) == f"result on stdout\n{kind}\n"
        os.set_blocking(master, False)
        try:
            shown = os.read(master, 1 << 20).decode()
        except BlockingIOError:
            shown = ""
    finally:
        os.close(master)
        os.close(slave)
    assert ("cam-01" in shown and "0/2" in shown) == (kind == "LiveProgress")
    assert bool(shown) == (kind == "LiveProgress")
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor is back


def test_a_pipe_gets_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as stream:
        assert run_on(stream.fileno()) == "result on stdout\nLineProgress\n"
    assert log.read_text() == "[1/2] cam-01 wrong\n"


def test_a_retried_device_counts_once_and_no_count_exceeds_its_total() -> None:
    out = io.StringIO()
    with LineProgress(2, out) as lines:
        for verdict in (Verdict.UNREACHABLE, Verdict.UNREACHABLE, Verdict.VERIFIED):
            lines.device_done(outcome("cam-01", verdict))
        for name in ("cam-02", "cam-03"):
            lines.device_done(outcome(name))
    assert re.findall(r"^\[(\d+/\d+)\]", out.getvalue(), re.MULTILINE) == ["1/2", "1/2", "1/2", "2/2", "3/3"]
    console = Console(file=io.StringIO(), width=100, color_system=None)
    live = LiveProgress(2, console, lambda: 0.0)
    for verdict in (Verdict.UNREACHABLE, Verdict.VERIFIED):
        live.device_done(outcome("cam-01", verdict))
    for name in ("cam-02", "cam-03"):
        live.device_done(outcome(name))
    with console.capture() as capture:
        console.print(live.render())
    assert "3/3 3 verified" in capture.get()


def test_a_waiting_device_shows_no_running_clock() -> None:
    now = [0.0]
    console = Console(file=io.StringIO(), width=100, color_system=None)
    live = LiveProgress(3, console, lambda: now[0])
    live.device_step("cam-01", "measure")
    live.device_step("cam-02", "wait for its turn")
    live.device_step("cam-03", "probe")
    live.device_step("cam-03", "")  # its session has ended; its wave has not begun
    now[0] = 3600.0
    with console.capture() as capture:
        console.print(live.render())
    shown = capture.get()
    assert re.search(r"cam-01 +measure +60 min 00 s", shown)
    assert "cam-02" not in shown
    assert "cam-03" not in shown
    assert "1 waiting for their turn" in shown


@pytest.mark.parametrize("width", [40, 80])
def test_the_live_display_keeps_to_the_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    live = LiveProgress(10_000, console, lambda: 0.0)
    for number, verdict in enumerate(Verdict):
        live.device_done(outcome(f"cam-{number}", verdict))
        live.device_step(f"cam-1{number}", "push and verify")
    with console.capture() as capture:
        console.print(live.render())
    assert max(map(len, capture.get().split("\n"))) <= width


# --- figures without end


@pytest.mark.parametrize("figure", [1e308, -1e308, 10**400, 1e999])
def test_a_measurement_without_measure_never_ends_a_report(figure: Any) -> None:
    lies = {
        "latency_ms": dict.fromkeys(("min", "p50", "p90", "p99"), figure),
        "load_ms": figure,
        "peak_rss_bytes": figure,
        "outputs": [dict.fromkeys(("max_abs", "mean_abs", "max_rel", "cosine", "top1"), figure)],
    }
    device = outcome("liar", measurements=lies, steps={"verify": 1e308}, facts={"arch": "x86_64", "n": figure})
    both = report(device, outcome("cam-01", measurements={"latency_ms": LATENCY}))
    page = to_html(both)
    assert page.endswith("</html>")
    assert "inf" not in "".join(re.findall(r'(?:x1|y1|width|height)="([^"]*)"', page))
    table = to_table(both, 140)
    assert "liar" in table
    assert max(map(len, table.split("\n"))) < 500  # no figure of 300 digits
    assert latency_of(device) is None
