"""Decodes a crash log (stderr or a pasted log) into ranked findings, each with the line behind it."""

import re
from itertools import islice
from typing import Dict, Iterator, List, NamedTuple, Optional, Pattern, Tuple

from .. import Certainty, Finding, Severity, finding, ranked
from .rules import CHECKS, ENDINGS, HINTS, RULES, SIGNALS, LogSource, Rule
from .text import LogText, Place, sanitize_line
from .words import words_at

_CONVERTER = re.compile(
    r"Loading topology data from|Loading params data from|api/opt\.cc|LoadCombinedParamsPb|PrintPbModelErrorMessage|"
    r"opt_base\.cc|model_optimize_tool\.cc|Wrong target '|ops are not supported on '"
)
# The passes and the command are the converter's unless the runtime writes after them: a full build runs the same passes at load.
_CONVERTING = re.compile(
    r"== (?:Running pass|Finished running): |lite/core/(?:optimizer/)?mir/|\w_pass\.(?:cc|h):\d|"
    r"(?:\bopt(?:_linux|_mac\w{0,12})?|paddle_lite_opt|model_optimize_tool) "
    r"[^\n]{0,300}--(?:model_\w{3,4}|optimize_out|valid_targets)\b"
)
_CONVERTED = re.compile(r"Model is optimized and saved into")
_RUNTIME = re.compile(
    r"LoadModel(?:Fbs|Naive)From|device_info\.cc|light_api|RuntimeProgram|program\.cc|create_paddle_predictor|set_model_from_file"
)
_OPT_VERSION = re.compile(r"version of opt: ?([^\s\"']{0,40})")
_LITE_VERSION = re.compile(r"version of current Paddle-Lite: ?([^\s\"']{0,40})")

_WHEEL = re.compile(r"paddlelite-(\d[\w.]{0,20})")
_ARCHES: Tuple[Tuple[str, Pattern[str]], ...] = (
    ("armv8", re.compile(r"(?i)\baarch64\b|\barm64\b|arm64-v8a|\barmv8\b")),
    ("armv7", re.compile(r"(?i)armv7|armeabi-v7a|ABI: 'arm'")),
    ("x86_64", re.compile(r"(?i)\bx86[_-]64\b|\bamd64\b|lite/kernels/x86/")),
)
_CPU = re.compile(r"CPU ARCH: (A\d{2,3})")
_OPERATORS: Tuple[Pattern[str], ...] = (
    re.compile(r"kernel for '(\w{1,60})' is not supported"),
    re.compile(r"operator '(\w{1,60})' is not supported"),
    re.compile(r"No attributes called \w{1,60} found for (\w{1,60})"),
    re.compile(r"(?:no Op found|No kernels found) for (\w{1,60})"),
    re.compile(r"unsupported ops are:([^\n]{1,2000})"),
    re.compile(r"lite/(?:operators|kernels/\w{1,20})/(\w{1,60})_(?:op|compute)\.(?:cc|h)\b[^\n]{0,80}\] Check failed"),
)
_SOURCE = re.compile(r"\[F [^\[\]\n]{0,80}?([\w]{1,40}\.(?:cc|h):\d{1,5})")
_PYTHON = re.compile(r"lib/python(3\.\d{1,2})/")


def is_converter(text: str) -> bool:
    """Return whether the text is from Paddle-Lite's converter, which did not finish."""
    return _is_of_converter(text) and _CONVERTED.search(text) is None


def _is_of_converter(text: str) -> bool:
    if _CONVERTER.search(text):
        return True
    begun = _CONVERTING.search(text)
    return begun is not None and _RUNTIME.search(text, begun.start()) is None


def versions_of(log: LogText) -> Tuple[str, str, Optional[Place]]:
    """Return the converter's and the runtime's version from the warning about their difference, and its line."""
    opt, runtime = _OPT_VERSION.search(log.text), _LITE_VERSION.search(log.text)
    if opt is None or runtime is None:
        return "", "", None
    return sanitize_line(opt.group(1)), sanitize_line(runtime.group(1)), log.place(opt.start())


