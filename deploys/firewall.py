"""Close every node with ufw, except to SSH, its peers, and the networks that may use the API.

pyinfra -y inventories/spark.py deploys/firewall.py
pyinfra -y inventories/spark.py deploys/firewall.py --data 'api_networks=["192.168.1.0/24"]'
pyinfra -y inventories/spark.py deploys/firewall.py --data firewall=absent

Each node puts its firewall back by itself unless a new SSH connection gets in after the change.
"""

from pyinfra import host

from control import run
from control.firewall import plan_firewall
from operations import firewall

firewall.changed(name="Firewall", change=run.shared(host.state, plan_firewall)[host.name])
