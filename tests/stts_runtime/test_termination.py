import os
import signal
import threading
import time

import pytest

from stts_runtime.termination import termination_as_exit


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_unwinds_the_stack_and_the_default_comes_back(number):
    cleaned = []

    def work():
        with termination_as_exit():
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            finally:
                cleaned.append(True)

    with pytest.raises(SystemExit) as caught:
        work()
    assert caught.value.code == 128 + number
    assert cleaned
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_programs_own_handler_stays():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with termination_as_exit():
            os.kill(os.getpid(), signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_another_thread_nothing_is_touched():
    done = []

    def work():
        with termination_as_exit():
            done.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.SIG_DFL]
