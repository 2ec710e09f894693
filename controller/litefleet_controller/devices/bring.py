"""How a Python is brought to a device that has none: one exec channel, plain sh, `cat`, and what unpacks there: tar, or dd.

The exec command is a POSIX sh script.  It answers `need` once it has seen that the Python can be kept and run there, reads the
archive from stdin to its end, and answers with the path of the Python.  On stdout, one line each:

    LFBOOT <nonce> need | ready PATH | fail SENTENCE

Half of a Python never has its final name, and the next attempt removes what a broken one left.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import PurePosixPath

from litefleet_agent.findings import Finding, finding

from . import bootstrap
from .agent_client import AgentClient
from .python_bundle import MINE, PLACE, PythonBundle, best_form
from .transport.base import Channel, TransportError

_SPARE = 8 << 20  # bytes that stay free on the device's disk
# Unpacks the archive in the folder above.  Without tar, `untar` reads the headers: each has 512 bytes, at a multiple of 512, and
# begins with the name.  A shell drops NUL characters (bash warns of it), so that 51 characters follow the name in the first 160
# bytes: mode 7, owner 7, group 7, size 11 (octal), time 11, sum 7, kind 1 ("5" is a folder).
_UNPACK = """untar() {
q='???????????????????????????????????????????????????' i=0
while :; do
{ h=$(dd if="$1" bs=4 skip=$((i * 128)) count=40) || return 1; } 2>/dev/null
[ -n "$h" ] || return 0
f=${h%$q} z=${h#"${h%??????????????????????????????}"} v=0 i=$((i + 1))
z=${z%"${z#???????????}"}
while [ -n "$z" ]; do v=$((v * 8 + ${z%"${z#?}"})) z=${z#?}; done
case $h in
*5) mkdir -p "$f" || return 1; continue;;
esac
: >"$f" || return 1
c=$((v / 512)) r=$((v % 512))
[ $c = 0 ] || w=$(dd if="$1" of="$f" bs=512 skip=$i count=$c 2>&1) || { echo "$w"; return 1; }
i=$((i + c))
if [ $r != 0 ]; then
w=$(dd if="$1" bs=1 skip=$((i * 512)) count=$r 2>&1 >>"$f") || { echo "$w"; return 1; }
i=$((i + 1))
fi
case ${h#"$f"} in 0000755*) chmod 755 "$f" || return 1;; esac
done
}
unpack() {
if command -v tar >/dev/null 2>&1; then
case $form in
xz) xz -dc <../archive | tar -xf -;;
gz) gzip -dc <../archive | tar -xf -;;
*) tar -xf ../archive;;
esac
else
case $form in
xz) xz -dc <../archive >../plain && untar ../plain;;
gz) gzip -dc <../archive >../plain && untar ../plain;;
*) untar ../archive;;
esac
fi
}
"""
_SCRIPT = (
    MINE
    + PLACE
    + _UNPACK
    + """n=$1 key=$3 form=$4 plain=$5 sha=$6 space=$7 keep=$8 what=$9 size=${10}
