"""What a panic of native code is to Python."""


class PanicException(BaseException):
    """As pyo3's: no Exception, so that `except Exception` lets it through."""
