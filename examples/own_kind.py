"""A kind of operation of your own: a dilated convolution.

A search space uses it by its file and name (``padding=2`` keeps the size of a 3×3 kernel)::

    builder.add("examples/own_kind.py:Dilated", x, builder.map(16), kernel=3, padding=2, after=("norm", "relu"))

Widths, causal wiring, costs and training need nothing else. Check yours with `nas.testing.check_kind(Dilated)`.
"""

from torch.nn import functional as F

from nas.representation.kinds import Kind, window_size


class Dilated(Kind):
    """A convolution with dilation 2: a 3×3 kernel covers 5×5 positions."""

    learned = True
    mixing = True

    def output_size(self, operation, size):
        covered = tuple(2 * k - 1 for k in operation.kernel)
        return window_size(covered, operation.stride, operation.padding, size)

    def weight_size(self, operation):
        return operation.kernel

    def apply(self, operation, x, weight, bias, groups):
        conv = (F.conv1d, F.conv2d, F.conv3d)[len(operation.kernel) - 1]
        return conv(x, weight, bias, operation.stride, operation.padding, dilation=2, groups=groups)
