"""Which tensors a model has: names and shapes as a pure function of its configuration, no module needed."""

from __future__ import annotations

from stts_export.recipe.config import MERGERS, DecoderConfig, ModelConfig, TowerConfig


Shape = tuple[int, ...]
CHANNELS = 3


def expected_tensors(config: ModelConfig) -> dict[str, Shape]:
    """Return name -> shape of every weight of `models.Model(config)`, in data-flow order.

    A tied decoder has no head of its own; a scorer without weights (`cosine`, `random`, `none`) has no entries.
    """
    return {
        **_tower(config.tower, config.grid.patch_values, config.grid.patches),
        **(_scorer(config.tower) if config.scorer.kind == "learned" else {}),
        **_connector(config),
        **_decoder(config.decoder),
    }


def _linear(name: str, rows: int, columns: int, bias: bool = True) -> dict[str, Shape]:
    weight: dict[str, Shape] = {f"{name}.weight": (rows, columns)}
    return {**weight, f"{name}.bias": (rows,)} if bias else weight


def _layer_norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _tower(tower: TowerConfig, patch_values: int, patches: int) -> dict[str, Shape]:
    D = tower.width
    tensors = {
        **_linear("vision_tower.patch_embedding", D, patch_values),
        "vision_tower.position_embedding": (patches if tower.position_side is None else tower.position_side**2, D),
    }
    for i in range(tower.blocks):
        block = f"vision_tower.blocks.{i}"
        tensors |= _layer_norm(f"{block}.attention_norm", D)
        for projection in ("query", "key", "value", "output"):
            tensors |= _linear(f"{block}.attention.{projection}", D, D)
        tensors |= _layer_norm(f"{block}.mlp_norm", D)
        tensors |= _linear(f"{block}.mlp.up", tower.mlp_width, D)
        tensors |= _linear(f"{block}.mlp.down", D, tower.mlp_width)
    return tensors


def _scorer(tower: TowerConfig) -> dict[str, Shape]:
    D, M = tower.width, tower.mlp_width
    tensors: dict[str, Shape] = {}
    for projection in ("query", "key", "value", "output"):
        tensors |= _linear(f"scorer.pool.{projection}", D, D)
    tensors |= _linear("scorer.mlp.first", M, 2 * D)
    tensors |= _linear("scorer.mlp.second", M, M)
    return tensors | _linear("scorer.mlp.third", 1, M)


def _connector(config: ModelConfig) -> dict[str, Shape]:
    D, tapped = config.tower.width, config.tower.width * len(config.tower.taps)
    d_model, ffn = config.decoder.width, config.decoder.mlp_width
    tensors: dict[str, Shape] = {}
    if config.tower.connector == MERGERS:
        merged = D * config.grid.pool**2
        deep = [f"connector.deep_mergers.{i}" for i in range(config.tower.feature_sets - 1)]
        for merger, norm in (("connector.merger", D), *((name, merged) for name in deep)):
            tensors |= _layer_norm(f"{merger}.norm", norm)
            tensors |= _linear(f"{merger}.up", merged, merged)
            tensors |= _linear(f"{merger}.down", d_model, merged)
        return tensors
    for projection in ("query", "key", "value"):
        tensors |= _linear(f"connector.pool.{projection}", D, tapped)
    tensors |= _linear("connector.pool.output", D, D)
    tensors |= _linear("connector.projector.gate", ffn, D, bias=False)
    tensors |= _linear("connector.projector.up", ffn, D, bias=False)
    return tensors | _linear("connector.projector.down", d_model, ffn, bias=False)


def _decoder(decoder: DecoderConfig) -> dict[str, Shape]:
    d_model, head = decoder.width, decoder.head_dim
    queries, keys = decoder.heads * head, decoder.kv_heads * head
    tensors: dict[str, Shape] = {"decoder.embedding.weight": (decoder.vocabulary + decoder.extra_vocabulary, d_model)}
    for i in range(decoder.layers):
        block = f"decoder.blocks.{i}"
        tensors[f"{block}.attention_norm.weight"] = (d_model,)
        for projection, rows in (("query", queries), ("key", keys), ("value", keys)):
            tensors |= _linear(f"{block}.attention.{projection}", rows, d_model, bias=decoder.attention_bias)
        tensors |= _linear(f"{block}.attention.output", d_model, queries, bias=False)
        if decoder.query_key_norm != "none":
            per_head = decoder.query_key_norm == "head"
            tensors[f"{block}.attention.query_norm.weight"] = (head if per_head else queries,)
            tensors[f"{block}.attention.key_norm.weight"] = (head if per_head else keys,)
        tensors[f"{block}.mlp_norm.weight"] = (d_model,)
        tensors |= _linear(f"{block}.mlp.gate", decoder.mlp_width, d_model, bias=False)
        tensors |= _linear(f"{block}.mlp.up", decoder.mlp_width, d_model, bias=False)
        tensors |= _linear(f"{block}.mlp.down", d_model, decoder.mlp_width, bias=False)
    tensors["decoder.norm.weight"] = (d_model,)
    if not decoder.tied_embedding:
        tensors["decoder.head.weight"] = (decoder.vocabulary, d_model)
    return tensors
