"""Checks, before root runs or writes a path, that no other user can replace it or a folder above it.  Pure."""

from __future__ import annotations

import shlex
from pathlib import PurePosixPath

from .steps import Step

# Defines `mine PATH`: the path and every folder above it belong to root, and nobody else may write into them.  A folder like
# /tmp, where everybody may write and only owners may rename, passes: what lies in it is examined too.  `ls -ldn` is what
# BusyBox and the GNU tools write alike: its first word is the type, three letters each for owner, group and others, and its
# third and fourth the numbers of owner and group.
_MINE = """mine() {
q=$1
while :; do
set -- $(ls -ldn "$q" 2>/dev/null) || :
if [ $# -gt 4 ]; then
[ "$3" = 0 ] || { echo "$q belongs to the user number $3, who could exchange it" >&2; return 1; }
case $1 in
l*|?????????[tT]*) ;;
????????w*) echo "$q can be changed by every user: it is $1" >&2; return 1;;
?????w*) [ "$4" = 0 ] || { echo "$q can be changed by the group number $4: it is $1" >&2; return 1; };;
esac
fi
[ "$q" = / ] && return 0
q=${q%/*}; q=${q:-/}
done
}
"""

# Follows the links of an interpreter, a folder's among them, and examines each step of the way.
_FOLLOW = """p=$(command -v {python}) || {{ echo "there is no {python}" >&2; exit 1; }}
n=0
while :; do
mine "$p" || exit 1
d=$(cd -P "${{p%/*}}/" && pwd) || exit 1
p=${{d%/}}/${{p##*/}}
mine "$p" || exit 1
[ -L "$p" ] || exit 0
n=$((n + 1)); [ $n -lt 40 ] || {{ echo "$p is a link that leads nowhere" >&2; exit 1; }}
t=$(readlink "$p")
case $t in /*) p=$t;; *) p=${{p%/*}}/$t;; esac
done"""


def roots_way(python: str, root: str) -> tuple[Step, Step]:
    """Return the steps that refuse an interpreter, and a place for the agent's folder, that others could exchange.

    Both only read; an interpreter is not run.
    """
    above = shlex.quote(str(PurePosixPath(root).parent))
    return (
        Step(
            f"only root can change {python}",
            _MINE + _FOLLOW.format(python=shlex.quote(python)),
            hint="Name an interpreter as `python:` in the inventory that belongs to root, as all folders above it do, such as "
            "/usr/bin/python3; install Python 3.7 or later where there is none.",
        ),
        Step(
            f"only root can change what is above {root}",
            f"{_MINE}mine {above}",
            hint="Name a folder as `root:` in the inventory above which all folders belong to root.",
        ),
    )
