"""Gradients across the boundary: a call is one node of the caller's graph.

The graph of the call itself stays on the side where it was made. A backward pass through the node
is one request; it may be repeated, but not differentiated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from proctor.wire import WireError

if TYPE_CHECKING:
    from proctor.peer import Peer


class Ticket:
    """A call whose graph the other side keeps for as long as this lives."""

    def __init__(
        self, peer: Peer, number: int, outputs: list[torch.Tensor], leaves: list[torch.Tensor]
    ) -> None:
        if not all(t.is_floating_point() or t.is_complex() for t in outputs):
            raise WireError("integers that ask for a gradient")
        self.peer, self.number, self.outputs = peer, number, outputs
        self.leaves = [(t.shape, t.dtype) for t in leaves]

    def __del__(self) -> None:
        self.peer.dropped.append(self.number)


class Crossing(torch.autograd.Function):
    """The node of this side's graph that stands for a call."""

    @staticmethod
    def forward(ctx: Any, ticket: Ticket, *leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.ticket = ticket
        ctx.set_materialize_grads(False)
        outputs, ticket.outputs = ticket.outputs, []
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[Any, ...]:
        if torch.is_grad_enabled():  # only create_graph=True keeps it on here
            raise RuntimeError("double backward does not cross: leave out create_graph=True")
        ticket = ctx.ticket
        return (None, *ticket.peer.backward(ticket.number, grads, ticket.leaves))
