"""Settings every test shares."""

import os


os.environ.setdefault("HF_HUB_OFFLINE", "1")

import reference.torchvision_shim  # noqa: E402, F401  before anything imports transformers
import torch  # noqa: E402


torch.set_num_threads(2)
