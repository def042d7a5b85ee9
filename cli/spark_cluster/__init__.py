"""Look at a cluster, explain what is wrong with it, and edit its inventory. Changes no node."""

__version__ = "0.1.0"
