#!/usr/bin/env bash
# Installs Debian packages: each argument is PACKAGE or PACKAGE:PROGRAM (installed only if PROGRAM is missing).
# As another user than root, or when apt-get fails (its lock is taken, no network), it names the packages and continues:
# the demo then uses its own SSH server, and tests that need them are skipped with a reason.
set -euo pipefail
missing=()
for item in "$@"; do
    package=${item%%:*}; program=${item#*:}
    if [ "$program" != "$item" ]; then command -v "$program" >/dev/null 2>&1 && continue; fi
    if command -v dpkg-query >/dev/null 2>&1; then
        if dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed'; then continue; fi
    fi
    missing+=("$package")
done
[ ${#missing[@]} = 0 ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing ${missing[*]}" >&2
    apt-get update -qq >/dev/null || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null && exit 0
    echo "apt-get could not install ${missing[*]}; continuing without them. To install them later: apt-get install ${missing[*]}" >&2
else
    echo "missing: ${missing[*]}; continuing without them. To install them: sudo apt-get install ${missing[*]}" >&2
fi
