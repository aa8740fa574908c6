"""Tracks of unequal length side by side are stepped as each would be alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foretell.normalize import Floats
from foretell.training.network import Network
from foretell.training.sequences import pieces, run_packed, zero_state

LENGTHS = (3, 40, 17, 40, 1)


def _network() -> Network:
    torch.manual_seed(1)
    network = Network(6, 8, 2, (0.05, 0.5, 0.95))
    torch.nn.init.normal_(network.linear.weight)
    return network


def _tracks() -> list[list[Floats]]:
    rng = np.random.default_rng(1)
    return [[rng.normal(size=(length, 6)).astype(np.float32)] for length in LENGTHS]


@pytest.mark.parametrize(("chunk", "first"), [(64, None), (8, None), (8, 5), (1, None)])
@torch.no_grad()
def test_packed_and_cut_equals_each_alone(chunk: int, first: int | None) -> None:
    """However tracks are packed and cut, outputs and last states are those of each stepped alone, unpadded."""
    network, tracks = _network(), _tracks()
    h, c = zero_state(network, len(tracks))
    outputs = [np.full((length, 3), np.nan, np.float32) for length in LENGTHS]
    for piece in pieces(tracks, chunk, first):
        here = piece.places
        out, (h[:, here], c[:, here]) = run_packed(
            network, piece.columns[0], piece.lengths, (h[:, here], c[:, here])
        )
        for lane, (place, length) in enumerate(zip(here.tolist(), piece.lengths.tolist(), strict=True)):
            outputs[place][piece.start : piece.start + length] = out[:length, lane].numpy()
    for place, (features,) in enumerate(tracks):
        expected, state = network(torch.from_numpy(features)[:, None])
        np.testing.assert_allclose(outputs[place], expected[:, 0].numpy(), atol=1e-6)
        np.testing.assert_allclose(h[:, place].numpy(), state[0][:, 0].numpy(), atol=1e-6)
        np.testing.assert_allclose(c[:, place].numpy(), state[1][:, 0].numpy(), atol=1e-6)


def test_gradients_do_not_come_from_padding() -> None:
    """The gradient of a loss over true frames is the sum of those of each track alone."""
    network, tracks = _network(), _tracks()
    (piece,) = pieces(tracks, 64)
    out, _ = run_packed(network, piece.columns[0], piece.lengths, zero_state(network, len(tracks)))
    is_true = torch.arange(len(out))[:, None] < piece.lengths
    (out.square().sum(dim=-1) * is_true).sum().backward()  # type: ignore[no-untyped-call]  # torch's own
    packed = [weight.grad.clone() for weight in network.parameters() if weight.grad is not None]
    network.zero_grad()
    for (features,) in tracks:
        network(torch.from_numpy(features)[:, None])[0].square().sum().backward()
    for one, weight in zip(packed, network.parameters(), strict=True):
        torch.testing.assert_close(one, weight.grad, rtol=1e-4, atol=1e-4)


def test_a_piece_holds_the_tracks_that_reach_so_far() -> None:
    """Later pieces hold fewer tracks, each with the frames that it has there."""
    told = [(p.start, p.places.tolist(), p.lengths.tolist()) for p in pieces(_tracks(), 16)]
    assert told == [
        (0, [0, 1, 2, 3, 4], [3, 16, 16, 16, 1]),
        (16, [1, 2, 3], [16, 1, 16]),
        (32, [1, 3], [8, 8]),
    ]
