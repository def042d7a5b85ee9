"""How pyinfra connects to the nodes. docs/settings.md lists every setting and its default."""

from transport import nodelay

# Refuse a node whose host key is unknown: tokens and keys are sent to it. pyinfra's own default
# (accept-new) accepts the key of any new node.
ssh_strict_host_key_checking = "yes"
# Turn off Nagle's algorithm. paramiko leaves it on, which costs about 40 ms a command.
ssh_paramiko_connect_kwargs = {"transport_factory": nodelay}