def facts_of(log: LogText) -> List[Tuple[str, str]]:
    """Return the facts that the log contains, as (label, text)."""
    opt, runtime, _ = versions_of(log)
    wheel = _WHEEL.search(log.text)
    rows = [
        ("program", _program(log.text)),
        ("Paddle-Lite", runtime or (wheel.group(1) if wheel else "")),
        ("file from", "opt %s" % opt if opt else ""),
        ("architecture", ", ".join(name for name, pattern in _ARCHES if pattern.search(log.text))),
        ("CPU", ", ".join(_all(_CPU, log.text)[:4])),
        ("Python", ", ".join(_all(_PYTHON, log.text)[:3])),
        ("operators", ", ".join(_operators(log.text)[:10])),
        ("stopped in", ", ".join(_all(_SOURCE, log.text)[:3])),
        ("read", "the first 256 KiB and the last 768 KiB" if log.cut else ""),
    ]
    return [(label, text) for label, text in rows if text]


def _program(text: str) -> str:
    if _is_of_converter(text):
        return "Paddle-Lite's converter (opt)" + (
            ", then the runtime" if _CONVERTED.search(text) and _RUNTIME.search(text) else ""
        )
    return "Paddle-Lite's runtime" if _RUNTIME.search(text) else ""


def _all(pattern: Pattern[str], text: str) -> List[str]:
    found = [match.group(1) for match in islice(pattern.finditer(text), 200)]
    return sorted(set(found), key=found.index)


def _operators(text: str) -> List[str]:
    names: List[str] = []
    for pattern in _OPERATORS:
        for names_text in _all(pattern, text):
            names += re.findall(r"\w{1,60}", names_text)
    return sorted(set(names), key=names.index)


_TRIES = 50  # matches of one rule that are considered; later ones only repeat it
_GRAVEST = ("SIGSEGV", "SIGILL", "SIGBUS", "SIGFPE", "SIGKILL", "SIGABRT")
_NOT_OOM = re.compile(
    r"OOMKilled[\"']? {0,4}[:=] {0,4}[Ff]alse"
)  # Docker's state of a container that it stopped itself
_CONVERTER_DOUBTS = {"SIGSEGV": ("LF209",), "SIGILL": ("LF310",)}
# Another library's code was running: the innermost frame of faulthandler, or an import of that library alone.
_OTHERS = re.compile(
    r"\(most recent call first\):?\n[^\n]{0,300}-packages/(?!paddlelite)\w|libopenblas|"
    r"import (?:numpy|paddle|cv2|torch|scipy|onnxruntime|tensorflow)\b[^\n]{0,40}\n(?:[^\n]{0,200}\n)?"
    r"[^\n]{0,99}(?:[Ii]llegal instruction|非法指令)"
)
_X86 = re.compile(r"lite/kernels/x86/|x86_64|\bAVX")  # no fp16 kernels there
_TAGGED = re.compile(r"v?\d{1,6}\.\d")


class Context(NamedTuple):
    """What is known besides the text; 0 and "" for unknown."""

    threads: int = 0
    arch: str = ""  # "armv7hf"


class Cause(NamedTuple):
    """A finding's code with the line behind it."""

    code: str
    certainty: Certainty
    place: Place

    @property
    def severity(self) -> Severity:
        """Its severity."""
        return Finding(self.code, "", self.certainty).severity


class LogReading(NamedTuple):
    """Result of decoding a log: findings, the most important first; facts as (label, text); the line behind each code."""

    findings: Tuple[Finding, ...]
    facts: Tuple[Tuple[str, str], ...]
    lines: Tuple[Cause, ...]


