"""The network while it is trained and evaluated: PyTorch's own modules under the names of the model file."""

from __future__ import annotations

import torch
from torch import nn

State = tuple[torch.Tensor, torch.Tensor]


class Network(nn.Module):
    """A stacked LSTM and a linear layer that gives quantiles of the next change, time-major.

    It begins as persistence: every output's weights are 0, the median's bias too, and the other quantiles are those of
    a logistic distribution whose mean absolute value is one unit.
    """

    def __init__(
        self, num_features: int, hidden_size: int, num_layers: int, quantiles: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.lstm = nn.LSTM(num_features, hidden_size, num_layers)
        self.linear = nn.Linear(hidden_size, len(quantiles))
        levels = torch.tensor(quantiles)
        with torch.no_grad():
            self.linear.weight.zero_()
            self.linear.bias.copy_(torch.logit(levels) / (2.0 * torch.log(torch.tensor(2.0))))
            for layer in range(num_layers):
                # Remember to begin with (R. Jozefowicz et al., "An Empirical Exploration of Recurrent Network
                # Architectures", ICML 2015): the second quarter of the gates is the forget gate's.
                self.lstm.get_parameter(f"bias_ih_l{layer}")[hidden_size : 2 * hidden_size] = 1.0

    def forward(
        self, features: torch.Tensor, state: State | None = None, *, is_rounded: bool = False
    ) -> tuple[torch.Tensor, State]:
        """Features [t, n, K] to quantiles [t, n, Q] in units, and the state after them, all float32.

        With `is_rounded` the LSTM computes in bfloat16.
        """
        with torch.autocast("cpu", torch.bfloat16, enabled=is_rounded):
            hidden, (h, c) = self.lstm(features, state)
        return self.linear(hidden.float()), (h.float(), c.float())


def ordered(outputs: torch.Tensor, median: int) -> torch.Tensor:
    """Quantiles [..., Q] that do not cross: running maxima and minima outward from the median, as in serving."""
    upper = torch.cummax(outputs[..., median:], dim=-1).values
    lower = torch.cummin(outputs[..., : median + 1].flip(-1), dim=-1).values.flip(-1)
    return torch.cat([lower[..., :-1], upper], dim=-1)
