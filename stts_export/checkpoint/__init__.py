"""Where weights come from: checkpoint layouts to our names as data, every tensor read only when asked for."""
