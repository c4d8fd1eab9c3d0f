"""A long short-term memory over tokens (Hochreiter & Schmidhuber 1997)."""

import torch
from torch import Tensor, nn


class SequenceLSTM(nn.Module):
    """Token vectors, layers of LSTM cells, and a linear layer on the last state; torch's initial weights.

    Written out step by step: torch.nn.LSTM cannot be mapped over replicas.
    """

    def __init__(self, vocabulary: int, embedding: int, hidden: int, depth: int, classes: int):
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(vocabulary, embedding))
        self.cells = nn.ModuleList(
            nn.LSTMCell(embedding if layer == 0 else hidden, hidden) for layer in range(depth)
        )
        self.output = nn.Linear(hidden, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (N, C) for tokens (N, S)."""
        x = self.tokens[tokens]  # (N, S, D)
        for cell in self.cells:
            assert isinstance(cell, nn.LSTMCell)
            # the inputs' part of the gates, for all steps at once
            inputs = x @ cell.weight_ih.T + cell.bias_ih + cell.bias_hh
            hidden = memory = torch.zeros_like(inputs[:, 0, : cell.hidden_size])
            states = []
            for entering in inputs.unbind(1):  # slices would each have a gradient of full size
                gates = entering + hidden @ cell.weight_hh.T
                enter, forget, new, leave = gates.chunk(4, dim=-1)
                memory = forget.sigmoid() * memory + enter.sigmoid() * new.tanh()
                hidden = leave.sigmoid() * memory.tanh()
                states.append(hidden)
            x = torch.stack(states, 1)
        return self.output(hidden)
