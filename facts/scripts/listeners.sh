# shellcheck shell=sh
# Without ss: the sockets in state 0A (LISTEN) of /proc/net/tcp, whose owners stay unknown.
# Without /proc (macOS): lsof's fields, a letter before each value.
if command -v ss >/dev/null; then ss -Hltnp
elif [ -r /proc/net/tcp ]; then
  for f in /proc/net/tcp /proc/net/tcp6; do
    [ ! -r $f ] || while read -r _ local _ state _; do
      [ "$state" != 0A ] || echo "proc $local"
    done <$f
  done
else lsof -nP -iTCP -sTCP:LISTEN -Fpcn || [ $? = 1 ]
fi
