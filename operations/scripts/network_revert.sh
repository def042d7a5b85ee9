# shellcheck shell=sh disable=SC2094
# Back to what `_ARM` kept: the file, then what netplan leaves behind, addresses and MTUs.
# `armed` is renamed by whoever comes first, this or `_HOLD`.
cd "$1" && mv armed reverting 2>/dev/null || exit 0
PATH=$PATH:/usr/sbin:/sbin
if [ -e before ]; then cp -p before "$2"; else rm -f "$2"; fi
timeout --kill-after=5 60 netplan apply
while read -r what dev value; do
  if [ "$what" = mtu ]; then ip link set dev "$dev" mtu "$value"; continue; fi
  for now in $(ip -o -4 addr show dev "$dev" | sed 's/.* inet \([^ ]*\).*/\1/'); do
    grep -qxF "addr $dev $now" links || ip addr del "$now" dev "$dev"
  done
  [ "$what" != addr ] || ip addr replace "$value" dev "$dev"
done <links
mv reverting reverted
