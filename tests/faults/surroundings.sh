#!/usr/bin/env bash
# Run a command in surroundings that are all unusual at once; without one, the whole of the tests.
#
#     bash tests/faults/surroundings.sh [COMMAND ARGUMENT...]
#
# SIGINT is ignored, as in all that a script starts in the background; the home cannot be written,
# by root neither; files are for their owner alone; text is ASCII; and the day begins 14 h before
# Greenwich's. UNUSUAL_UMASK=000 for files that are anybody's, UNUSUAL_HOME= for no home at all.
set -eu
trap '' INT
umask "${UNUSUAL_UMASK:-077}"
export HOME="${UNUSUAL_HOME-/proc/nohome}"
[ -n "$HOME" ] || unset HOME
export LC_ALL=C LANG=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 TZ=Pacific/Kiritimati
if [ $# -eq 0 ]; then
    cd "$(dirname "$0")/../.."
    set -- python -m pytest
fi
exec "$@"
