# shellcheck shell=sh
# $1: the pid; $2: the marker that must still be in its arguments; $3: the seconds until SIGKILL.
# -ww, or ps cuts the arguments to $COLUMNS where a shell exports it.
# A zombie has ended: in a container without an init nobody ever reaps it.
ps -ww -o args= -p "$1" | grep -qF -e "$2" || exit 0
kill -TERM "$1"; i=0
while ps -o stat= -p "$1" | grep -q '^[^Z]'; do
  [ "$i" -ge $(($3 * 5)) ] && kill -KILL "$1"; i=$((i + 1)); sleep 0.2
done
