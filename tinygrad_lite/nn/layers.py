"""Layers: the operations of `functional` with their parameters. Arguments are PyTorch's.

`rng` makes a layer's random numbers repeatable: pass one np.random.default_rng(seed) to all layers of a model. Without it a
layer takes a fresh generator, and no run is like another.

This file is long because it is a list: each layer is a few lines, and looked up by its name.
"""

from typing import Any

import numpy as np

import tinygrad_lite.functional as F
from tinygrad_lite import _check
from tinygrad_lite._types import Array, Pair
from tinygrad_lite.errors import DtypeError, OutOfBoundsError, ShapeError
from tinygrad_lite.nn import init
from tinygrad_lite.nn.module import Module, Parameter
from tinygrad_lite.tensor import Tensor, as_tensor

Rng = np.random.Generator | None


class Linear(Module):
    """X weight' + bias; see functional.linear.

    Parameters
    ----------
    in_features, out_features : int >= 1
    bias : bool, default True
    rng : numpy.random.Generator, optional

    Attributes
    ----------
    weight : Parameter, (out_features, in_features), uniform within 1 / sqrt(in_features)
    bias : Parameter, (out_features,), likewise; or None
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, rng: Rng = None) -> None:
        self.in_features = _check.integer("Linear", "in_features", in_features, 1)
        self.out_features = _check.integer("Linear", "out_features", out_features, 1)
        self.weight, self.bias = _weight_and_bias("Linear", (self.out_features, self.in_features), bias, rng)

    def forward(self, x: Any) -> Tensor:
        """X (..., in_features) -> (..., out_features)."""
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.in_features}, {self.out_features}{'' if self.bias is not None else ', bias=False'}"


class Conv2d(Module):
    """Cross-correlation with learned filters; see functional.conv2d.

    Parameters
    ----------
    in_channels, out_channels : int >= 1
    kernel_size, stride, padding, dilation : int or (vertical, horizontal)
    groups : int
    bias : bool, default True
    rng : numpy.random.Generator, optional

    Attributes
    ----------
    weight : Parameter, (out_channels, in_channels / groups, kh, kw), uniform within 1 / sqrt(fan_in)
    bias : Parameter, (out_channels,), likewise; or None
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: Rng = None,
    ) -> None:
        self.in_channels = _check.integer("Conv2d", "in_channels", in_channels, 1)
        self.out_channels = _check.integer("Conv2d", "out_channels", out_channels, 1)
        self.kernel_size = _check.pair("Conv2d", "kernel_size", kernel_size, 1)
        self.stride = _check.pair("Conv2d", "stride", stride, 1)
        self.padding = _check.pair("Conv2d", "padding", padding, 0)
        self.dilation = _check.pair("Conv2d", "dilation", dilation, 1)
        self.groups = _check.integer("Conv2d", "groups", groups, 1)
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise ShapeError(
                f"Conv2d: in_channels={in_channels} and out_channels={out_channels} must divide by groups={groups}."
            )
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight, self.bias = _weight_and_bias("Conv2d", shape, bias, rng)
        # In memory (c_out, kh, c_in / groups, kw), as the rule reads it.
        self.weight.data = np.ascontiguousarray(self.weight.data.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)

    def forward(self, x: Any) -> Tensor:
        """X (n, in_channels, h, w) -> (n, out_channels, h_out, w_out)."""
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """Sizes."""
        chosen = _chosen(self, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)
        no_bias = [] if self.bias is not None else ["bias=False"]
        return ", ".join([f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}", *chosen, *no_bias])


class MaxPool2d(Module):
    """Largest pixel of each window; see functional.max_pool2d."""

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1) -> None:
        self.kernel_size = _check.pair("MaxPool2d", "kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else _check.pair("MaxPool2d", "stride", stride, 1)
        self.padding = _check.pair("MaxPool2d", "padding", padding, 0)
        self.dilation = _check.pair("MaxPool2d", "dilation", dilation, 1)

    def forward(self, x: Any) -> Tensor:
        """X (n, c, h, w) -> (n, c, h_out, w_out)."""
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation)

    def extra_repr(self) -> str:
        """Sizes."""
        return ", ".join(
            [f"kernel_size={self.kernel_size}, stride={self.stride}", *_chosen(self, padding=(0, 0), dilation=(1, 1))]
        )


class AvgPool2d(Module):
    """Mean of each window; see functional.avg_pool2d."""

    def __init__(
        self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, count_include_pad: bool = True
    ) -> None:
        self.kernel_size = _check.pair("AvgPool2d", "kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else _check.pair("AvgPool2d", "stride", stride, 1)
        self.padding = _check.pair("AvgPool2d", "padding", padding, 0)
        self.count_include_pad = _check.flag("AvgPool2d", "count_include_pad", count_include_pad)

    def forward(self, x: Any) -> Tensor:
        """X (n, c, h, w) -> (n, c, h_out, w_out)."""
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.count_include_pad)

    def extra_repr(self) -> str:
        """Sizes."""
        return ", ".join(
            [f"kernel_size={self.kernel_size}, stride={self.stride}", *_chosen(self, padding=(0, 0), count_include_pad=True)]
        )