def decode_log(
    text: str,
    signal_name: str = "",
    exit_code: Optional[int] = None,
    timed_out: bool = False,
    over_memory: bool = False,
    context: Optional[Context] = None,
) -> LogReading:
    """Decode a log, together with what else is known of the program's end.

    Of a longer text the first 256 KiB and the last 768 KiB are read.  Each cause is reported once; that a signal or a check
    ended the program is reported only where no cause explains it.
    """
    log = LogText(text)
    ended = Place(0, signal_name or SIGNALS.get(_number(exit_code or 0), ""))
    found = _limits(timed_out, over_memory) + causes(log)
    found += _endings(log, ended, context or Context(), found)
    version = _version_difference(log, found)
    best = _unique(found + ([version] if version else []))
    findings = ranked(finding(c.code, _sentence(c.place), c.certainty) for c in best)
    return LogReading(tuple(findings), tuple(facts_of(log)), tuple(best))


def causes(log: LogText) -> List[Cause]:
    """Return the causes that the text names, one for each code, in the rules' order."""
    log_source = LogSource.CONVERTER if is_converter(log.text) else LogSource.RUNTIME
    rules = [rule for rule in RULES if rule.log_source in (LogSource.ANYBODY, log_source)]
    found = []
    for rule in rules:
        place = _find(rule, log)
        if place is not None and _fits(rule, log.text):
            found.append(Cause(rule.code, rule.certainty, place))
    return _unique(found)


def is_check(text: str) -> bool:
    """Return whether a program reports that it stopped itself at a check."""
    return any(pattern.search(text) for pattern in CHECKS)


def decisive_line(text: str) -> str:
    """Return the most informative line of a program's output: the last fatal one, else the last that is not empty."""
    log = LogText(text)
    fatal = [cause.place for cause in causes(log)]
    fatal += [place for place in (_last(check, log) for check in CHECKS) if place is not None]
    return max(fatal).text if fatal else log.last_line()


def signal_of(exit_code: int) -> str:
    """Return the signal's name behind an exit code: -11 (subprocess), 139 (a shell in between); "" for others."""
    return SIGNALS.get(_number(exit_code), "")


def _number(exit_code: int) -> int:
    return -exit_code if exit_code < 0 else exit_code - 128


def _find(rule: Rule, log: LogText) -> Optional[Place]:
    return next(_places(rule, log), None)


def _places(rule: Rule, log: LogText) -> Iterator[Place]:
    """Yield the places that match a rule, without lines marked as information unless the rule is for them too."""
    if rule.word in log.text:
        for match in islice(rule.pattern.finditer(log.text), _TRIES):
            if rule.quiet or not log.is_quiet(match.start()):
                yield log.place(match.start())


def _last(pattern: Pattern[str], log: LogText) -> Optional[Place]:
    found = [match.start() for match in islice(pattern.finditer(log.text), _TRIES)]
    return log.place(found[-1]) if found else None


def _fits(rule: Rule, text: str) -> bool:
    needed = rule.needs is None or rule.needs.search(text) is not None
    return needed and (rule.unless is None or rule.unless.search(text) is None)


def _unique(found: List[Cause]) -> List[Cause]:
    """Return the most certain cause of each code."""
    order = list(Certainty)
    best: Dict[str, Cause] = {}
    for cause in sorted(found, key=lambda c: order.index(c.certainty)):
        best.setdefault(cause.code, cause)
    return [cause for cause in found if best.get(cause.code) is cause]


def _limits(timed_out: bool, over_memory: bool) -> List[Cause]:
    found = []
    if over_memory:
        found.append(Cause("LF411", Certainty.CERTAIN, Place(0, "its memory limit")))
    if timed_out:
        found.append(Cause("LF408", Certainty.CERTAIN, Place(0, "its time limit")))
    return found


