"""What this device is, and whether a bundle can run on it: known before an engine is touched.

readings (files, commands, libcuda, packages: raw, recordable) -> probe (parsed) -> doctor (findings with advice)
"""
