"""An evaluator whose data are a Dataset, and that describes the memory in which its images lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import toy

from evaluators.data import Dataset, load


def memory_of(array):
    """The file that is mapped at the address of an array, and the position in it; None for memory of the process."""
    address = array.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, _, offset, _, _, *path = line.split(maxsplit=5)
        first, last = (int(number, 16) for number in place.split("-"))
        if first <= address < last:
            return [path[0], int(offset, 16) + address - first] if path and path[0].startswith("/") else None
    return None


class Sharing(toy.Toy):
    """Writes where its images lie to the folder of the job."""

    def __init__(self, data, *, layout=None, **settings):
        super().__init__("digits")
        self.given, self.layout = data, layout

    def data_in_memory(self):
        return load(self.given, layout=self.layout)

    def info(self):
        return replace(super().info(), fingerprint=self.data_in_memory().fingerprint)

    def epoch(self, job, epoch):
        import ray

        x, node = self.given.x_train, ray.get_runtime_context().get_node_id()
        facts = {"memory": memory_of(x), "writeable": x.flags.writeable, "strides": x.strides, "node": node}
        self.write(Path(job.folder, "facts.json"), facts | {"given": type(self.given) is Dataset})
