# shellcheck shell=sh disable=SC2015,SC2086
# Each line of stdin: ufw's arguments, a tab between. $1: seconds, $2: the script that undoes. Prints
# `untouched` if nothing was changed.
PATH=$PATH:/usr/sbin:/sbin LC_ALL=C; export PATH LC_ALL
kept=/run/spark-serving-firewall
untouched() { echo untouched; echo "nothing was changed: $1" >&2; exit 4; }
mkdir -m 700 "$kept" || untouched "another run is in progress ($kept)"
cp -p /etc/ufw/user.rules /etc/ufw/user6.rules /etc/ufw/ufw.conf /etc/default/ufw "$kept/" &&
printf '%s\n' "$2" >"$kept/undo" &&
{ ! timeout 20 ufw status | grep -q '^Status: active' || : >"$kept/active"; } &&
systemd-run --quiet --collect --unit=spark-serving-firewall --on-active="$1" \
  --timer-property=AccuracySec=100ms /bin/sh "$kept/undo" ||
  { rm -rf "$kept"; untouched "could not arm the automatic revert"; }
set -f; IFS=$(printf '\t')
while IFS= read -r line; do
  [ -d "$kept" ] || { echo "reverted: it took longer than $1 s" >&2; exit 6; }
  timeout 20 ufw $line </dev/null >&2 || { echo "ufw $line" >&2; exit 7; }
done
