"""Instrument profiles: one TOML file each."""
