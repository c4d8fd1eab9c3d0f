"""The written-out LSTM against torch's."""

import torch

from grok.models.lstm import SequenceLSTM


def test_it_is_torchs_lstm():
    torch.manual_seed(0)
    model = SequenceLSTM(11, 5, 7, 2, 3).double()
    plain = torch.nn.LSTM(5, 7, 2, batch_first=True).double()
    with torch.no_grad():
        for layer, cell in enumerate(model.cells):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(plain, f"{name}_l{layer}").copy_(getattr(cell, name))
    tokens = torch.randint(11, (4, 9))
    expected = model.output(plain(model.tokens[tokens])[0][:, -1])
    assert torch.allclose(model(tokens), expected)
