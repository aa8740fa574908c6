"""The LSTM kernel: the bits of `nn.LSTM`, whatever the batch."""

from __future__ import annotations

import pytest
import torch

from foretell import lstm
from foretell.lstm import BUCKETS, MAX_ROWS, Kernel, Lstm, bucket_of
from foretell.model import ModelSpec
from small_models import joint_spec, model_of

SPECS = [
    joint_spec(3, hidden=64, layers=2),
    joint_spec(8, hidden=64),
    joint_spec(1, 2, hidden=5, layers=3),
    joint_spec(2, 1, hidden=32),
    joint_spec(2, 16, hidden=16),
]


def random_inputs(
    spec: ModelSpec, rows: int, steps: int = 1
) -> tuple[torch.Tensor, list[torch.Tensor], list[torch.Tensor]]:
    """Inputs and states that are not zero."""
    torch.manual_seed(rows)
    h = [torch.randn(rows, spec.hidden_size).tanh() for _ in range(spec.num_layers)]
    c = [torch.randn(rows, spec.hidden_size) for _ in range(spec.num_layers)]
    return torch.randn(steps, rows, spec.input_size), h, c


@pytest.fixture(params=list(Kernel))
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Both kernels, the fallback by taking the other away."""
    if request.param is Kernel.TORCH:
        monkeypatch.setattr(lstm, "_agrees", lambda *_: False)
    return Kernel(request.param)


@pytest.mark.parametrize("spec", SPECS)
def test_a_step_is_that_of_torch(kernel: Kernel, spec: ModelSpec) -> None:
    """States agree with nn.LSTM to the bit, outputs with F.linear to rounding."""
    model = model_of(spec)
    subject = Lstm(model)
    assert subject.kernel is kernel
    x, h, c = random_inputs(spec, 16)
    y, h_next, c_next = subject.step(x, h, c)
    with torch.inference_mode():
        _, (h_plain, c_plain) = lstm.plain_lstm(model)(x, (torch.stack(h), torch.stack(c)))
    assert torch.equal(torch.stack(h_next), h_plain)
    assert torch.equal(torch.stack(c_next), c_plain)
    linear = torch.nn.functional.linear(
        h_plain[-1], model.weights["linear.weight"], model.weights["linear.bias"]
    )
    torch.testing.assert_close(y, linear)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("rows", [2, 3, 15, 64, 640])
def test_a_row_does_not_depend_on_its_batch(kernel: Kernel, spec: ModelSpec, rows: int) -> None:
    """Rows of a large batch have the bits that they have in a smaller one."""
    subject = Lstm(model_of(spec))
    x, h, c = random_inputs(spec, 1024)
    large = subject.step(x, h, c)
    small = subject.step(x[:, -rows:].clone(), [s[-rows:].clone() for s in h], [s[-rows:].clone() for s in c])
    assert torch.equal(small[0], large[0][-rows:])
    for small_states, large_states in zip(small[1:], large[1:], strict=True):
        assert all(torch.equal(a, b[-rows:]) for a, b in zip(small_states, large_states, strict=True))


def test_every_number_of_rows_has_a_bucket() -> None:
    """The bucket of any size is the smallest one that holds it, and wastes at most an eighth beyond 16 rows."""
    for rows in range(1, MAX_ROWS + 1):
        bucket = bucket_of(rows)
        assert bucket in BUCKETS
        assert rows <= bucket <= max(rows, rows * 9 // 8, 16)
    assert len(BUCKETS) < 100


def test_the_fallback_says_why() -> None:
    """Where the packed kernel is not used the reason is there for log and metrics."""
    assert Lstm(model_of(joint_spec())).reason


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(("rows", "steps"), [(2, 16), (3, 16), (64, 64), (2, 256), (16, 256)])
def test_several_steps_in_one_call_are_those_made_one_by_one(
    kernel: Kernel, spec: ModelSpec, rows: int, steps: int
) -> None:
    """Outputs and states have the same bits however many time steps a call makes."""
    subject = Lstm(model_of(spec))
    x, h, c = random_inputs(spec, rows, steps)
    y, h_last, c_last = subject.step(x, h, c)
    for step in range(steps):
        y_one, h, c = subject.step(x[step : step + 1], h, c)
        assert torch.equal(y_one, y.view(steps, rows, -1)[step])
    assert all(map(torch.equal, [*h, *c], [*h_last, *c_last]))
