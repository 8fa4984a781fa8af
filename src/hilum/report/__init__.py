"""Metrics with intervals, figures and provenance."""
