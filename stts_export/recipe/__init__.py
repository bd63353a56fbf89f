"""What to build, as TOML data: found by name, read strictly into frozen records, checked for impossible values."""
