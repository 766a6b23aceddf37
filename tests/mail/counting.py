"""How much work a function does, without a clock."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def calls(function: Callable[..., object], *args: object) -> int:
    """Run a function and count the calls within it, those of C code too."""
    count = 0

    def profile(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        function(*args)
    finally:
        sys.setprofile(before)
    return count


def growth(function: Callable[[int], object], size: int) -> float:
    """How many times the work grows when the size doubles: 2 is linear, 4 is
    quadratic. What is made for a size is not counted, so C{function} returns
    what is to be run."""
    first, second = function(size), function(2 * size)
    assert callable(first) and callable(second)
    return calls(second) / max(1, calls(first))
