"""What pyinfra reads on a node. Each fact answers on its own; NodeReading reads many at once."""
