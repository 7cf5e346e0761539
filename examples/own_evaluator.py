"""An evaluator of your own: nas search --evaluator examples/own_evaluator.py:Robust --data digits

It trains as the evaluator 'training' does, and then measures one thing more: the accuracy on noisy validation images.
The measure is declared in `measures`, and its values are stored with every operating point of a fully trained network.
Check yours with `nas.testing.check_evaluator(Robust)`.
"""

import torch

from evaluators.training import Training
from nas import AnytimeNetwork, Evaluator, Measure

NOISE = 1.0  # standard deviations of the pixels
NOISY_ACCURACY = Measure(
    name="noisy_accuracy",
    unit="fraction",
    maximise=True,
    meaning="accuracy on noisy validation images",
    required=False,  # partially trained networks have no value
)


class Robust(Evaluator):
    """Trains with SGD and measures accuracy, also on noisy validation images."""

    measures = (*Training.measures, NOISY_ACCURACY)
    checkpoint = Training.checkpoint

    def __init__(self, data, **settings):
        self.training = Training(data, **settings)

    def info(self):
        return self.training.info()

    def data_in_memory(self):
        return self.training.data_in_memory()  # on a cluster, the workers of a machine share one copy

    def evaluate(self, job, report):
        outcome = self.training.evaluate(job, report)
        if outcome.saved:
            network = AnytimeNetwork.load(job.folder).to(self.training.device)
            for point, accuracy in zip(outcome.points, self.noisy_accuracies(network, job.seed)):
                point["noisy_accuracy"] = accuracy
        return outcome

    @torch.no_grad()
    def noisy_accuracies(self, network, seed):
        """The share of correct answers of every level to images with Gaussian noise."""
        images, generator = self.training.source.validation(), torch.Generator().manual_seed(seed)
        correct = [0] * network.levels
        for x, labels in images.evaluate():
            noise = torch.randn(x.shape, generator=generator).to(x.device)
            for level, logits in enumerate(network.forward_all(x + NOISE * noise)):
                correct[level] += int((logits.argmax(1) == network.labels(labels, level)).sum())
        return [count / len(images) for count in correct]
