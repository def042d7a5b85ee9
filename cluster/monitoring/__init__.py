"""What watches a group: Prometheus on its head, exporters on every node; which parts there should
be, what they read, and what differs from what is there."""
