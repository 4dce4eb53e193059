#!/bin/sh
# Whether a worker or beat goes round: it touches ALIVE_FILE every few seconds. `alive.sh [SECONDS]`
# fails where that is older than so many seconds, ten minutes if none are given: so long a broker may be
# away without every worker being started again for it.
set -eu
file="${ALIVE_FILE:?ALIVE_FILE is not set: nothing says whether this process goes round.}"
last="$(stat -c %Y "$file")"
age=$(($(date +%s) - last))
test "$age" -le "${1:-600}" || { echo "$file was touched $age seconds ago." >&2; exit 1; }
