# shellcheck shell=sh disable=SC2154
# $p climbs to the nearest folder that exists. df -k: macOS knows no -B.
exists=no writable=no; case $path in (/*) ;; (*) path=$PWD/$path;; esac; p=$path
while [ ! -e "$p" ]; do p=${p%/*}; p=${p:-/}; done
[ ! -e "$path" ] || exists=yes; [ ! -w "$path" ] || writable=yes
printf '%s\n' "$path" "$exists $writable"; df -Pk "$p"
