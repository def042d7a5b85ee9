# shellcheck shell=sh disable=SC2154,SC2086
# Who logs in, the port of the sshd that management came through, and the host's own keys.
clear
printf 'user %s\n' "$(id -un)"
set -- ${SSH_CONNECTION:-}
[ -z "${4:-}" ] || printf 'port %s\n' "$4"
for key in /etc/ssh/ssh_host_*_key.pub; do
  [ ! -r "$key" ] || { read -r type key rest <"$key"; printf 'key %s %s\n' "$type" "$key"; }
done
