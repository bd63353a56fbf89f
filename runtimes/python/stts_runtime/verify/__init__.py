"""Holds a bundle against what the torch model computed, which the bundle carries: with the engines that it runs on.

What `stts_export.verify`, which records it, needs too is here: one form of it, one way to compare, one report.
"""
