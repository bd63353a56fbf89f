"""Exceptions of foreign libraries become ours; what is ours or the interpreter's passes."""

import pytest
from reference.panic import PanicException

from stts_runtime.errors import EngineError, UsageError
from stts_runtime.foreign import foreign_errors


@pytest.mark.parametrize("raised", [PanicException("unreachable"), ValueError("unreachable"), OSError("unreachable")])
def test_whatever_a_library_raises_leaves_as_our_error_with_its_words(raised):
    with pytest.raises(EngineError, match="the abacus fell: unreachable") as caught:  # noqa: SIM117
        with foreign_errors(lambda reason: EngineError(f"the abacus fell: {reason}")):
            raise raised
    assert caught.value.__cause__ is raised


def test_an_exception_without_words_is_named():
    with pytest.raises(EngineError, match="PanicException"), foreign_errors(EngineError):
        raise PanicException


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError, UsageError])
def test_what_is_ours_or_the_interpreters_passes(kind):
    with pytest.raises(kind) as caught, foreign_errors(EngineError):
        raise kind("as it is")
    assert caught.value.__cause__ is None


def test_a_block_that_succeeds_is_left_alone():
    with foreign_errors(EngineError):
        done = True
    assert done
