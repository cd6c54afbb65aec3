"""Cosmic rays found and mended in single exposures."""
