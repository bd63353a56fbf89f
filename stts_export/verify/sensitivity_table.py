"""What rounding costs, as a table and a last line that says what to build."""

from __future__ import annotations

import shlex

from stts_export.verify.sensitivity import Sensitivity
from stts_runtime.sizes import MIB, size_text
from stts_runtime.text_table import Rows


def sensitivity_rows(found: Sensitivity) -> Rows:
    """Return a row a layer, the dearest first, and one for all of them."""
    rows = [
        (layer.name, f"{layer.cost.perplexity:.4f}x", f"{layer.cost.top1:.1%}", f"{layer.bytes / MIB:.1f}")
        for layer in found.layers
    ]
    everything = sum(layer.bytes for layer in found.layers)
    rows.append(("all", f"{found.whole.perplexity:.4f}x", f"{found.whole.top1:.1%}", f"{everything / MIB:.1f}"))
    title = f"{found.weights}: each layer rounded alone, on text, beside the model in floats"
    return Rows(title, ("layer", "perplexity", "same token", "MiB more in floats"), tuple(rows))


def proposal_line(found: Sensitivity) -> str:
    """Return what to build."""
    limit, proposal = found.limit, found.proposal
    wanted = f"allowed {limit.perplexity:g}x and {limit.top1:.1%}"
    cost = f"{proposal.cost.perplexity:.4f}x and {proposal.cost.top1:.1%}, {wanted}"
    if not proposal.keep_float:
        return f"all of it passes: {cost}; build with --weights {found.weights}"
    if proposal.layers == len(found.layers):
        return f"nothing short of all of it in floats passes ({wanted}): build with --weights float"
    patterns = " ".join(map(shlex.quote, proposal.keep_float))
    share = f"{proposal.layers} of {len(found.layers)} layers in floats, {size_text(proposal.bytes)} more"
    return f"passes with {share}: {cost}; build with --weights {found.weights} --keep-float {patterns}"
