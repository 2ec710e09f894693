"""Where a brought Python lies on a device, in the words of sh: for the scripts that look for one and that place one.

ROOT/python/KEY/bin/python3    the Python, in the agent's root; ROOT/python/current holds the KEY in use
/usr/local/lib/litefleet/python    the same, placed by `litefleet provision` for every user of the device
"""

from __future__ import annotations

SHARED = "/usr/local/lib/litefleet/python"

# Defines `mine PATH`: nobody but this user and root can exchange what lies there.  `ls -ldn` is what BusyBox and the GNU tools
# write alike: its first word is the type and the rights, its third and fourth the numbers of owner and group; 65534 owns what a
# container cannot name.  What a folder that only owners may rename in (/tmp) holds is examined too.
MINE = """mine() {
q=$(cd -P "$1" 2>/dev/null && pwd) || { w="there is no folder $1"; return 1; }
while :; do
set -- $(ls -ldn "$q" 2>/dev/null) || :
[ $# -gt 4 ] || { w="ls cannot tell who owns $q"; return 1; }
case $3 in 0|65534) ;; *) [ -O "$q" ] || { w="$q belongs to the user number $3"; return 1; };; esac
case $1 in
?????????[tT]*) ;;
????????w*) w="$q can be changed by every user ($1)"; return 1;;
?????w*) [ "$4" = 0 ] || [ -G "$q" ] || { w="$q can be changed by the group number $4 ($1)"; return 1; };;
esac
[ "$q" = / ] && return 0
q=${q%/*}; q=${q:-/}
done
}
"""

# Defines `place ROOT`: $base is ROOT/python, ROOT as the inventory names it ("~/x"), or where the agent would make its own.
PLACE = """place() {
case $1 in
'') if [ -d /var/lib/litefleet ]; then base=/var/lib/litefleet; else base=/var/lib; fi
# busybox calls everything writable for root, and a read-only file system is not
if [ -w "$base" ] && (: >"$base/.litefleet-$$") 2>/dev/null && rm -f "$base/.litefleet-$$"; then base=/var/lib/litefleet/python
else base=${HOME:-/}/.local/share/litefleet/python; fi;;
'~/'*) base=${HOME:-}/${1#'~/'}/python;;
*) base=$1/python;;
esac
}
"""
