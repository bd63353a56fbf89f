"""What one client may cost the others. Every bound has a refusal of its own, and an option of `stts-runtime serve`."""

from __future__ import annotations

from dataclasses import dataclass, fields

from stts_runtime.errors import UsageError


@dataclass(frozen=True)
class ServerLimits:
    """Bounds of a server."""

    body_mib: int = 64  # of a request without an upload
    upload_mib: int = 512  # of an uploaded file, and of all that are kept together
    clip_seconds: int = 3600  # of a clip, as it is played
    frame_megapixels: int = 34  # of a clip's frames before they are resized: 8K
    decode_seconds: int = 60  # that reading a clip may take
    decode_mib: int = 4096  # of address space that reading a clip may take
    request_seconds: int = 300  # from a request's last byte to its answer's end
    waiting: int = 32  # requests that wait for the model
    answering: int = 8  # requests that are answered at once
    cache_mib: int = 1024  # of keys and values of all conversations, kept ones included
    seen_mib: int = 256  # of features of clips that were looked at before

    def check(self) -> None:
        """Raise UsageError for a bound that lets nothing through."""
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name == "seen_mib" else 1
            if value < least:
                raise UsageError(f"--{field.name.replace('_', '-')} is {value}, wanted at least {least}")
