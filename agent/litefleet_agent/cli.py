"""The agent's command line: the service, and what an operator who is logged in on the device runs.

Each command imports its part when it runs, so that none pays for the others.
"""

import argparse
import json
import os
import sys
from typing import TYPE_CHECKING, Callable, Dict, List, NamedTuple, Optional, Sequence

from .bytecode import running
from .errors import AgentError

if TYPE_CHECKING:
    from .client import Client

_BUSY = 75  # exit code (EX_TEMPFAIL): another session holds the store
_INTERRUPTED = 130
_LOCK_TIMEOUT_S = 30.0  # `bench` waits this long for another session


class _Options(argparse.Namespace):
    """The options of all commands; each command has those that its parser sets."""

    run: Callable[["_Options"], int]
    command: str
    root: str
    json: bool
    file: str
    trust: str
    deep: bool
    model: Optional[str]
    input: str
    output: str
    socket: str
    timeout_s: float
    deadline_ms: Optional[float]


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage; 75 and 130 as `verify` and `bench` say."""
    try:
        options = _parser().parse_args(argv, _Options())
    except SystemExit as end:  # argparse has written the usage or the help
        return int(end.code or 0)
    code = options.run(options)
    finder = running()
    if finder is not None and finder.compiled:
        from .releases.archive import keep_bytecode

        keep_bytecode()
    return code


def _fail(message: object) -> int:
    sys.stderr.write("litefleet-agent: %s\n" % message)
    return 1


# --- what the device is and holds


def _facts(options: _Options) -> int:
    from .facts import gather
    from .releases.store import default_root

    print(json.dumps(gather(default_root()).to_dict(), indent=2, sort_keys=True))
    return 0


def _inspect(options: _Options) -> int:
    from .formats.files import open_regular
    from .formats.nb import read_nb

    try:
        with open_regular(options.file) as file:
            model = read_nb(file.read())
    except (AgentError, OSError) as error:
        return _fail("%s: %s" % (options.file, error))
    print(json.dumps({"kernels": model.kernels_by_target(), "sha256": model.sha256, "complete": model.complete}))
    return 0


def _recover(options: _Options) -> int:
    """Revert what nobody confirmed before the device restarted, and print it; a session that is at work has done that."""
    from .releases.activation import lock_and_recover, recover
    from .releases.store import Store, StoreError

    root = _root(options)
    store = Store(root)
    answer: Dict[str, object] = {"undone": [], "busy": False}
    try:
        if os.path.isdir(root):
            answer["undone"] = [operation.to_dict() for operation in lock_and_recover(store) + recover(store)]
    except StoreError as error:
        if error.code != "busy":
            return _fail(error)
        answer["busy"] = True
    print(json.dumps(answer, sort_keys=True))
    return 0


def _check(options: _Options) -> int:
    """Report what has changed since the current releases were verified; 0 when nothing has, 1 otherwise."""
    from .findings import ranked
    from .releases.store import Store
    from .service.drift import check_drift, facts_anew

    root = _root(options)
    if not os.path.isdir(root):
        return _fail("there is no folder %s; name the agent's with --root" % root)
    store = Store(root)
    facts = facts_anew(root)
    found = ranked(check_drift(store, facts, options.deep, facts))
    models = store.current()
    if options.json:
        print(json.dumps({"models": models, "findings": [f.to_dict() for f in found]}, sort_keys=True))
    elif found:
        print("\n".join("%s %s: %s\n  %s" % (f.code, f.entry.slug, f.observed, f.entry.do) for f in found))
    elif not models:
        print("No model is current here.")
    else:
        print("%d model%s; all is as it was proven." % (len(models), "s" if len(models) > 1 else ""))
    return 1 if found else 0


# --- releases


def _install(options: _Options) -> int:
    from .install.install import main as install

    return install(options.file, _root(options), options.trust, options.json)


def _verify(options: _Options) -> int:
    from .verification.release import main as verify

    return verify(_root(options), options.json)


def _bench(options: _Options) -> int:
    """Measure a release: 0 measured, 1 a finding decides or it failed, 2 out of range, 75 busy, 130 Ctrl-C."""
    from .bench.report_text import lines
    from .bench.run import bench
    from .facts import gather
    from .releases.activation import lock_and_recover
    from .releases.store import Store

    os.umask(0o077)
    root = _root(options)
    if not os.path.isdir(root):
        return _fail("there is no folder %s; name the agent's with --root" % root)
    request = {name: value for name, value in vars(options).items() if name in _BENCH_FIELDS}
    store = Store(root)
    try:
        lock_and_recover(store, _LOCK_TIMEOUT_S)
        answer = bench(store, gather(root), request, lambda: None)
    except (AgentError, OSError) as error:
        _fail(error)
        return {"busy": _BUSY, "bad-request": 2}.get(error.code, 1) if isinstance(error, AgentError) else 1
    except KeyboardInterrupt:
        _fail("interrupted")
        return _INTERRUPTED
    finally:
        store.unlock()
    print(json.dumps(dict(answer.to_dict(), schema=1), sort_keys=True) if options.json else "\n".join(lines(answer)))
    return 0 if answer.verdict == "verified" else 1


# --- the service


def _serve(options: _Options) -> int:
    from .releases.archive import version
    from .service.daemon import serve

    return serve(_root(options), version())


def _request(options: _Options) -> int:
    """Send one request to the running service; 0 when it was answered (`health`: when all is well), 1 otherwise."""
    from .client import Client

    try:
        with Client(options.socket or None, options.timeout_s) as client:
            if options.command == "metrics":
                sys.stdout.write(client.metrics())
                return 0
            if options.command == "call":
                answer: object = _call(options, client)
            elif options.command == "models":
                answer = client.models()
            else:
                answer = client.status() if options.command == "status" else client.health()
    except AgentError as error:
        return _fail("%s (%s)" % (error, error.code))
    sys.stdout.write(json.dumps(answer, indent=2, sort_keys=True) + "\n")
    healthy = isinstance(answer, dict) and answer.get("health") == "ok"
    return 1 if options.command == "health" and not healthy else 0


def _call(options: _Options, client: "Client") -> Dict[str, object]:
    from .formats.npz import read_npz, write_npz
    from .releases.atomic import atomic_file
    from .service.messages import SentTensor, tensors_to

    result = client.infer(options.model, read_npz(options.input), options.deadline_ms)
    if options.output:
        with atomic_file(options.output, 0o666) as file:
            write_npz(file, result.outputs)
    return {
        "model": result.model,
        "release": result.release,
        "outputs": tensors_to([SentTensor.of(name, value) for name, value in result.outputs.items()]),
        "ms": {"wait": result.wait_ms, "run": result.run_ms},
        "batch": result.batch,
    }


# --- the parser


class _Command(NamedTuple):
    run: Callable[[_Options], int]
    usage: str
    add_options: Callable[["_Parser"], None]


class _Parser(argparse.ArgumentParser):
    """Takes options by their whole names only, and reports an unknown one with its own command's usage."""

    def __init__(self, **settings: object) -> None:
        super().__init__(allow_abbrev=False, **settings)  # type: ignore[arg-type]

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        options, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error("unrecognized arguments: %s" % " ".join(rest))
        return options, rest


