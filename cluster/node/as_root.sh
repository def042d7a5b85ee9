# shellcheck shell=sh
# Root, as the inventory gives it: by pyinfra's own _sudo, or by sudo without a password. sudo's own
# words are kept back: pyinfra would take them for its own and ask for a password here.
[ "$(id -u)" != 0 ] || exec "$@"
sudo -n true 2>/dev/null || { echo "sudo gives no root without a password" >&2; exit 1; }
exec sudo -n -- "$@"
