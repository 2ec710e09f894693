#!/usr/bin/env bash
# Sees to Debian packages: each argument is PACKAGE or PACKAGE:PROGRAM (not needed where the program is there).
# Root gets them installed; everybody else is told what to install, and the caller decides what that costs.
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
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
    echo "not installed here: ${missing[*]} (Debian: sudo apt-get install ${missing[*]}); what needs them is left out or says so" >&2
fi