say() { [ -z "$n" ] || echo "LFBOOT $n $*"; }
fail() { if [ -n "$n" ]; then say fail "$@"; else echo "$@" >&2; fi; exit 1; }
umask 077
case $keep in
1) place "$2";;
shared) base=$2; umask 022;;
*) base=${TMPDIR:-/tmp}/litefleet-python-$n
# what a session left that could not clear up behind itself
find "${base%/*}" -maxdepth 1 -name 'litefleet-python-*' -mmin +60 -exec rm -rf {} \\; 2>/dev/null;;
esac
e=$(mkdir -p "$base" 2>&1) || fail "no folder for a Python can be made: $e"
mine "$base" || fail "others could exchange the Python: $w"
p=$base/$key/bin/python3
if [ -x "$p" ] && "$p" -IS -c pass >/dev/null 2>&1; then
if [ "$keep" != 0 ]; then echo "$key" >"$base/.current-$$" && mv -f "$base/.current-$$" "$base/current"; fi
say ready "$p"; exit 0
fi
for o in "$base"/.new-*; do
[ -d "$o" ] || continue
case ${o##*-} in *[!0-9]*) ;; *) kill -0 "${o##*-}" 2>/dev/null || rm -rf "$o";; esac
done
t=$base/.new-$$ part=$base/.part-$sha some=
leave() {
# what came of an archive that was cut goes on in the next session
if [ -n "$some" ] && [ "$keep" = 1 ] && [ -s "$t/archive" ]; then mv -f "$t/archive" "$part"; fi
rm -rf "$t"
[ "$keep" != 0 ] || rmdir "$base" 2>/dev/null
}
bytes() { set -- $(ls -ln "$1"); echo "$5"; }
trap leave EXIT
trap 'exit 1' HUP INT TERM PIPE
e=$(mkdir "$t" "$t/tree" 2>&1) || fail "no folder for a Python can be made: $e"
printf '#!/bin/sh\\nexit 0\\n' >"$t/try" && chmod 700 "$t/try" || fail "nothing can be written to $base: is its disk full?"
"$t/try" 2>/dev/null || fail "no program can be started from $base: its file system is mounted noexec"
command -v tar >/dev/null 2>&1 || space=$((space + plain))
set -- $(df -Pk "$base" 2>/dev/null | tail -n 1)
case ${4-} in ''|*[!0-9]*) ;; *) [ "$4" -ge "$space" ] || fail "full: $base has $4 kB free, and the Python needs $space kB";; esac
have=0
if [ "$keep" = 1 ]; then
for o in "$base"/.part-*; do [ "$o" = "$part" ] || rm -f "$o"; done
if mv "$part" "$t/archive" 2>/dev/null; then
have=$(bytes "$t/archive")
[ "$have" -lt "$size" ] || { rm -f "$t/archive"; have=0; }
fi
fi
some=1
say need $have
e=$(cat 2>&1 >>"$t/archive") || { some=; fail "full: the Python could not be written to $base: $e"; }
[ "$(bytes "$t/archive")" -lt "$size" ] || some=
h=
command -v sha256sum >/dev/null 2>&1 && h=$(sha256sum <"$t/archive") && h=${h%% *}
if [ -z "$h" ] && command -v openssl >/dev/null 2>&1; then h=$(openssl dgst -sha256 <"$t/archive") && h=${h##* }; fi
[ -z "$h" ] || [ "$h" = "$sha" ] || fail "cut: the Python arrived damaged or cut short"
cd "$t/tree" || exit 1
e=$(unpack 2>&1) || fail "unpack: the Python could not be unpacked under $base: $e"
cd /
p=$t/tree/bin/python3
e=$("$p" -IS -c 'import _ctypes, json, zlib' 2>&1) || fail "start: $what does not start on this device ($(uname -mr)): $e"
if [ -z "$h" ]; then
c='import hashlib, sys; sys.exit(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest() != sys.argv[2])'
"$p" -IS -c "$c" "$t/archive" "$sha" || fail "cut: the Python arrived damaged or cut short"
fi
"$p" -IS -c 'import os; os.sync()'
rm -rf "$base/$key" "$t/archive" "$t/plain"
e=$(mv "$t/tree" "$base/$key" 2>&1) || fail "the Python could not be placed: $e"
if [ "$keep" != 0 ]; then
echo "$key" >"$t/current" && mv -f "$t/current" "$base/current" || fail "full: $base cannot be written"
fi
p=$base/$key/bin/python3
"$p" -IS -c 'import os; os.sync()'
say ready "$p"
"""
)
_CODES = {"full": "LF312", "cut": "LF505", "start": "LF326", "unpack": "LF326"}
_FULL = re.compile(r"No space left|Wrote only|short write|write error", re.IGNORECASE)  # the words of several tars


@dataclass(frozen=True)
class Brought:
    """A Python on the device: its path there, and what bringing it took."""

    path: str  # "" for none
    sent_bytes: int = 0
    round_trips: int = 0

    @property
    def folder(self) -> str:
        """The folder that all of it lies in: TMP/litefleet-python-NONCE for .../KEY/bin/python3."""
        return str(PurePosixPath(self.path).parents[2]) if self.path else ""


Open = Callable[[str], AbstractAsyncContextManager[Channel]]  # opens a channel to the device for a command


def form_for(facts: Mapping[str, str]) -> str:
    """Return the form that a device which told `facts` of itself can unpack.  Raises: TransportError LF326 for none."""
    form = best_form(frozenset(facts.get("tools", "").split(",")))
    if not form:
        here = facts.get("tools", "").replace(",", ", ") or "none"
        seen = f"the device has neither tar nor dd, which unpack the Python (of the tools for it, it has: {here})"
        raise TransportError(finding("LF326", seen))
    return form


def placing_command(bundle: PythonBundle, nonce: str, root: str, keep: str) -> str:
    """Return the command that reads the bundle's archive from stdin and places it.

    `keep` is "1" (under the agent's `root`), "0" (in a temporary folder) or "shared" (in the folder `root`, for every user).
    Without `nonce`, it writes nothing but the sentence of a failure, to stderr.
    """
    packed = bundle.packed
    space, plain = ((size + 1023) // 1024 for size in (bundle.space + packed.size + _SPARE, bundle.space))  # kB
    values = (nonce, root, bundle.key, packed.form, plain, packed.sha256, space, keep, bundle.description, packed.size)
    return bootstrap.in_any_shell(_SCRIPT, *map(str, values))


async def bring_python(open_channel: Open, bundle: PythonBundle, root: str, keep: bool, limit_s: float) -> Brought:
    """Place a Python on a device under the agent's `root`; without `keep` in a temporary folder of its own.

    Raises: TransportError with the finding: LF326 where it cannot be kept or started there, LF312 for a full disk.
    """
    packed, nonce = bundle.packed, secrets.token_hex(8)
    async with open_channel(placing_command(bundle, nonce, root, "1" if keep else "0")) as channel:
        client = AgentClient(channel, nonce)
        answer = await client.answer(limit_s)
        if answer.state == "need":
            here = answer.text.strip()  # bytes of an archive that was cut; the whole is hashed there
            begun = int(here) if here.isascii() and here.isdecimal() and len(here) < 12 else 0
            await client.send_to_end(packed.path.read_bytes()[begun:], limit_s)
            # unpacking 30 MB takes a slow card's time
            answer = await client.answer(3 * limit_s)
        sent, trips = client.sent_bytes, client.round_trips
    if answer.state != "ready":
        raise TransportError(_refusal(answer))
    return Brought(answer.text, sent, trips)


def _refusal(answer: bootstrap.Answer) -> Finding:
    word, colon, text = answer.text.partition(": ")
    if word not in _CODES or not colon:
        return finding("LF326", answer.text)
    full = word == "unpack" and _FULL.search(text)
    return finding("LF312" if full else _CODES[word], text)
