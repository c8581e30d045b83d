"""Measurements: accuracy, latency, pages."""