class Dropout(Module):
    """Set elements to 0 with probability p while training; see functional.dropout.

    Parameters
    ----------
    p : float in [0, 1]
    rng : numpy.random.Generator, optional
    """

    def __init__(self, p: float = 0.5, *, rng: Rng = None) -> None:
        self.p = _check.number("Dropout", "p", p, 0, 1)
        self.rng = _generator("Dropout", rng)

    def forward(self, x: Any) -> Tensor:
        """X of any shape -> the same shape."""
        return F.dropout(x, self.p, self.training, rng=self.rng)

    def extra_repr(self) -> str:
        """Probability."""
        return f"p={self.p}"


class _BatchNorm(Module):
    """Bring each channel to mean 0 and variance 1, then scale and shift; see functional.batch_norm.

    Parameters
    ----------
    num_features : int >= 1, number of channels
    eps : float, added to the variance
    momentum : float in [0, 1], weight of the newest batch in the running mean and variance
    affine : bool, whether weight and bias are learned

    Attributes
    ----------
    running_mean, running_var : ndarray (num_features,)
        Set both to None to use the batch's own while evaluating, too.
    """

    buffers_ = ("running_mean", "running_var")
    ranks: tuple[int, ...] = ()

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True) -> None:
        name = type(self).__name__
        self.num_features = _check.integer(name, "num_features", num_features, 1)
        self.eps = _check.number(name, "eps", eps, 0)
        self.momentum = _check.number(name, "momentum", momentum, 0, 1)
        _check.fits_memory(name, "its statistics", (self.num_features,))
        affine = _check.flag(name, "affine", affine)
        self.weight = Parameter(np.ones(num_features, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(num_features, np.float32)) if affine else None
        self.running_mean: Array | None = np.zeros(num_features, np.float32)
        self.running_var: Array | None = np.ones(num_features, np.float32)

    def forward(self, x: Any) -> Tensor:
        """X (n, c, ...) -> the same shape."""
        tensor = as_tensor(x)
        _check.rank(type(self).__name__, "x", tensor.shape, self.ranks, "(n, c, ...)")
        if tensor.shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}: expected {self.num_features} channels, got {tensor.shape[1]} (x.shape={tensor.shape})."
            )
        of_batch = self.training or (self.running_mean is None and self.running_var is None)
        return F.batch_norm(
            tensor, self.running_mean, self.running_var, self.weight, self.bias, of_batch, self.momentum, self.eps
        )

    def extra_repr(self) -> str:
        """Sizes, and what differs from the defaults."""
        chosen = _chosen(self, eps=1e-5, momentum=0.1)
        return ", ".join([f"{self.num_features}", *chosen, *([] if self.weight is not None else ["affine=False"])])


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (n, c) or (n, c, length)."""

    ranks = (2, 3)
    __doc__ = f"{__doc__}\n\n{_BatchNorm.__doc__}"


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images (n, c, h, w)."""

    ranks = (4,)
    __doc__ = f"{__doc__}\n\n{_BatchNorm.__doc__}"


class LayerNorm(Module):
    """Bring the last axes to mean 0 and variance 1, then scale and shift; see functional.layer_norm.

    Parameters
    ----------
    normalized_shape : int or sequence of int, sizes of the last axes
    eps : float, added to the variance
    elementwise_affine : bool, whether weight and bias are learned
    """

    def __init__(
        self, normalized_shape: int | tuple[int, ...] | list[int], eps: float = 1e-5, elementwise_affine: bool = True
    ) -> None:
        sizes = normalized_shape if isinstance(normalized_shape, (tuple, list)) else (normalized_shape,)
        self.normalized_shape = tuple(_check.integer("LayerNorm", "normalized_shape", s, 1) for s in sizes)
        self.eps = _check.number("LayerNorm", "eps", eps, 0)
        affine = _check.flag("LayerNorm", "elementwise_affine", elementwise_affine)
        if affine:
            _check.fits_memory("LayerNorm", "the weight", self.normalized_shape)
        self.weight = Parameter(np.ones(self.normalized_shape, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(self.normalized_shape, np.float32)) if affine else None

    def forward(self, x: Any) -> Tensor:
        """X (..., *normalized_shape) -> the same shape."""
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """Sizes, and what differs from the defaults."""
        plain = [] if self.weight is not None else ["elementwise_affine=False"]
        return ", ".join([f"{self.normalized_shape}", *_chosen(self, eps=1e-5), *plain])


class Flatten(Module):
    """Join axes; by default all but the first."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim = _check.integer("Flatten", "start_dim", start_dim)
        self.end_dim = _check.integer("Flatten", "end_dim", end_dim)

    def forward(self, x: Any) -> Tensor:
        """X (n, ...) -> (n, product of the others)."""
        return F.flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return ", ".join(_chosen(self, start_dim=1, end_dim=-1))


class Identity(Module):
    """The input itself."""

    def forward(self, x: Any) -> Tensor:
        """X -> x."""
        return as_tensor(x)


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Tensor:
        """X of any shape -> the same shape."""
        return F.relu(x)


class LeakyReLU(Module):
    """Where x > 0: x, else negative_slope * x."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = _check.number("LeakyReLU", "negative_slope", negative_slope)

    def forward(self, x: Any) -> Tensor:
        """X of any shape -> the same shape."""
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        """Slope."""
        return f"{self.negative_slope}"


class ELU(Module):
    """Where x > 0: x, else alpha * (e^x - 1)."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = _check.number("ELU", "alpha", alpha)

    def forward(self, x: Any) -> Tensor:
        """X of any shape -> the same shape."""
        return F.elu(x, self.alpha)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return ", ".join(_chosen(self, alpha=1.0))


class GELU(Module):
    """x times the normal distribution function; `approximate="tanh"` for the formula with tanh."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = _check.approximate("GELU", approximate)

    def forward(self, x: Any) -> Tensor:
        """X of any shape -> the same shape."""
        return F.gelu(x, self.approximate)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return ", ".join(_chosen(self, approximate="none"))


class SiLU(Module):
    """x sigmoid(x)."""

    def forward(self, x: Any) -> Tensor:
        """X of any shape -> the same shape."""
        return F.silu(x)


class Sigmoid(Module):
    """1 / (1 + e^-x)."""

    def forward(self, x: Any) -> Tensor:
        """X of any shape -> the same shape."""
        return F.sigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x: Any) -> Tensor:
        """X of any shape -> the same shape."""
        return F.tanh(x)


