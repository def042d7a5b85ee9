# shellcheck shell=sh disable=SC2015,SC2086
# Each line of stdin: ufw's arguments, a tab between. $1: seconds, $2: the script that undoes.
PATH=$PATH:/usr/sbin:/sbin LC_ALL=C; export PATH LC_ALL
kept=/run/spark-serving-firewall
mkdir -m 700 "$kept" || { echo "nothing was changed: another run is in progress ($kept)" >&2; exit 4; }
cp -p /etc/ufw/user.rules /etc/ufw/user6.rules /etc/ufw/ufw.conf /etc/default/ufw "$kept/" &&
printf '%s\n' "$2" >"$kept/undo" &&
{ ! timeout 20 ufw status | grep -q '^Status: active' || : >"$kept/active"; } &&
systemd-run --quiet --collect --unit=spark-serving-firewall --on-active="$1" \
  --timer-property=AccuracySec=100ms /bin/sh "$kept/undo" ||
  { rm -rf "$kept"; echo "nothing was changed: could not arm the automatic revert" >&2; exit 5; }
set -f; IFS=$(printf '\t')
while IFS= read -r line; do
  [ -d "$kept" ] || { echo "reverted: it took longer than $1 s" >&2; exit 6; }
  timeout 20 ufw $line </dev/null >&2 || { echo "ufw $line" >&2; exit 7; }
done
