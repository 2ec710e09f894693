"""The commands that no fleet is needed for, in Chinese: errors, empty answers and reports hold no English sentence of ours."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from litefleet_agent.findings import Verdict, finding
from litefleet_controller.catalogue.language import choose
from litefleet_controller.cli import main
from litefleet_controller.devices.outcome import DeviceOutcome, RunReport
from litefleet_controller.reports.exports import to_csv, to_junit, to_markdown
from litefleet_controller.reports.html import to_html

PROSE = re.compile(r"\b[a-z]{2,} [a-z]{2,} [a-z]{2,}\b")  # three English words; commands stand in backquotes
CONFIG = """\
fleet: hall
inventory: fleet.yaml
models: {cls: {nb: {x86_64: cls.nb}, golden: {files: [a.npz, b.npz]}}}
"""
BROKEN = """\
fleet: hall
inventroy: fleet.yaml
models:
  cls: {source: model, golden: {cases: 1}, targets: {x86_64: "arm,x86"}, engine: {threads: 999}}
  det: {nb: {sparc: det.nb}}
runtimes: {x86_64: native}
rollout: {waves: [0, "10%"], windows: ["someday 10:00-12:00"]}
"""
INVENTORY = """\
devices:
  cam-1: {host: 192.0.2.1, prot: 22}
  cam-2: {host: "a b", become: true, port: 99999, user: true}
  cam-3: {jump: bastion, root: /, groups: [nowhere]}
"""


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    (tmp_path / "litefleet.yaml").write_text(CONFIG)
    (tmp_path / "broken.yaml").write_text(BROKEN)
    (tmp_path / "fleet.yaml").write_text("devices: {cam-1: {host: 192.0.2.1}}\n")
    (tmp_path / "bad.yaml").write_text(INVENTORY)
    (tmp_path / "notes.txt").write_text("hello\n")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LITEFLEET_LANG", "zh")
    monkeypatch.setenv("COLUMNS", "100")
    yield
    choose(None)


def english(text: str) -> list[str]:
    return [line for line in text.splitlines() if PROSE.search(re.sub(r"`[^`]*`", "", line))]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("check", 2),
        ("check -c broken.yaml", 2),
        ("check -i bad.yaml", 2),
        ("plan -c none.yaml", 2),
        ("plan -i none.yaml", 2),
        ("plan -m nope", 2),
        ("verify --limit nope", 2),
        ("probe -v --limit tag:nope", 2),
        ("reconcile --limit !all", 2),
        ("convert nowhere", 2),
        ("convert empty", 1),
        ("convert -m cls empty", 2),
        ("inspect notes.txt", 1),
        ("inspect empty", 2),
        ("doctor notes.txt", 0),
        ("import empty", 2),
        ("init nowhere --host a@b", 2),
        ("schedule --every 99", 2),
        ("schedule --verify noon", 2),
        ("provision --purge", 2),
        ("provision --init nope", 2),
        ("provision --dry-run", 2),
        ("runtime list", 0),
        ("runtime add", 2),
        ("runtime check notes.txt", 2),
        ("report nope", 2),
        ("reports", 0),
        ("state show", 0),
        ("history", 0),
        ("audit", 0),
        ("status", 2),
        ("retry", 2),
        ("pause", 2),
        ("rollback", 2),
        ("devices", 0),
        ("device cam-1", 0),
        ("device nope", 2),
        ("forget nope", 2),
        ("accept-key nope", 2),
        ("bench -m nope", 2),
        ("bench --threads 1,x", 2),
        ("infer notes.txt", 1),
        ("evaluate", 2),
        ("trust", 2),
        ("advise --facts notes.txt", 2),
        ("metrics --listen x", 2),
        ("docs nope", 2),
        ("explain nope", 2),
        ("demo empty/..", 2),
    ],
)
def test_what_a_command_says_is_chinese(line, code, capfd):
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    said = "".join(capfd.readouterr())
    assert ended.value.code == code, said
    assert re.search(r"[\u4e00-\u9fff]", said), said
    assert english(said.replace("Expecting value: line 1 column 1 (char 0)", "")) == [], said


def report() -> RunReport:
    good = DeviceOutcome(
        "cam-1",
        "cls",
        Verdict.VERIFIED,
        facts={"arch": "x86_64"},
        measurements={"latency_ms": {"min": 1, "p50": 2, "p90": 3, "p99": 4}, "load_ms": 3.0},
        steps={"connect": 0.1},
        release="a" * 64,
        activated=True,
    )
    other = DeviceOutcome("cam-2", "cls", Verdict.UNREACHABLE, (finding("LF501", "192.0.2.2: connection refused"),))
    waits = [{"device": "cam-3", "model": "cls", "state": "pending", "wave": 2}]
    reason = "1 of 2 devices in the first wave failed; the limit is 1: cam-2"
    rollout = {"id": "r-1", "state": "paused", "reason": reason, "counts": {"pending": 1}, "not_begun": waits}
    return RunReport("rollout", "2026-11-28T10:00:00Z", 3.0, (good, other), rollout, "hall", "ann", "0.1.0")


def test_reports_are_chinese_and_their_keys_are_not():
    choose("zh")
    page = to_html(report())
    assert '<html lang="zh-CN">' in page
    shown = re.sub(r"<(style|script)>.*?</\1>|<[^>]*>", "\n", page, flags=re.DOTALL)
    assert english(shown) == []
    assert "r-1 已暂停：第一波的 2 台设备中有 1 台失败；限值为 1：cam-2" in shown
    assert 'data-verdict="verified"' in page
    assert to_csv(report()).splitlines()[0].startswith("device,model,arch,version,release,verdict,sentence")
    assert "cam-2,cls,,,,unreachable,192.0.2.2: 连接被拒绝,LF501" in to_csv(report())
    suite = ElementTree.fromstring(to_junit(report()))
    failure = next(suite.iter("failure"))
    assert (failure.get("type"), failure.get("message")) == ("unreachable", "192.0.2.2: 连接被拒绝")
    markdown = to_markdown(report())
    assert "| 设备 | 模型 | 版本 | 判定 | 原因 | p50 |" in markdown
    assert english(markdown.replace("\\`", "`")) == []


def test_json_is_the_same_in_each_language(capfd):
    said = []
    for lang in ("en", "zh"):
        with pytest.raises(SystemExit):
            main(["check", "-c", "broken.yaml", "--json", "--lang", lang])
        said.append(json.loads(capfd.readouterr().out))
    assert said[0] == said[1]


def test_every_text_of_the_page_is_translated():
    template = Path(__file__).parents[3] / "controller/litefleet_controller/reports/templates/report.html.j2"
    from litefleet_controller.catalogue.translate import messages

    texts = re.findall(r'tr\("([^"]+)"', template.read_text(encoding="utf-8"))
    assert [text for text in texts if text not in {*messages(), "p50"}] == []
    assert len(texts) > 40
