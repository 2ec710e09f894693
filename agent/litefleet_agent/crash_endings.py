"""How shells, kernels, debuggers and service managers say that a program was ended by a signal.  Data only."""

import re
from typing import Dict, NamedTuple, Pattern, Tuple

from .findings import Certainty

__all__ = ["CHECKS", "ENDINGS", "HINTS", "SIGNALS", "Hint"]

SIGNALS: Dict[int, str] = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV"}

# a group named "number" or "status" holds the signal's number, or that number + 128; "name" the signal's name
ENDINGS: Tuple[Tuple[str, Pattern[str], str], ...] = (
    # the word that must be there, the pattern, the signal where the pattern names none
    # Windows' exit codes, as numbers and as NTSTATUS names them
    ("3221225477", re.compile(r"\b3221225477\b"), "SIGSEGV"),
    ("3221226505", re.compile(r"\b3221226505\b"), "SIGABRT"),
    ("3221225501", re.compile(r"\b3221225501\b"), "SIGILL"),
    ("1073741819", re.compile(r"-1073741819\b"), "SIGSEGV"),
    ("C0000005", re.compile(r"\b0x[Cc]0000005\b"), "SIGSEGV"),
    ("1073740791", re.compile(r"-1073740791\b"), "SIGABRT"),
    ("C0000409", re.compile(r"\b0x[Cc]0000409\b"), "SIGABRT"),
    ("1073741795", re.compile(r"-1073741795\b"), "SIGILL"),
    ("C000001D", re.compile(r"\b0x[Cc]000001[Dd]\b"), "SIGILL"),
    ("egmentation fault", re.compile(r"[Ss]egmentation fault"), "SIGSEGV"),
    ("段错误", re.compile(r"段错误"), "SIGSEGV"),
    ("llegal instruction", re.compile(r"[Ii]llegal instruction(?! set)"), "SIGILL"),
    ("llegal hardware instruction", re.compile(r"[Ii]llegal hardware instruction"), "SIGILL"),
    ("非法指令", re.compile(r"非法指令"), "SIGILL"),
    ("us error", re.compile(r"(?<![^\s:])Bus error(?!\S)"), "SIGBUS"),
    ("总线错误", re.compile(r"总线错误"), "SIGBUS"),
    ("Killed", re.compile(r"(?:^|:  *\d+ |^\[\d+\][+-]? {1,4})Killed(?:\s|$)", re.MULTILINE), "SIGKILL"),
    ("已杀死", re.compile(r"已杀死"), "SIGKILL"),
    ("Aborted", re.compile(r"(?:^|:  *\d+ |: )Aborted(?:\s|$)", re.MULTILINE), "SIGABRT"),
    (" abort", re.compile(r"^\[\d{1,3}\] {1,4}[-+]? {0,2}\d+ abort\b", re.MULTILINE), "SIGABRT"),
    ("(abort+", re.compile(r"libc\.so ?\(abort\+\d+\)"), "SIGABRT"),
    ("已放弃", re.compile(r"已放弃"), "SIGABRT"),
    ("中止", re.compile(r"中止 ?\(核心已转储\)"), "SIGABRT"),
    ("Fatal Python error", re.compile(r"Fatal Python error: (?:Aborted)"), "SIGABRT"),
    ("zsh: bus error", re.compile(r"zsh: bus error\b"), "SIGBUS"),
    ("zsh: abort", re.compile(r"zsh: abort\b"), "SIGABRT"),
    ("zsh: killed", re.compile(r"zsh: killed\b"), "SIGKILL"),
    ("EXC_BAD_ACCESS", re.compile(r"EXC_BAD_ACCESS"), "SIGSEGV"),
    ("EXC_BAD_INSTRUCTION", re.compile(r"EXC_BAD_INSTRUCTION"), "SIGILL"),
    ("general protection", re.compile(r"general protection(?: fault)? ip:"), "SIGSEGV"),
    ("loating point exception", re.compile(r"[Ff]loating point exception"), "SIGFPE"),
    ("segfault at", re.compile(r"segfault at [0-9a-f]+ ip"), "SIGSEGV"),
    ("invalid opcode", re.compile(r"trap invalid opcode ip"), "SIGILL"),
    ("undefined instruction", re.compile(r"undefined instruction: pc="), "SIGILL"),
    ("signal", re.compile(r"[Ss]ignal (?P<number>\d{1,2}) \(SIG[A-Z]{2,5}\)"), ""),
    ("signal", re.compile(r"signal (?P<number>\d{1,2}): SIG[A-Z]{2,5}"), ""),
    ("on signal", re.compile(r"exited on signal (?P<number>\d{1,2})\b"), ""),
    ("received signal", re.compile(r"received signal (?P<name>SIG[A-Z]{2,5})"), ""),
    ("terminated with signal", re.compile(r"terminated with signal (?P<name>SIG[A-Z]{2,5})"), ""),
    ("Signals.SIG", re.compile(r"died with <Signals\.(?P<name>SIG[A-Z]{2,5})"), ""),
    # glog's and Java's own handlers
    ("(", re.compile(r"\b(?P<name>SIG[A-Z]{2,5}) \((?:@0x|0x[0-9a-f]{1,2}\) at pc=)"), ""),
    ("terminated by", re.compile(r"terminated by (?:signal )?(?P<name>SIG[A-Z]{2,5})"), ""),
    ("signal ", re.compile(r"(?:[Kk]illed|[Tt]erminated)(?: by| due to| with)? signal:? {0,2}(?P<number>\d{1,2})\b"), ""),
    ("Error 1", re.compile(r"make(?:\[\d{1,3}\])?: \*\*\* .{1,200} Error (?P<status>1[34]\d)\b"), ""),
    ("echo $?", re.compile(r"echo \$\?[\t ]{0,8}\n[\t ]{0,8}(?P<status>1[34]\d)\b"), ""),
    ("码", re.compile(r"(?:退出码|退出代码|返回码)(?:为|是)?[ :：=]{0,12}(?P<status>-\d{1,2}|1[34]\d)(?!\d)"), ""),
    ("status=", re.compile(r"status=(?P<number>\d{1,2})/(?:ILL|ABRT|BUS|FPE|KILL|SEGV)\b"), ""),
    ("SIG", re.compile(r"died with (?P<name>SIG[A-Z]{2,5})"), ""),
    ("signal SIG", re.compile(r"Thread \d{1,4}: signal (?P<name>SIG[A-Z]{2,5})"), ""),
    ("__kmp_abort_process", re.compile(r"\(__kmp_abort_process\+\d+\)"), "SIGABRT"),
    (
        "xit",
        re.compile(
            r"[Ee]xit(?:ed)?(?: with)?(?:[ _-]?(?:[Cc]ode|[Ss]tatus|value))?[ :=\"(]{1,12}(?P<status>-\d{1,2}|1[34]\d)\b"
        ),
        "",
    ),
)  # fmt: skip

# a program that stopped itself
CHECKS: Tuple[Pattern[str], ...] = (
    re.compile(r"Check failed|check failed(?:!|: \()"),
    re.compile(r"terminate called|terminating (?:with|due to) uncaught exception"),
    re.compile(r"^F\d{4} \d\d:|\[F +\d{1,2}/", re.MULTILINE),
    re.compile(r"Paddle-Lite C\+\+ Exception"),
)


class Hint(NamedTuple):
    """What a signal alone makes one think of."""

    code: str
    certainty: Certainty


HINTS: Dict[str, Tuple[Hint, ...]] = {
    "SIGSEGV": (Hint("LF101", Certainty.POSSIBLE),),
    "SIGILL": (Hint("LF310", Certainty.LIKELY), Hint("LF104", Certainty.POSSIBLE)),
}
