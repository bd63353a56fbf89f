import pytest
import torch

from stts_export.models import attention, selection
from stts_export.ops import function_bodies
from stts_export.ops.reference import CALLS, reference


def test_every_operator_has_a_reference():
    assert set(CALLS) == {body.name for body in function_bodies()}


def test_inputs_are_in_the_contracts_order_and_attributes_by_name():
    query, key, value = torch.randn(3, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    segments = torch.tensor([[0, 0, 1, 1, -1]] * 2)
    (got,) = reference("SegmentAttention", (query, key, value, segments), {"heads": 2})
    assert torch.equal(got, attention.segment_attention(query, key, value, 2, segments))


def test_several_outputs_come_in_order():
    scores, kept = torch.tensor([[0.1, 0.9], [0.4, 0.2]]), torch.zeros(3, dtype=torch.int64)
    for got, wanted in zip(
        reference("SelectGroups", (scores, kept), {}), selection.select_groups(scores, kept), strict=True
    ):
        assert torch.equal(got, wanted)


def test_an_operator_that_is_not_ours_is_a_bug():
    with pytest.raises(KeyError):
        reference("Conv", (), {})
