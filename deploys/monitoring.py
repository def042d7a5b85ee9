"""Watch the group: Prometheus on its head, or on the host in the group `monitor`; node_exporter and
the GPUs' figures on every node that serves.

pyinfra -y inventories/spark.py deploys/monitoring.py
pyinfra -y inventories/spark.py deploys/monitoring.py --data monitoring=absent

It scrapes what the inventory names, whatever model is served: run it again when nodes, ports or
addresses change. Removing it keeps Prometheus' data, unless monitoring_data=absent.
"""

from pyinfra import host

from control.monitoring import monitoring_run
from operations import images, monitoring

run = monitoring_run(host)

# The head's operations bring the images to all hosts.
if host.name == run.head:
    for order, needed in run.orders:
        images.delivered(name=f"Image {order.image}", order=order, needed=needed)

monitoring.converged(name="Monitoring", change=run.changes[host.name])
