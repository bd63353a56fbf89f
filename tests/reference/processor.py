"""Transformers' own Molmo2 processor without a download: its defaults, and the small tokenizer.

Nothing of it is ours: what our prompt is compared with is made by transformers and `tokenizers` alone.
"""

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.models.molmo2.image_processing_molmo2 import Molmo2ImageProcessor
from transformers.models.molmo2.processing_molmo2 import Molmo2Processor
from transformers.models.molmo2.video_processing_molmo2 import Molmo2VideoProcessor

from reference.toy_tokenizer import trained_tokenizer


def reference_processor() -> Molmo2Processor:
    """A fresh processor; its EOS is `<|im_end|>` and stands in for the missing BOS, as in Molmo2's checkpoints."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(trained_tokenizer()), eos_token="<|im_end|>", pad_token="<|im_end|>"
    )
    # The class leaves these to the checkpoint's preprocessor file; without them pixels would stay bytes.
    video = Molmo2VideoProcessor(do_resize=True, do_rescale=True, do_normalize=True)
    return Molmo2Processor(Molmo2ImageProcessor(), video, tokenizer)
