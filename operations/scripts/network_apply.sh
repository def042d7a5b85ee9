# shellcheck shell=sh
# Two words for each half: interface and address. Neither netplan nor networkd takes away what
# others gave an interface, and the first address that is left would be taken for its own.
PATH=$PATH:/usr/sbin:/sbin
while [ $# -ge 2 ]; do
  for now in $(ip -o -4 addr show dev "$1" | sed 's/.* inet \([^ ]*\).*/\1/'); do
    [ "$now" = "$2" ] || ip addr del "$now" dev "$1"
  done
  shift 2
done
exec netplan apply
