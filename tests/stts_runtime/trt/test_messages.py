from reference.fake_tensorrt import fake_tensorrt

from stts_runtime.trt.messages import Messages, collecting_logger


NO_DRIVER = "Cuda Runtime (cudaError 35: CUDA driver version is insufficient for CUDA runtime version)"


def messages_of(*said):
    messages = Messages()
    for severity, text in said:
        messages.add(severity, text)
    return messages


def test_the_first_errors_explain_and_the_missing_driver_is_noise_after_them():
    said = [(3, "hello"), (1, "the cause"), (1, NO_DRIVER), (1, "the cause"), (2, "a warning")]
    assert messages_of(*said).explanation() == "the cause"


def test_the_missing_driver_is_told_where_it_is_all_there_is():
    assert "cudaError 35" in messages_of((1, NO_DRIVER)).explanation()


def test_later_errors_are_counted():
    text = messages_of(*((1, f"error {i}") for i in range(5))).explanation()
    assert text == "error 0; error 1; error 2 (2 more messages)"


def test_without_errors_the_last_warning_is_told():
    assert messages_of((2, "first"), (2, "last")).explanation() == "it gave no reason; its last warning: last"
    assert messages_of().explanation() == "it gave no reason"


def test_figures_are_those_of_the_log():
    messages = messages_of((3, "Max Scratch Memory: 77424640 bytes"), (3, "Total Activation Memory: 5 bytes"))
    assert messages.figures() == {"scratch_bytes": 77424640, "activation_bytes": 5}


def test_details_are_kept_only_if_asked_for():
    module = fake_tensorrt("10.3.0")
    for verbose, kept in ((False, 1), (True, 2)):
        messages = Messages()
        logger = collecting_logger(module, messages, verbose)
        logger.log(module.Severity.INFO, "information")
        logger.log(module.Severity.VERBOSE, "details")
        assert len(messages.all) == kept