def _parser() -> _Parser:
    usage = "litefleet-agent " + "\n     | ".join(command.usage for command in _COMMANDS.values())
    parser = _Parser(prog="litefleet-agent", usage=usage)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", prog="litefleet-agent", parser_class=_Parser)
    commands.required = True
    for name, command in _COMMANDS.items():
        one = commands.add_parser(name, usage="litefleet-agent " + command.usage)
        command.add_options(one)
        one.set_defaults(run=command.run)
    return parser


def _root(options: _Options) -> str:
    from .releases.store import default_root

    return options.root or default_root()


def _root_option(parser: _Parser) -> None:
    parser.add_argument("--root", default="", help="the agent's folder; default: /var/lib/litefleet or the user's own")


def _json_option(parser: _Parser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _no_options(parser: _Parser) -> None:
    pass


def _inspect_options(parser: _Parser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .nb file")


def _verify_options(parser: _Parser) -> None:
    _root_option(parser)
    _json_option(parser)


def _check_options(parser: _Parser) -> None:
    _verify_options(parser)
    parser.add_argument("--deep", action="store_true", help="read every byte of the releases' files")


def _install_options(parser: _Parser) -> None:
    _verify_options(parser)
    parser.add_argument("file", metavar="FILE", help="a bundle file that `litefleet bundle` wrote")
    parser.add_argument("--trust", default="", metavar="ALLOWED_SIGNERS", help="the signers that a new device trusts")


_BENCH_FIELDS = ("model", "release", "against", "runs", "seconds", "threads", "workers", "low_priority")


def _bench_options(parser: _Parser) -> None:
    _verify_options(parser)
    parser.add_argument("model", metavar="MODEL")
    given = argparse.SUPPRESS  # what is not given is not requested: the bench has its own defaults
    parser.add_argument("--release", default=given, metavar="ID", help="a stored release; default: the current one")
    parser.add_argument("--against", default=given, metavar="ID|previous", help="another release to compare with")
    parser.add_argument("--runs", type=int, default=given, metavar="N")
    parser.add_argument("--seconds", type=float, default=given, metavar="S")
    parser.add_argument("--threads", type=_numbers, default=given, metavar="1,2")
    parser.add_argument("--workers", type=_numbers, default=given, metavar="1,2")
    parser.add_argument("--low-priority", action="store_true", default=given)


def _service_options(parser: _Parser) -> None:
    parser.add_argument("--socket", default="", metavar="PATH", help="the service's socket; default: $LITEFLEET_SOCKET")
    parser.add_argument("--timeout-s", type=_positive, default=10.0, metavar="N")


def _call_options(parser: _Parser) -> None:
    _service_options(parser)
    parser.add_argument("model", nargs="?", metavar="MODEL", help="may be left out where the device serves one model")
    parser.add_argument("--input", required=True, metavar="FILE.npz")
    parser.add_argument("--output", default="", metavar="FILE.npz", help="where the outputs are written")
    parser.add_argument("--deadline-ms", type=_positive, metavar="N")


def _positive(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise argparse.ArgumentTypeError("%.40r is not a number above 0 and below 1e9" % word)
    return number


def _numbers(word: str) -> List[int]:
    try:
        return [int(number) for number in word.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError("%.40r is not a list of whole numbers, as in 1,2" % word) from None


_SERVICE_USAGE = "[--socket PATH] [--timeout-s N]"
_BENCH_USAGE = (
    "bench MODEL [--release ID] [--against ID|previous] [--runs N] [--seconds S] [--threads 1,2] [--workers 1,2]\n"
    "             [--low-priority] [--root ROOT] [--json]"
)
_COMMANDS: Dict[str, _Command] = {
    "facts": _Command(_facts, "facts", _no_options),
    "inspect": _Command(_inspect, "inspect FILE", _inspect_options),
    "recover": _Command(_recover, "recover [--root ROOT]", _root_option),
    "install": _Command(_install, "install FILE [--root ROOT] [--trust ALLOWED_SIGNERS] [--json]", _install_options),
    "serve": _Command(_serve, "serve [--root ROOT]", _root_option),
    "verify": _Command(_verify, "verify [--root ROOT] [--json]", _verify_options),
    "check": _Command(_check, "check [--root ROOT] [--deep] [--json]", _check_options),
    "bench": _Command(_bench, _BENCH_USAGE, _bench_options),
    "call": _Command(
        _request,
        "call [MODEL] --input FILE.npz [--output FILE.npz] [--deadline-ms N] " + _SERVICE_USAGE,
        _call_options,
    ),
}
_COMMANDS.update(
    (name, _Command(_request, "%s %s" % (name, _SERVICE_USAGE), _service_options))
    for name in ("status", "health", "models", "metrics")
)
