"""Throttleable networks: VGG, ResNet, ResNeXt, DenseNet and C3D of gated modules, driven by one utilization.

From the papers: modules whose components are gated, and one number u in [0, 1] that determines how many are on; the
base networks. From the released code: the components, which are channels of a layer side by side (VGG, C3D), paths of a
block that are summed (ResNeXt), layers of a dense block (DenseNet), and residual blocks, round-robin from the last
stage (ResNet); the factor 1/c or n/c for the active values if c of n components are on, except in residual networks and
C3D; the number of components that are always on; one norm for all utilizations.

Ours: separate norms for each operating point, and training in groups. Ours too, because the full text was not
available: the sizes; pre-activation in ResNeXt; the factor as an option that is off by default, and its place in
DenseNet; the mean over all positions before the hidden layers of VGG and C3D; the ranges of the choices.

References
----------
Liu, Parajuli, Hostetler, Chai & Bhanu, Dynamically Throttleable Neural Networks (TNN), arXiv 2011.02836.
Hostetler, Toward Runtime-Throttleable Neural Networks, arXiv 1905.13179.
Simonyan & Zisserman, ICLR 2015 (VGG); He et al., CVPR 2016 (ResNet); Xie et al., CVPR 2017 (ResNeXt); Huang et al.,
CVPR 2017 (DenseNet); Tran et al., ICCV 2015 (C3D).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from nas.errors import UserError, unknown_name
from nas.representation.architecture import Architecture
from nas.representation.builder import Builder
from nas.representation.elements import DROPOUT, Size, Task
from nas.representation.gates import round_robin
from nas.spaces.choices import Choose
from nas.spaces.references import Design, Reference, sizes_within
from search_spaces.images import check_task, num_stages, stem_strides

CIFAR = Task(input_shape=(3, 32, 32), num_classes=10)
VIDEO = Task(input_shape=(3, 16, 112, 112), num_classes=101)
UTILIZATIONS = (0.0, 1 / 3, 2 / 3, 1.0)
"""Utilizations of the operating points."""
IN_GROUPS: dict[str, Any] = {"groups": 4, "warm_up": 0.5, "soft": True}
"""Settings of the training rule for networks with norms for each utilization, see
:class:`evaluators.rules.random_utilization.RandomUtilization`. Selected on CIFAR-10's validation images, with one seed.
"""
NORMS = ("shared", "recalibrated")
NORMED = ("all", "first", "none")
"""The layers of VGG and C3D that have a norm."""
NR = ("norm", "relu")

BASES = ("vgg", "resnet", "resnext", "densenet")
CHAIN_WIDTHS = (8, 16, 24, 32)
RESIDUAL_WIDTHS = (8, 12, 16, 24, 32)
PATHS_WIDTHS = (16, 24, 32, 48)
GROWTHS = (4, 6, 8, 12)
BOTTLENECKS = (1, 2, 4)
"""Channels of a path in the first stage."""
CHAIN_DEPTHS = (1, 2, 3)
PATHS_DEPTHS = (1, 2, 3)


def vgg(
    width: int = 64,
    depths: Sequence[int] = (2, 2, 3, 3, 3),
    components: int | Sequence[int] = 8,
    *,
    task: Task = CIFAR,
    utilizations: Sequence[float] | None = None,
    always: int = 1,
    scale: str = "none",
    norm: str = "shared",
    normed: str = "all",
    dropout: bool = False,
) -> Architecture:
    """VGG in which every hidden layer is a gated module of components side by side.

    Stages of 3×3 convolutions, with width · 1, 2, 4, 8 and 8 channels, each ending in a pooling (sides of one pixel are
    not pooled); the mean over all positions; two hidden linear layers of 8 · width.

    Parameters
    ----------
    width : int
        Channels of the first stage.
    depths : sequence of int
        Convolutions of each stage, for one to five stages.
    components : int or sequence of int
        Components of every layer; a divisor of the width. Or one number for each stage and one for the hidden linear
        layers; layers with one component are not gated.
    task : Task
    utilizations : sequence of float, optional
        Utilizations of the operating points, ascending. Default: four from 0 to 1; with ``always=0``, from the smallest
        at which every layer has a component.
    always : int
        Components that are on at every utilization. With 0, all logits are zero at small utilizations.
    scale : {"none", "mean", "full"}
        Factor of the values when c of n components are on: 1, 1/c or n/c.
    norm : {"shared", "recalibrated"}
        "shared": all utilizations share norms and train side by side. "recalibrated": norms are estimated for each
        operating point, after training in groups of one utilization.
    normed : {"all", "first", "none"}
        The layers with a norm; the others have a bias.
    dropout : bool
        Set half of the values of the hidden linear layers to zero in training.

    Returns
    -------
    Architecture

    Raises
    ------
    UserError
        If components do not divide the width, or if there are not one to five stages.
    InvalidArchitecture
        If two utilizations have the same MACs.
    """
    chain = _Chain(task, _of_stages(components, depths), always, scale, normed, dropout=dropout)
    return _plain(chain, width, depths, 2, utilizations, norm)


def c3d(
    width: int = 64,
    depths: Sequence[int] = (1, 1, 2, 2, 2),
    components: int | Sequence[int] = 8,
    *,
    task: Task = VIDEO,
    utilizations: Sequence[float] | None = None,
    always: int = 1,
    scale: str = "none",
    norm: str = "shared",
    normed: str = "all",
    dropout: bool = False,
) -> Architecture:
    """C3D: as :func:`vgg`, with 3×3×3 convolutions over frames, and a first pooling that keeps all frames.

    The gates of the released code are ``components=(1, 16, 32, 32, 32, 16), always=0, normed="first"``.

    Parameters
    ----------
    width, depths, components, task, utilizations, always, scale, norm, normed, dropout
        As in :func:`vgg`; the task has videos.

    Returns
    -------
    Architecture

    Raises
    ------
    UserError, InvalidArchitecture
        As in :func:`vgg`.
    """
    chain = _Chain(task, _of_stages(components, depths), always, scale, normed, dropout=dropout)
    return _plain(chain, width, depths, (1, 2, 2), utilizations, norm)


def resnet(
    width: int = 16,
    depths: Sequence[int] = (3, 3, 3),
    *,
    task: Task = CIFAR,
    utilizations: Sequence[float] = UTILIZATIONS,
    always: int = 0,
    norm: str = "shared",
) -> Architecture:
    """ResNet whose residual branches are the components of one gated module: the utilization controls the depth.

    Stages of basic blocks, each twice as wide and half the size of the one before; the shortcuts between stages, 1×1
    convolutions, are not gated. Blocks are switched on round-robin from the last stage: its first block, the first
    block of the stage before, …

    Parameters
    ----------
    width : int
        Channels of the first stage.
    depths : sequence of int
        Blocks of each stage.
    always : int
        Blocks that are on at every utilization.
    task, utilizations, norm
        As in :func:`vgg`.

    Returns
    -------
    Architecture

    Raises
    ------
    InvalidArchitecture
        If two utilizations have the same MACs.
    """
    builder = Builder(task)
    x = _stem(builder, width, after=NR)
    branches: list[list[int]] = []
    for stage, depth in enumerate(depths):
        branches.append([])
        for block in range(depth):
            across = stage > 0 and block == 0
            inner = builder.conv(x, width * 2**stage, stride=1 + across, after=NR)
            out = builder.conv(inner, width * 2**stage, after=("norm",), activation="relu")
            x = _shortcut(builder, x, out, across, after=("norm",))
            branches[-1].append(inner)
    order = round_robin([len(stage) for stage in branches])
    builder.gate([(branches[stage][block],) for stage, block in order], always=always)
    builder.head(x)
    return _finished(builder, utilizations, norm)


def resnext(
    width: int = 64,
    depths: Sequence[int] = (3, 3, 3),
    bottleneck: int = 4,
    cardinality: int = 8,
    components: int = 8,
    *,
    task: Task = CIFAR,
    utilizations: Sequence[float] = UTILIZATIONS,
    always: int = 0,
    scale: str = "none",
    norm: str = "shared",
) -> Architecture:
    """ResNeXt whose blocks are gated modules of paths that are summed onto the residual stream.

    Pre-activation blocks: in stage i the stream has width · 2^i channels and each of the paths bottleneck · 2^i.

    Parameters
    ----------
    width : int
        Channels of the stream in the first stage.
    depths : sequence of int
        Blocks of each stage.
    bottleneck : int
        Channels of a path in the first stage.
    cardinality : int
        Paths of a block.
    components : int
        Components of a block, each an equal share of its paths.
    task, utilizations, always, scale, norm
        As in :func:`vgg`.

    Returns
    -------
    Architecture

    Raises
    ------
    UserError
        Unless components divide the cardinality.
    InvalidArchitecture
        If two utilizations have the same MACs.
    """
    builder = Builder(task)
    x = _stem(builder, width)
    for stage, depth in enumerate(depths):
        paths = _equal(cardinality, components, "cardinality")
        slices = tuple(n * bottleneck * 2**stage for n in paths)
        for block in range(depth):
            across = stage > 0 and block == 0
            first = builder.conv(x, slices, kernel=1, before=NR, after=NR)
            second = builder.map(slices, scale=scale)
            builder.add("conv", first, second, kernel=3, stride=1 + across, groups=cardinality, after=NR)
            builder.gate([(first, second)] * components, always=always)
            out = builder.conv(second, width * 2**stage, kernel=1)
            x = _shortcut(builder, x, out, across, before=NR)
    builder.head(x, before=NR)
    return _finished(builder, utilizations, norm)


def densenet(
    growth: int = 12,
    depths: Sequence[int] = (6, 6, 6),
    *,
    task: Task = CIFAR,
    utilizations: Sequence[float] = UTILIZATIONS,
    always: int = 0,
    scale: str = "none",
    norm: str = "shared",
) -> Architecture:
    """DenseNet-BC whose dense blocks are gated modules with their layers as components.

    A layer is a 1×1 convolution to 4 · growth channels and a 3×3 convolution to growth; between blocks a 1×1
    convolution halves the channels, and a pooling the size.

    Parameters
    ----------
    growth : int
        Channels of a layer.
    depths : sequence of int
        Layers of each block.
    always : int
        Layers of a block that are on at every utilization.
    scale : {"none", "mean", "full"}
        Factor of the outputs of the layers where several are read together, for c on of n: 1, 1/c or n/c. The input of
        the block is not scaled.
    task, utilizations, norm
        As in :func:`vgg`.

    Returns
    -------
    Architecture

    Raises
    ------
    InvalidArchitecture
        If two utilizations have the same MACs.
    """
    builder = Builder(task)
    x = _stem(builder, 2 * growth)
    for stage, depth in enumerate(depths):
        if stage:
            narrow = builder.conv(x, sum(builder.slices(x)) // 2, kernel=1, before=NR)
            x = builder.add("avg_pool", narrow, builder.map(builder.slices(narrow)), **_window(builder, narrow, 2))
        layers, components = [x], []
        for _ in range(depth):
            read = _joined(builder, layers, scale)
            inner = builder.conv(read, 4 * growth, kernel=1, before=NR)
            layers.append(builder.conv(inner, growth, before=NR))
            components.append((inner, layers[-1]))
        builder.gate(components, always=always)
        x = _joined(builder, layers, scale)
    builder.head(x, before=NR)
    return _finished(builder, utilizations, norm)


def _joined(builder: Builder, layers: Sequence[int], scale: str) -> int:
    """The input of a dense block, which comes first, beside the outputs of its layers."""
    x, *outputs = layers
    if len(outputs) < 2 or scale == "none":
        return builder.concat(layers) if outputs else x
    return builder.concat([x, builder.concat(outputs, scale=scale)])


class Throttleable:
    """Throttleable networks (TNN): VGG, ResNet, ResNeXt or DenseNet of gated modules; C3D for videos.

    Choices: the base network, the width, the depth of every stage, the number of components and how many of them are
    always on, and the norm policy. Training in groups has no warm-up here: during a warm-up, small operating points are
    not trained, and early stopping would judge them by chance.
    """

    def architecture(self, choose: Choose, task: Task, *, points: int = 4) -> Architecture:
        """See :class:`nas.spaces.contract.SearchSpace`."""
        check_task("throttleable", task, points, video=True)
        network = self._network(choose, task, points)
        settings = dict(network.training.settings)
        settings.pop("warm_up", None)
        return replace(network, training=replace(network.training, settings=tuple(sorted(settings.items()))))

    def _network(self, choose: Choose, task: Task, points: int) -> Architecture:
        video = len(task.input_shape) == 4
        spread: dict[str, Any] = {"task": task, "utilizations": spread_utilizations(points)}
        spread["norm"] = choose("norm", NORMS)
        base = "c3d" if video else choose("base", BASES)
        stages = num_stages((-(-max(task.input_shape[1:]) // _stem_stride(task)),))
        if base in ("vgg", "c3d"):
            depths = tuple(choose(f"{base} {stage} depth", CHAIN_DEPTHS) for stage in range(stages + 1))
            width, components = choose(f"{base} width", CHAIN_WIDTHS), choose("components", _components(points))
            make = c3d if video else vgg
            return make(width, depths, components, **spread, scale=choose("scale", ("none", "mean", "full")))
        always = choose("always", (0, 1))
        if base == "resnet":
            fewest = -(-max(3, points) // stages)
            depths = tuple(choose(f"resnet {s} depth", tuple(range(fewest, fewest + 3))) for s in range(stages))
            return resnet(choose("resnet width", RESIDUAL_WIDTHS), depths, **spread, always=always)
        if base == "resnext":
            depths = tuple(choose(f"resnext {stage} depth", PATHS_DEPTHS) for stage in range(stages))
            width, bottleneck = choose("resnext width", PATHS_WIDTHS), choose("bottleneck", BOTTLENECKS)
            components = choose("components", _components(points))
            scale = choose("scale", ("none", "mean", "full"))
            return resnext(width, depths, bottleneck, 16, components, **spread, always=always, scale=scale)
        layers = max(4, points)
        depths = tuple(choose(f"densenet {s} depth", (layers, layers + 2)) for s in range(stages))
        return densenet(choose("growth", GROWTHS), depths, **spread, always=always)

    def references(self, task: Task, max_macs: float, *, points: int = 4) -> list[Reference]:
        """See :class:`nas.spaces.references.ReferringSpace`."""
        answers = {"norm": "shared", "components": 8, "scale": "none", "always": 0}
        if len(task.input_shape) == 4:
            designs = [_design("C3D", "c3d", (1, 1, 2, 2), CHAIN_WIDTHS, answers)]
        else:
            designs = [
                _design("VGG of one convolution per stage", "vgg", (1, 1, 1, 1), CHAIN_WIDTHS, answers),
                _design("VGG", "vgg", (2, 2, 3, 3), CHAIN_WIDTHS, answers),
                _design("ResNet-20", "resnet", (3, 3, 3), RESIDUAL_WIDTHS, answers),
            ]
        return sizes_within(self, designs, task, max_macs, points=points)


def _design(title: str, base: str, depths: Sequence[int], widths: Sequence[int], answers: dict[str, Any]) -> Design:
    """A base network. depths: convolutions or blocks of the first stages; images may have fewer."""
    return Design(
        name=f"throttleable {title}",
        size="width {" + base + " width}",
        origin="Liu et al. (2020), arXiv 2011.02836, with fewer channels and stages",
        answers={**answers, "base": base, **{f"{base} {stage} depth": depth for stage, depth in enumerate(depths)}},
        sizes=[{f"{base} width": width} for width in widths],
    )


def spread_utilizations(points: int) -> tuple[float, ...]:
    """Utilizations of a number of operating points, evenly spaced from 0 to 1.

    Parameters
    ----------
    points : int

    Returns
    -------
    tuple of float
        Ascending; (1.0,) for one point.

    Examples
    --------
    >>> spread_utilizations(3), spread_utilizations(1)
    ((0.0, 0.5, 1.0), (1.0,))
    """
    return tuple(level / (points - 1) for level in range(points)) if points > 1 else (1.0,)


def _components(points: int) -> tuple[int, ...]:
    """Options for the number of components: enough for the operating points to differ."""
    return (4, 8) if points <= 4 else (8,)


class _Chain:
    """A chain of gated layers under construction; a module is a layer with its pooling.

    components: of the layers of each stage. normed: see NORMED.
    """

    def __init__(
        self, task: Task, components: Sequence[int], always: int, scale: str, normed: str, *, dropout: bool
    ) -> None:
        if dropout not in (True, False):
            raise UserError(f"dropout must be true or false. Got {dropout!r}.")
        if normed not in NORMED:
            raise UserError(unknown_name("choice of layers with a norm", normed, NORMED))
        self.builder, self.components, self.always, self.scale = Builder(task), components, always, scale
        self.normed, self.at, self.module, self.count = normed, self.builder.input, list[int](), 1
        self.dropout = dropout

    def layer(self, kind: str, width: int, stage: int, **window: Any) -> None:
        """Add a layer, with norm and activation inside each component."""
        self.gate()
        self.count = self.components[stage]
        gated = self.count > 1
        slices = _equal(width, self.count, "width")
        target = self.builder.map(slices, scale=self.scale if gated else "none")
        normed = self.normed == "all" or (self.normed == "first" and self.at == self.builder.input)
        after = (*NR[not normed :], *((DROPOUT,) if self.dropout and kind == "linear" else ()))
        self.at = self.builder.add(kind, self.at, target, after=after, bias=not normed, **window)
        self.module = [self.at]

    def pool(self, kind: str, **window: Any) -> None:
        self.at = self.builder.add(kind, self.at, self.builder.map(self.builder.slices(self.at)), **window)
        self.module.append(self.at)

    def gate(self) -> None:
        """Complete the latest module."""
        if self.module and self.count > 1:
            self.builder.gate([self.module] * self.count, always=self.always)

    @property
    def utilizations(self) -> tuple[float, ...]:
        """The default operating points."""
        gated = [count for count in self.components if count > 1]
        first = 0.0 if self.always else 1 / (min(gated, default=1) + 1)
        return tuple(first + (1 - first) * utilization for utilization in UTILIZATIONS)


def _of_stages(components: int | Sequence[int], depths: Sequence[int]) -> tuple[int, ...]:
    """The components of each stage and of the hidden linear layers."""
    each = tuple(components) if isinstance(components, Sequence) else (components,) * (len(depths) + 1)
    if len(each) != len(depths) + 1 or set(each) == {1}:
        raise UserError(
            f"components must be one number above 1, or one for each of the {len(depths)} stages and one for the "
            f"hidden linear layers, not all 1. Got {components!r}."
        )
    return each


def _plain(
    chain: _Chain,
    width: int,
    depths: Sequence[int],
    first: int | Size,
    utilizations: Sequence[float] | None,
    norm: str,
) -> Architecture:
    """VGG or C3D; first: the window of the first pooling."""
    builder = chain.builder
    if not 1 <= len(depths) <= 5:
        raise UserError(f"There must be one to five stages. Got {depths=}.")
    stride = _stem_stride(builder.task)
    for stage, depth in enumerate(depths):
        for _ in range(depth):
            channels = width * min(2**stage, 8)
            chain.layer("conv", channels, stage, kernel=max(3, stride + 1), stride=stride)
            stride = 1
        window = _window(builder, chain.at, 2 if stage else first)
        if max(window["kernel"]) > 1:
            chain.pool("max_pool", **window)
    chain.pool("global_avg_pool")
    for _ in range(2):
        chain.layer("linear", 8 * width, len(depths))
    chain.gate()
    builder.add("linear", chain.at, builder.map(builder.task.num_classes), bias=True)
    return _finished(builder, chain.utilizations if utilizations is None else utilizations, norm)


def _finished(builder: Builder, utilizations: Sequence[float], norm: str) -> Architecture:
    if norm not in NORMS:
        raise UserError(unknown_name("norm policy", norm, NORMS))
    settings = {} if norm == "shared" else IN_GROUPS
    return builder.architecture(builder.throttled(utilizations), norm=norm, rule="random_utilization", **settings)


def _stem_stride(task: Task) -> int:
    """Stride of the first convolution: it shrinks large images, but not videos."""
    return stem_strides(task)[0] if len(task.input_shape) == 3 else 1


def _stem(builder: Builder, width: int, **rest: Any) -> int:
    stride = _stem_stride(builder.task)
    return builder.conv(builder.input, width, kernel=max(3, stride + 1), stride=stride, **rest)


def _shortcut(builder: Builder, x: int, out: int, across: bool, **steps: Any) -> int:
    """Add the shortcut beside a block; between stages it is a 1×1 convolution of stride 2."""
    if across:
        return builder.add("conv", x, out, kernel=1, stride=2, **steps)
    return builder.identity(x, out)


def _window(builder: Builder, x: int, kernel: int | Size) -> dict[str, Size]:
    """The window of a pooling; a side of one pixel is not pooled."""
    size = builder.size(x)
    kernel = (kernel,) * len(size) if isinstance(kernel, int) else kernel
    window = tuple(min(k, n) for k, n in zip(kernel, size))
    return {"kernel": window, "stride": window, "padding": (0,) * len(size)}


def _equal(full: int, components: int, name: str) -> tuple[int, ...]:
    if type(components) is not int or components < 1 or full % components:
        raise UserError(f"The number of components must divide the {name}. Got {components=}, {name}={full}.")
    return tuple(full * c // components for c in range(1, components + 1))
