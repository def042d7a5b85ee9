# shellcheck shell=sh
# Three words for each probe. All at once, each until it is answered or its time is over: the
# interfaces come up after netplan has returned.
end=$(($(date +%s) + $1)); shift
while [ $# -ge 3 ]; do
  (until ping -q -n -c1 -W1 -M "do" -s $(($3 - 28)) -I "$1" "$2" >/dev/null 2>&1; do
    [ "$(date +%s)" -lt "$end" ] || { echo "$1 $2 $3"; break; }
    sleep 0.3
  done) &
  shift 3
done
wait
