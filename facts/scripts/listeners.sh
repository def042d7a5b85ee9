# shellcheck shell=sh
# Without ss: the sockets in state 0A (LISTEN) of /proc/net/tcp, whose owners stay unknown.
# Without /proc (macOS): lsof's fields, a letter before each value.
if command -v ss >/dev/null; then ss -Hltnp
elif [ -r /proc/net/tcp ]; then
  for f in /proc/net/tcp /proc/net/tcp6; do
    # grep reads by the block: a busy node has thousands of sockets, and read takes a byte at a time.
    [ ! -r $f ] || grep ' 0A ' $f | while read -r _ local _ state _; do
      [ "$state" != 0A ] || echo "proc $local"
    done
  done
else lsof -nP -iTCP -sTCP:LISTEN -Fpcn || [ $? = 1 ]
fi
