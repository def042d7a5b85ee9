"""Deploys beside the main one: each is one verb."""
