"""What a Jetson says of itself: its model, its L4T release, its power mode."""

from __future__ import annotations

import re


MODEL = "/proc/device-tree/model"
RELEASE = "/etc/nv_tegra_release"
POWER_MODE = ("nvpmodel", "-q")


def jetson_model(text: str | None) -> str | None:
    """Return the model in `/proc/device-tree/model` (one line that ends in NUL); None where it is no Jetson's.

    Other Arm boards have the file too.
    """
    model = (text or "").strip("\0\n ")
    return model if "jetson" in model.lower() else None


def l4t_release(text: str | None) -> str | None:
    """Return the release that the first line of `/etc/nv_tegra_release` names: `36.4.3`; None without one.

    The line reads `# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, ...`.
    """
    found = re.match(r"#\s*R(\d+)\s*\(release\),\s*REVISION:\s*(\d+(?:\.\d+)*)", text or "")
    return f"{found[1]}.{found[2]}" if found else None


def power_mode(text: str | None) -> str | None:
    """Return the mode that `nvpmodel -q` prints after `NV Power Mode:`: `MAXN`, `15W`; None without one."""
    found = re.search(r"NV Power Mode:\s*(\S+)", text or "")
    return found[1] if found else None