def _endings(log: LogText, ended: Place, context: Context, known: List[Cause]) -> List[Cause]:
    """Return the causes that follow from how the program ended, beyond the `known` ones."""
    signals = _signals(log)
    if ended.text:
        signals.setdefault(ended.text, ended)
    doubt = Certainty.POSSIBLE if _NOT_OOM.search(log.text) else Certainty.LIKELY
    found = [Cause("LF411", doubt, signals["SIGKILL"])] if "SIGKILL" in signals else []
    if found or any(cause.severity is Severity.ERROR for cause in known):
        return found
    name = next((name for name in _GRAVEST if name in signals), "")
    place = signals.get(name) or _check(log)
    if place is None:
        return []
    return _general(name, _cause_place(log, name, place, known), log.text) + _of_threads(name, place, context)


def _general(name: str, place: Place, text: str) -> List[Cause]:
    """Return the finding for an end that nothing explains, and the possible causes of the signal for the program that ran."""
    if is_converter(text):
        doubts = [Cause(code, Certainty.POSSIBLE, place) for code in _CONVERTER_DOUBTS.get(name, ())]
        return [Cause("LF205", Certainty.CERTAIN, place)] + doubts
    hints = [Cause(hint.code, hint.certainty, place) for hint in HINTS.get(name, ())]
    if name == "SIGILL":
        hints = [] if _OTHERS.search(text) else [h for h in hints if h.code != "LF104" or not _X86.search(text)]
    if any(hint.severity is Severity.ERROR for hint in hints):
        return hints
    return [Cause("LF402" if name in ("", "SIGABRT") else "LF401", Certainty.CERTAIN, place)] + hints


def _cause_place(log: LogText, name: str, place: Place, known: List[Cause]) -> Place:
    """Return the most informative line: for a check, a possible cause, else the check itself rather than the abort."""
    if name not in ("", "SIGABRT"):
        return place
    return known[0].place if known else _check(log) or place


def _of_threads(name: str, place: Place, context: Context) -> List[Cause]:
    if name != "SIGSEGV" or context.threads < 2:
        return []
    found = [Cause("LF415", Certainty.POSSIBLE, place)]
    if context.threads >= 3 and context.arch.startswith("armv7"):
        found.append(Cause("LF114", Certainty.POSSIBLE, place))
    return found


def _check(log: LogText) -> Optional[Place]:
    for pattern in CHECKS:
        for match in islice(pattern.finditer(log.text), _TRIES):
            if not log.informs(match.start()):
                return log.place(match.start())
    return None


def _signals(log: LogText) -> Dict[str, Place]:
    """Return the signals that the log names, each with its first line."""
    found: Dict[str, Place] = {}
    for word, pattern, name in ENDINGS:
        if word not in log.text:
            continue
        for match in islice(pattern.finditer(log.text), _TRIES):
            if name and log.informs(match.start()):
                continue  # text about a signal; a number or a signal's name still means an end
            signal_name = name or _named(match.groupdict())
            if signal_name in SIGNALS.values():
                found.setdefault(signal_name, log.place(match.start()))
    for name, at in words_at(log.text):
        if not log.informs(at):
            found.setdefault(name, log.place(at))
    return found


def _named(groups: Dict[str, str]) -> str:
    if "name" in groups:
        return groups["name"]
    if "number" in groups:
        return SIGNALS.get(int(groups["number"]), "")
    return signal_of(int(groups["status"]))


def _version_difference(log: LogText, found: List[Cause]) -> Optional[Cause]:
    """Return the finding for a file and a runtime of different versions: a note, unless something failed."""
    opt, runtime, place = versions_of(log)
    if place is None or (opt and opt == runtime):
        return None
    if not (_TAGGED.match(opt) and _TAGGED.match(runtime)):
        return Cause("LF109", Certainty.CERTAIN, place)
    failed = any(cause.severity is Severity.ERROR for cause in found)
    return Cause("LF108", Certainty.LIKELY if failed else Certainty.POSSIBLE, place)


def _sentence(place: Place) -> str:
    if place.number:
        return "Line %d says: %s" % (place.number, place.text)
    return "The program was ended by %s." % place.text
