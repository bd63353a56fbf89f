"""Doom's actors for clips: they look like the game's and do exactly what they are told, with no chance in it.

Each is written in DECORATE (https://zdoom.org/wiki/DECORATE), the engine's language for actors: it appears, moves,
stops and vanishes at given tics, which its map tells it by five arguments.
"""

from __future__ import annotations

from dataclasses import dataclass


FIRST_TYPE = 31000
PREFIX = "Clip"
NEVER = 4095
# Two tics share an argument: the later one above these bits.
_TIC_BITS = 12
# Velocities are told in sixteenths of a map unit a tic, moved up to be positive, ten bits each.
_STEPS, _BIAS, _BITS = 16, 512, 10


@dataclass(frozen=True)
class Look:
    """How a class looks."""

    sprite: str  # its four-letter name
    poses: str  # letters of its pictures; a thing that stays shows one of them
    scale: float  # size against the game's own
    bright: bool = False  # whether it glows in the dark
    restless: bool = False  # whether its pictures change while it stays, as a flame does


LOOKS = {
    "medikit": Look("MEDI", "A", 2.6),
    "gold mask": Look("SOUL", "ABCD", 2.5, bright=True, restless=True),
    "green column": Look("COL1", "A", 1.4),
    "red column": Look("COL3", "A", 1.4),
    "blue torch": Look("TBLU", "ABCD", 1.2, bright=True, restless=True),
    "tree": Look("SMIT", "A", 1.4),
    "imp": Look("TROO", "ABCD", 1.5),
    "demon": Look("SARG", "ABCD", 1.6),
    "cacodemon": Look("HEAD", "A", 1.3),
    "knight": Look("BOSS", "ABCD", 1.3),
    "fireball": Look("BAL1", "AB", 2.8, bright=True, restless=True),
}


def actor_type(name: str) -> int:
    """Return the number that maps name the class by."""
    return FIRST_TYPE + list(LOOKS).index(name)


def class_of(engine_name: str) -> str | None:
    """Return the class of an actor by the engine's name for it; None for those that are not ours."""
    if not engine_name.startswith(PREFIX):
        return None
    return list(LOOKS)[int(engine_name.removeprefix(PREFIX))]


def arguments(
    shown: tuple[int, int], away: tuple[int, int], moves: tuple[int, int], velocity: tuple[float, float], pose: int
) -> tuple[int, ...]:
    """Return an actor's five arguments.

    It is there from the first tic of `shown` until before the second, is away and moves likewise. The velocity is told
    in map units a tic, east and north, each below 32; the pose says which of its pictures it begins with.
    """
    east, north = (round(value * _STEPS) + _BIAS for value in velocity)
    hidden = [first + (second << _TIC_BITS) for first, second in zip(shown, away, strict=True)]
    return (*hidden, *moves, (pose << 2 * _BITS) + (east << _BITS) + north)


def decorate() -> str:
    """Return the actors as DECORATE text."""
    return "\n".join(_actor(name, look) for name, look in LOOKS.items())


def _actor(name: str, look: Look) -> str:
    moving = "(user_t >= args[2] && user_t < args[3])"
    size = 1 << _BITS
    east = f"({moving} ? ((args[4] / {size}) % {size} - {_BIAS}) / {_STEPS}.0 : 0)"
    north = f"({moving} ? (args[4] % {size} - {_BIAS}) / {_STEPS}.0 : 0)"
    tic = 1 << _TIC_BITS
    away, back = f"args[0] / {tic}", f"args[1] / {tic}"
    rests = "0" if look.restless else f"!{moving}"
    bright = " Bright" if look.bright else ""
    picks = [
        f'    TNT1 A 0 A_JumpIf(args[4] / {size * size} == {index}, "Pose{pose}")'
        for index, pose in enumerate(look.poses)
    ]
    poses = []
    for index, pose in enumerate(look.poses):
        following = look.poses[(index + 1) % len(look.poses)]
        poses += [
            f"  Pose{pose}:",
            f'    {look.sprite} {pose} 0{bright} A_JumpIf(user_t >= args[1] % {tic}, "Gone")',
            f'    {look.sprite} {pose} 0{bright} A_JumpIf(user_t >= {away} && user_t < {back}, "Away")',
            f"    {look.sprite} {pose} 0{bright} A_ChangeVelocity({east}, {north}, 0, CVF_REPLACE)",
            f'    {look.sprite} {pose} 1{bright} A_SetUserVar("user_t", user_t + 1)',
            f'    {look.sprite} {pose} 0{bright} A_JumpIf({rests} || user_t % 5 != 0, "Pose{pose}")',
            f"    goto Pose{following}",
        ]
    number = list(LOOKS).index(name)
    return "\n".join(
        [
            f"actor {PREFIX}{number} {FIRST_TYPE + number}",
            "{",
            f"  Radius 8 Height 40 Scale {look.scale}",
            "  +NOGRAVITY +NOINTERACTION",
            "  var int user_t;",
            "  States {",
            "  Spawn:",
            f'    TNT1 A 0 A_JumpIf(user_t >= args[0] % {tic}, "Shown")',
            '    TNT1 A 1 A_SetUserVar("user_t", user_t + 1)',
            "    loop",
            "  Shown:",
            *picks,
            *poses,
            "  Away:",
            f'    TNT1 A 0 A_JumpIf(user_t >= {back}, "Shown")',
            '    TNT1 A 1 A_SetUserVar("user_t", user_t + 1)',
            "    loop",
            "  Gone:",
            "    TNT1 A -1",
            "    stop",
            "  }",
            "}",
        ]
    )
