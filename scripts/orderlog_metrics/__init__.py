"""Checks of what is measured: the rules for Prometheus, the dashboards, and whether what they ask for exists."""
