"""Scales with which weights are rounded at less loss, found from what a decoder's products read."""
