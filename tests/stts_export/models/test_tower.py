from functools import partial

import torch
from torch.nn import functional as F

from stts_export.models.attention import frame_attention
from stts_export.models.tower import LayerNorm, VisionBlock, VisionTower
from stts_export.recipe.config import TowerConfig
from stts_runtime.bundle.manifest import Grid


CONFIG = TowerConfig(width=24, heads=3, mlp_width=40, blocks=2, taps=(1,), score_after=0)
GRID = Grid(image_size=84, patch_size=14, pool=3)


def test_patches_are_embedded_with_their_learned_position():
    tower = VisionTower(CONFIG, GRID)
    torch.nn.init.normal_(tower.position_embedding)
    patches = torch.rand(2, GRID.patches, 588)
    expected = patches @ tower.patch_embedding.weight.T + tower.patch_embedding.bias + tower.position_embedding
    torch.testing.assert_close(tower.embed(patches), expected)


def test_a_block_is_pre_norm_attention_and_tanh_gelu_mlp_on_a_residual_stream():
    block = VisionBlock(CONFIG)
    hidden = torch.randn(2, 5, 24)
    a, m = block.attention, block.mlp
    normed = F.layer_norm(hidden, (24,), block.attention_norm.weight, block.attention_norm.bias, 1e-6)
    q, k, v = (layer(normed).unflatten(-1, (3, 8)).transpose(1, 2) for layer in (a.query, a.key, a.value))
    attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    middle = hidden + a.output(attended)
    normed = F.layer_norm(middle, (24,), block.mlp_norm.weight, block.mlp_norm.bias, 1e-6)
    expected = middle + m.down(F.gelu(m.up(normed), approximate="tanh"))
    torch.testing.assert_close(block(hidden, partial(frame_attention, heads=3)), expected)


def test_attention_is_the_callers_choice_and_sees_unsplit_projections():
    block = VisionBlock(CONFIG)
    seen = []

    def attend(query, key, value):
        seen.append((query.shape, key.shape, value.shape))
        return torch.zeros_like(query)

    block(torch.randn(7, 24), attend)
    assert seen == [((7, 24),) * 3]


def test_norms_are_taken_in_float32_where_half_precision_would_overflow():
    norm = LayerNorm(4).half()
    hidden = torch.tensor([[60000.0, -60000, 1, 2]]).half()
    found = norm(hidden)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), F.layer_norm(hidden.float(), (4,)), atol=2e-3, rtol=2e-3)