class Softplus(Module):
    """log(1 + e^(beta x)) / beta."""

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = _check.positive("Softplus", "beta", beta)

    def forward(self, x: Any) -> Tensor:
        """X of any shape -> the same shape."""
        return F.softplus(x, self.beta)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return ", ".join(_chosen(self, beta=1.0))


class CrossEntropyLoss(Module):
    """functional.cross_entropy with fixed options."""

    def __init__(self, reduction: str = "mean", label_smoothing: float = 0.0) -> None:
        self.reduction = _check.reduction("CrossEntropyLoss", reduction)
        self.label_smoothing = _check.number("CrossEntropyLoss", "label_smoothing", label_smoothing, 0, 1)

    def forward(self, logits: Any, targets: Any) -> Tensor:
        """Logits (n, c, ...), targets (n, ...) -> one number."""
        return F.cross_entropy(logits, targets, self.reduction, self.label_smoothing)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return ", ".join(_chosen(self, reduction="mean", label_smoothing=0.0))


class MSELoss(Module):
    """functional.mse_loss with fixed options."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = _check.reduction("MSELoss", reduction)

    def forward(self, x: Any, targets: Any) -> Tensor:
        """X and targets of one shape -> one number."""
        return F.mse_loss(x, targets, self.reduction)

    def extra_repr(self) -> str:
        """What differs from the defaults."""
        return ", ".join(_chosen(self, reduction="mean"))


class Sequential(Module):
    """Modules (or functions of one Tensor) one after the other.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> Sequential(Linear(4, 3, rng=rng), ReLU(), Linear(3, 2, rng=rng))
    Sequential(  # 23 parameters
      (0): Linear(4, 3)  # 15 parameters
      (1): ReLU()
      (2): Linear(3, 2)  # 8 parameters
    )
    """

    def __init__(self, *layers: Any) -> None:
        for i, layer in enumerate(layers):
            if not callable(layer):
                raise DtypeError(f"Sequential: every layer must be a Module or a function, got {layer!r} at {i}.")
            if isinstance(layer, type) and issubclass(layer, Module):
                raise DtypeError(f"Sequential: every layer must be a Module, got its class at {i}; write {layer.__name__}().")
            setattr(self, str(i), layer)

    def __iter__(self) -> Any:
        return iter([layer for name, layer in vars(self).items() if name.isdigit()])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, i: int | slice) -> Any:
        layers = list(iter(self))
        if isinstance(i, slice):
            return Sequential(*layers[i])
        place = _check.integer("Sequential", "place", i)
        if not -len(layers) <= place < len(layers):
            raise OutOfBoundsError(f"Sequential: there is no place {place} among {len(layers)} layers.")
        return layers[place]

    def forward(self, x: Any) -> Any:
        """X -> the last layer's output."""
        for layer in self:
            x = layer(x)
        return x


def _chosen(layer: Module, **defaults: Any) -> list[str]:
    """List the options of a layer that are not as they are by default, as they were given."""
    return [f"{name}={value!r}" for name, default in defaults.items() if (value := getattr(layer, name)) != default]


def _generator(name: str, rng: Rng) -> np.random.Generator:
    return np.random.default_rng() if rng is None else _check.generator(name, rng)


def _weight_and_bias(name: str, shape: tuple[int, ...], bias: bool, rng: Rng) -> tuple[Parameter, Parameter | None]:
    generator, wanted = _generator(name, rng), _check.flag(name, "bias", bias)
    weight = Parameter(init.torch_default(shape, generator))
    bound = 1 / np.sqrt(init.fans(shape)[0])
    return weight, Parameter(init.uniform(shape[:1], bound, generator)) if wanted else None
