"""The config.json of a released checkpoint."""

from typing import Any


RELEASED: dict[str, Any] = {
    "model_type": "molmo2",
    "tie_word_embeddings": False,
    "image_patch_id": 151938,
    "frame_start_token_id": 151943,
    "frame_end_token_id": 151944,
    "vit_config": {
        "model_type": "molmo2",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 72,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "image_default_input_size": [378, 378],
        "image_patch_size": 14,
        "image_num_pos": 729,
        "float32_attention": True,
    },
    "adapter_config": {
        "vit_layers": [-3, -9],
        "hidden_size": 1152,
        "num_attention_heads": 16,
        "intermediate_size": 9728,
        "text_hidden_size": 2560,
    },
    "text_config": {
        "hidden_size": 2560,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "additional_vocab_size": 128,
        "num_hidden_layers": 36,
        "intermediate_size": 9728,
        "layer_norm_eps": 1e-6,
        "rope_theta": 5000000.0,
        "rope_scaling": None,
        "rope_scaling_layers": None,
        "qkv_bias": False,
        "use_qk_norm": True,
        "qk_norm_type": "qwen3",
        "norm_after": False,
        "max_position_embeddings": 36864,
    },
}
"""As the released Molmo2-4B spells it."""
