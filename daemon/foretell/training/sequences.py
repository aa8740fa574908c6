"""Tracks of unequal length through an LSTM side by side: padded and packed, in chunks, the state carried and detached.

A recording shorter than a chunk is one packed sequence, a longer one goes on from chunk to chunk with its state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from foretell.normalize import Floats
from foretell.training.network import Network, State


@dataclass(frozen=True, slots=True)
class Piece:
    """Frames `start` and on of the tracks that reach so far; arrays are padded by zeros.

    places: which tracks, lengths: how many frames each has in this piece, int64 [n]. columns: tensors [t, n, ...].
    """

    start: int
    places: torch.Tensor
    lengths: torch.Tensor
    columns: tuple[torch.Tensor, ...]


def pieces(tracks: Sequence[Sequence[Floats]], chunk: int, first: int | None = None) -> Iterator[Piece]:
    """Tracks, each some arrays [T, ...] of its own length, cut into pieces of `chunk` frames, the first of `first`."""
    lengths = np.array([len(track[0]) for track in tracks])
    start, end = 0, chunk if first is None else first
    while start < lengths.max():
        places = np.flatnonzero(lengths > start)
        here = np.minimum(lengths[places], end) - start
        columns = []
        for column in range(len(tracks[0])):
            shape = (int(here.max()), places.size, *tracks[0][column].shape[1:])
            padded = np.zeros(shape, np.float32)
            for lane, place in enumerate(places.tolist()):
                padded[: here[lane], lane] = tracks[place][column][start:end]
            columns.append(torch.from_numpy(padded))
        yield Piece(start, torch.from_numpy(places), torch.from_numpy(here), tuple(columns))
        start, end = end, end + chunk


def zero_state(network: Network, num_lanes: int) -> State:
    """The states of tracks that have not begun."""
    shape = (network.lstm.num_layers, num_lanes, network.lstm.hidden_size)
    return torch.zeros(shape), torch.zeros(shape)


def run_packed(
    network: Network, features: torch.Tensor, lengths: torch.Tensor, state: State
) -> tuple[torch.Tensor, State]:
    """Outputs [t, n, O] of features [t, n, K], and each track's state after its own last frame.

    Padding is neither seen nor stepped; outputs there have no meaning.
    """
    if bool((lengths == features.shape[0]).all()):
        hidden, after = network.lstm(features, state)
        return network.linear(hidden), after
    packed = pack_padded_sequence(features, lengths, enforce_sorted=False)
    hidden, after = network.lstm(packed, state)
    padded, _ = pad_packed_sequence(hidden, total_length=features.shape[0])
    return network.linear(padded), after
