# shellcheck shell=sh
# In a container, as root, with the folder of a group's key at /at. $1: the key's file in it; the key
# comes on stdin. An equal one is left as it is.
umask 077; IFS= read -r new && chmod 700 /at || exit
old=; [ ! -f "/at/$1" ] || IFS= read -r old <"/at/$1"
[ "$new" != "$old" ] || exec chmod 600 "/at/$1"
printf '%s\n' "$new" >"/at/$1.part" && mv "/at/$1.part" "/at/$1"
