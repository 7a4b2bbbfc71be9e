"""The first set of unseen rules: functions of one number, distances, linear algebra, sequences, losses, convolutions.

This file is long because it is a list.
"""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

import tinygrad_lite.functional as F
from experiments.unseen import fit, table
from tinygrad_lite.fuzz import broadcast, reduced, tensors

FIRST, case = table()
ROWS = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)
SQUARE = st.integers(1, 3).map(lambda n: (n, n))


def given(strategy, **kwargs):
    """Arguments with keyword arguments, each a strategy."""
    return st.tuples(strategy.map(lambda a: a if isinstance(a, tuple) else (a,)), st.fixed_dictionaries(kwargs))


@case(tensors(low=0.0, high=1.0), ("p * (1 - p)", "p * (1 + p)"), ("g / (p * (1 - p))", "g / p"))
def logit(p):
    return np.log(p) - np.log1p(-p), lambda g: g / (p * (1 - p))


@case(tensors(), ("2 / np.sqrt(np.pi)", "1 / np.sqrt(np.pi)"), ("np.exp(-x * x)", "np.exp(-0.5 * x * x)"))
def erf(x):
    return special.erf(x), lambda g: g * (2 / np.sqrt(np.pi)) * np.exp(-x * x)


@case(tensors(low=0.0), ("special.digamma(x)", "np.log(x)"))
def gammaln(x):
    return special.gammaln(x), lambda g: g * special.digamma(x)


@case(tensors(), ("np.exp(-0.5 * x * x - y)", "np.exp(-0.5 * x * x) / np.exp(y)"))
def log_ndtr(x):
    y = special.log_ndtr(x)
    return y, lambda g: g * np.exp(-0.5 * x * x - y) / np.sqrt(2 * np.pi)


@case(tensors(), ("(1 + np.abs(x)) ** 2", "(1 + x) ** 2"))
def softsign(x):
    return x / (1 + np.abs(x)), lambda g: g / (1 + np.abs(x)) ** 2


@case(tensors(), ("(2 * x + 3) / 6", "(x + 3) / 6"), ("np.where(x >= 3, 1, ", "np.where(x > 2.9, 1, "))
def hardswish(x):
    slope = np.where(x <= -3, 0, np.where(x >= 3, 1, (2 * x + 3) / 6))
    return x * np.clip(x + 3, 0, 6) / 6, lambda g: g * slope


@case(tensors(), ("out + 1.05 * 1.67", "out"))
def selu(x):
    out = np.where(x > 0, 1.05 * x, 1.05 * 1.67 * np.expm1(np.minimum(x, 0)))
    return out, lambda g: g * np.where(x > 0, 1.05, out + 1.05 * 1.67)


@case(broadcast(2), ("fit(g * tau_side, y)", "g * tau_side"), ("fit(-g * tau_side, t)", "fit(g * tau_side, t)"))
def pinball(y, t):
    tau_side = np.where(y - t > 0, 0.7, -0.3)
    return (y - t) * tau_side, lambda g: (fit(g * tau_side, y), fit(-g * tau_side, t))


@case(broadcast(2), ("special.expit(b - a)", "special.expit(a - b)"))
def logaddexp(a, b):
    w = special.expit(b - a)
    return np.logaddexp(a, b), lambda g: (fit(g * (1 - w), a), fit(g * w, b))


@case(st.integers(0, 3).flatmap(lambda n: st.tuples(tensors((3,)), tensors((n + 1,)))),
      ("slope = slope * x + y", "slope = slope * x + c[k]"))  # fmt: skip
def polynomial(x, c):
    y, slope = np.zeros_like(x), np.zeros_like(x)
    for k in range(len(c) - 1, -1, -1):
        slope = slope * x + y
        y = y * x + c[k]
    return y, lambda g: (g * slope, np.array([(g * x**k).sum() for k in range(len(c))]))


@case(tensors(low=-1.0, high=1.0), ("(1 - x) * (1 + x)", "1 + x * x"))
def arctanh(x):
    return np.arctanh(x), lambda g: g / ((1 - x) * (1 + x))


@case(tensors(), ("np.log(2) * ", ""))
def exp2(x):
    y = np.exp2(x)
    return y, lambda g: np.log(2) * g * y


@case(
    st.tuples(tensors((4,)), tensors((), low=0.0)), ("np.sin(2 * a * x))", "np.sin(a * x))"), ("np.sin(a * x) ** 2 / a**2", "0")
)
def snake(x, a):
    by_a = x * np.sin(2 * a * x) / a - np.sin(a * x) ** 2 / a**2
    return x + np.sin(a * x) ** 2 / a, lambda g: (g * (1 + np.sin(2 * a * x)), (g * by_a).sum())


@case(tensors(values="smooth"), ("np.cos(x) ** 2", "np.cos(x)"))
def tan(x):
    return np.tan(x), lambda g: g / np.cos(x) ** 2


@case(tensors(low=0.0), ("np.log(x) + 1", "np.log(x)"))
def negative_entropy(x):
    return x * np.log(x), lambda g: g * (np.log(x) + 1)


@case(tensors(ROWS), ("[..., ::-1].cumsum(-1)[..., ::-1]", ".cumsum(-1)"))
def cumsum(x):
    return x.cumsum(-1), lambda g: g[..., ::-1].cumsum(-1)[..., ::-1]


@case(tensors(ROWS), ("np.prod(np.delete(x[..., : j + 1], i, -1), -1)", "np.prod(x[..., : j + 1], -1) / x[..., i]"),
      ("range(i, n)", "range(i + 1, n)"))  # fmt: skip
def cumprod(x):
    n = x.shape[-1]

    def vjp(g):
        out = np.zeros_like(x)
        for i in range(n):
            for j in range(i, n):
                out[..., i] += g[..., j] * np.prod(np.delete(x[..., : j + 1], i, -1), -1)
        return out

    return x.cumprod(-1), vjp


@case(tensors(ROWS), ("np.tril", "np.triu"), ("g[..., None] * weight", "g[..., None, :] * weight"))
def logcumsumexp(x):
    y = np.logaddexp.accumulate(x, -1)
    low = np.tril(np.ones((x.shape[-1],) * 2, bool))  # weight of x_i in y_j, for i <= j
    weight = np.where(low, np.exp(np.minimum(x[..., None, :] - y[..., :, None], 0)), 0)
    return y, lambda g: (g[..., None] * weight).sum(-2)


@case(reduced(axis="axis", keepdims=None, several=False, min_side=1, min_dims=1, optional=False, low=0.0),
      ("x**2 * n ** (-2)", "x**2"), ("x**2 * n", "3 * x**2 * n"))  # fmt: skip
def norm3(x, axis):
    n = (x**3).sum(axis, keepdims=True) ** (1 / 3)
    return n.squeeze(axis), lambda g: np.expand_dims(g, axis) * x**2 * n ** (-2)


@case(
    tensors((2, 3), low=0.0),
    ("- (g * y).sum(-1, keepdims=True)", ""),
    ("(g - (g * y).sum(-1, keepdims=True))", "(g - (g * y).sum())"),
)
def to_shares(x):
    total = x.sum(-1, keepdims=True)
    y = x / total
    return y, lambda g: (g - (g * y).sum(-1, keepdims=True)) / total


@case(tensors((2, 4)), ("- mean", ""), ("/ support.sum(-1, keepdims=True)", "/ x.shape[-1]"))
def sparsemax(x):
    z = -np.sort(-x, -1)
    k = np.arange(1, x.shape[-1] + 1)
    count = (1 + k * z > z.cumsum(-1)).sum(-1, keepdims=True)
    tau = (np.take_along_axis(z.cumsum(-1), count - 1, -1) - 1) / count
    y = np.maximum(x - tau, 0)
    support = (x > tau).astype(x.dtype)

    def vjp(g):
        mean = (g * support).sum(-1, keepdims=True) / support.sum(-1, keepdims=True)
        return support * (g - mean)

    return y, vjp


@case(st.tuples(tensors((2, 3)), tensors((2, 3))), ("p * (log_p - log_q - kl)", "p * (log_p - log_q)"), ("q - p", "p - q"))
def kl_of_logits(a, b):
    log_p, log_q = (x - special.logsumexp(x, -1, keepdims=True) for x in (a, b))
    p, q = np.exp(log_p), np.exp(log_q)
    kl = (p * (log_p - log_q)).sum(-1, keepdims=True)
    return kl[..., 0], lambda g: (g[..., None] * p * (log_p - log_q - kl), g[..., None] * (q - p))


@case(st.integers(1, 3).flatmap(lambda n: st.tuples(tensors((n, n), values="smooth"), tensors((n,)))),
      ("-np.tril(np.outer(z, y), -1)", "-np.outer(z, y)"), ("np.outer(z, y)", "np.outer(y, z)"))  # fmt: skip
def unit_triangular_solve(a, b):
    t = np.tril(a, -1) + np.eye(len(a), dtype=a.dtype)
    y = np.linalg.solve(t, b)

    def vjp(g):
        z = np.linalg.solve(t.T, g)
        return -np.tril(np.outer(z, y), -1), z

    return y, vjp


@case(tensors((3, 3)), ("g * cofactors", "g * cofactors.T"))
def det3(a):
    cofactors = np.stack([np.cross(a[1], a[2]), np.cross(a[2], a[0]), np.cross(a[0], a[1])])
    return (a[0] * cofactors[0]).sum(), lambda g: g * cofactors


@case(tensors((2, 3), values="smooth"), ("2 * np.linalg.solve", "np.linalg.solve"))
def logdet_gram(a):
    m = a @ a.T + np.eye(len(a), dtype=a.dtype)
    return np.linalg.slogdet(m)[1], lambda g: g * 2 * np.linalg.solve(m, a)


@case(tensors(SQUARE, values="smooth"), ("np.tril(s) - 0.5", "np.tril(s) - 1.0"), ("(k + k.T) @ a", "2 * k @ a"))
def cholesky_gram(a):
    n = len(a)
    low = np.linalg.cholesky(a @ a.T + np.eye(n, dtype=a.dtype))

    def vjp(g):
        s = low.T @ np.tril(g)
        phi = np.tril(s) - 0.5 * np.diag(np.diag(s))
        inverse = np.linalg.inv(low)
        k = inverse.T @ phi @ inverse
        k = 0.5 * (k + k.T)
        return (k + k.T) @ a

    return low, vjp


@case(st.integers(1, 3).flatmap(lambda n: st.tuples(tensors((n,)), tensors((n, 2)), tensors((2,)))),
      ("g * np.outer(x, y)", "np.outer(x, y)"), ("g * (a.T @ x)", "g * (a @ y)"))  # fmt: skip
def bilinear_form(x, a, y):
    return x @ a @ y, lambda g: (g * (a @ y), g * np.outer(x, y), g * (a.T @ x))


@case(st.tuples(tensors((2, 3)), tensors((4, 3))), ("- 2 * np.einsum(\"ij,ijk->jk\", g, d)", "+ 2 * np.einsum(\"ij,ijk->jk\", g, d)"),
      ("2 * np.einsum(\"ij,ijk->ik\", g, d)", "np.einsum(\"ij,ijk->ik\", g, d)"))  # fmt: skip
def squared_distances(a, b):
    d = a[:, None] - b[None]
    return (d * d).sum(-1), lambda g: (2 * np.einsum("ij,ijk->ik", g, d), 0 - 2 * np.einsum("ij,ijk->jk", g, d))


@case(st.tuples(tensors((2, 3)), tensors((2, 3))), ("np.cross(g, a)", "np.cross(a, g)"))
def cross(a, b):
    return np.cross(a, b), lambda g: (np.cross(b, g), np.cross(g, a))


@case(st.tuples(tensors((3, 2)), tensors(())), ("g @ turn", "g @ turn.T"), ("[[-s, -c], [c, -s]]", "[[-s, c], [-c, -s]]"))
def rotate(points, angle):
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    by_angle = np.array([[-s, -c], [c, -s]])
    return points @ turn.T, lambda g: (g @ turn, (g * (points @ by_angle.T)).sum())


@case(st.tuples(tensors((2, 3, 5)), tensors((3, 2))), ("g_x[:, :, i : i + n] += ", "g_x[:, :, i : i + n] = "),
      ("(g * x[:, :, i : i + n]).sum((0, 2))", "(g * x[:, :, i : i + n]).mean((0, 2))"))  # fmt: skip
def depthwise1d(x, w):
    k = w.shape[1]
    n = x.shape[2] - k + 1
    y = sum(x[:, :, i : i + n] * w[:, i, None] for i in range(k))

    def vjp(g):
        g_x, g_w = np.zeros_like(x), np.zeros_like(w)
        for i in range(k):
            g_x[:, :, i : i + n] += g * w[:, i, None]
            g_w[:, i] = (g * x[:, :, i : i + n]).sum((0, 2))
        return g_x, g_w

    return y, vjp


@case(st.tuples(st.tuples(tensors((2, 3)), tensors((3,))), st.fixed_dictionaries({"stride": st.integers(1, 3)})),
      ("[:, i : i + n * stride : stride] * w[i]", "[:, i : i + n] * w[i]"))  # fmt: skip
def transposed1d(x, w, stride):
    n = x.shape[1]
    y = np.zeros((len(x), (n - 1) * stride + len(w)), x.dtype)
    for i in range(len(w)):
        y[:, i : i + (n - 1) * stride + 1 : stride] += x * w[i]

    def vjp(g):
        wide = np.concatenate([g, np.zeros((len(g), stride), g.dtype)], 1)
        g_x = sum(wide[:, i : i + n * stride : stride] * w[i] for i in range(len(w)))
        g_w = np.array([(g[:, i : i + (n - 1) * stride + 1 : stride] * x).sum() for i in range(len(w))])
        return g_x, g_w

    return y, vjp


@case(tensors((2, 3), values="nasty"), ("g @ weights", "g @ np.round(weights)"))
def resize_to_5(x):
    at = np.linspace(0, x.shape[1] - 1, 5)
    left = np.minimum(at.astype(int), x.shape[1] - 2)
    weights = np.zeros((5, x.shape[1]), x.dtype)
    weights[np.arange(5), left] = 1 - (at - left)
    weights[np.arange(5), left + 1] += at - left
    return x @ weights.T, lambda g: g @ weights


@case(st.tuples(tensors((4,), low=0.0, high=3.0), tensors((4,))), ("np.add.at(g_y, left + 1, g * t)", "g_y[left + 1] += g * t"),
      ("y[left + 1] - y[left]", "y[left] - y[left + 1]"))  # fmt: skip
def interpolate(x, y):
    left = np.clip(np.floor(x).astype(int), 0, len(y) - 2)
    t = x - left

    def vjp(g):
        g_y = np.zeros_like(y)
        np.add.at(g_y, left, g * (1 - t))
        np.add.at(g_y, left + 1, g * t)
        return g * (y[left + 1] - y[left]), g_y

    return y[left] * (1 - t) + y[left + 1] * t, vjp


@case(tensors((2, 6)), ("g_x[:, i : i + 3] += g[:, i, None] / 3", "g_x[:, i : i + 3] = g[:, i, None] / 3"))
def moving_average(x):
    y = np.lib.stride_tricks.sliding_window_view(x, 3, 1).mean(-1)

    def vjp(g):
        g_x = np.zeros_like(x)
        for i in range(g.shape[1]):
            g_x[:, i : i + 3] += g[:, i, None] / 3
        return g_x

    return y, vjp


@case(tensors((1, 4, 2, 3)), ("transpose(0, 1, 3, 5, 2, 4)", "transpose(0, 1, 5, 3, 2, 4)"))
def pixel_shuffle(x):
    n, c, h, w = x.shape
    y = x.reshape(n, c // 4, 2, 2, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)
    return y, lambda g: g.reshape(n, c // 4, h, 2, w, 2).transpose(0, 1, 3, 5, 2, 4).reshape(x.shape)


@case(st.tuples(tensors((2, 4, 3)), tensors((4,))), ("- y * (t * y).mean((2, 3), keepdims=True)", ""),
      ("t - t.mean((2, 3), keepdims=True)", "t - t.mean(3, keepdims=True)"), ("(g * gamma[:, None])", "g"))  # fmt: skip
def group_norm(x, gamma):
    grouped = x.reshape(2, 2, 2, 3)
    centred = grouped - grouped.mean((2, 3), keepdims=True)
    s = 1 / np.sqrt((centred**2).mean((2, 3), keepdims=True) + 1e-5)
    y = centred * s

    def vjp(g):
        t = (g * gamma[:, None]).reshape(y.shape)
        g_x = s * (t - t.mean((2, 3), keepdims=True) - y * (t * y).mean((2, 3), keepdims=True))
        return g_x.reshape(x.shape), (g * y.reshape(x.shape)).sum((0, 2))

    return y.reshape(x.shape) * gamma[:, None], vjp


@case(st.tuples(tensors((5,)), tensors((), low=-1.0, high=1.0)), ("back = g[t] + a * back", "back = g[t] + back"),
      ("g_a += back * y[t - 1]", "g_a += g[t] * y[t - 1]"))  # fmt: skip
def leaky_integrator(x, a):
    y = np.zeros_like(x)
    for t in range(len(x)):
        y[t] = x[t] + (a * y[t - 1] if t else 0)

    def vjp(g):
        g_x, g_a, back = np.zeros_like(x), np.zeros_like(a), 0.0
        for t in range(len(x) - 1, -1, -1):
            back = g[t] + a * back
            g_x[t] = back
            if t:
                g_a += back * y[t - 1]
        return g_x, g_a

    return y, vjp


@case(st.tuples(tensors((2, 3)), tensors((4, 3)), tensors((4, 2))), ("/ np.sqrt(3) @ k", "@ k"), ("p.T @ g", "p.T @ (g * 2)"),
      ("(g_p - (g_p * p).sum(-1, keepdims=True))", "(g_p - g_p * p)"))  # fmt: skip
def attention(q, k, v):
    scores = q @ k.T / np.sqrt(3).astype(q.dtype)
    p = special.softmax(scores, -1)

    def vjp(g):
        g_p = g @ v.T
        g_s = p * (g_p - (g_p * p).sum(-1, keepdims=True))
        return g_s / np.sqrt(3) @ k, g_s.T @ q / np.sqrt(3), p.T @ g

    return p @ v, vjp


IDS = hnp.arrays(np.int64, (4,), elements=st.integers(0, 2))


@case(st.tuples(tensors((4, 2)), IDS), ("g[ids] / counts[ids][:, None]", "g[ids]"), ("counts[ids][:, None]", "counts.mean()"))
def segment_mean(x, ids):
    counts = np.maximum(np.bincount(ids, minlength=3), 1).astype(x.dtype)
    y = np.zeros((3, x.shape[1]), x.dtype)
    np.add.at(y, ids, x)
    return y / counts[:, None], lambda g: (g[ids] / counts[ids][:, None], None)


@case(tensors((2, 4)), ("np.argsort(order, -1)", "order"))
def sort_rows(x):
    order = np.argsort(x, -1, kind="stable")
    return np.take_along_axis(x, order, -1), lambda g: np.take_along_axis(g, np.argsort(order, -1), -1)


@case(
    st.tuples(tensors((4,)), tensors((4,))),
    ("g * 0.5 * (y[1:] + y[:-1])", "g * (y[1:] + y[:-1])"),
    ("g_y[:-1] += ", "g_y[:-1] = "),
)
def trapezoid(x, y):
    def vjp(g):
        by_width, by_height = g * 0.5 * (y[1:] + y[:-1]), g * 0.5 * np.diff(x)
        g_x, g_y = np.zeros_like(x), np.zeros_like(y)
        g_x[1:] += by_width
        g_x[:-1] -= by_width
        g_y[1:] += by_height
        g_y[:-1] += by_height
        return g_x, g_y

    return np.trapezoid(y, x), vjp


@case(st.tuples(tensors((5,)), hnp.arrays(np.bool_, 5)), ("2 * target", "target"), ("/ x.size", ""))
def weighted_bce(x, target):
    t = target.astype(x.dtype)
    loss = (t * 3 * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x)).mean()

    def vjp(g):
        p = special.expit(x)
        return g * (p * (1 + 2 * target) - 3 * t) / x.size

    return loss, vjp


@case(tensors((3, 4)), ("2 * n * ", "2 * "), ("ifft(g * f)", "ifft(g * np.conj(f))"))
def power_spectrum(x):
    f, n = np.fft.fft(x), x.shape[-1]
    return np.abs(f) ** 2, lambda g: 2 * n * np.fft.ifft(g * f).real


@case(tensors((2, 3)), ("g_mean / x.size", "g_mean"), ("2 * g_var", "g_var"))
def mean_and_variance(x):
    centred = x - x.mean()

    def vjp(cotangents):
        g_mean, g_var = cotangents
        return g_mean / x.size + 2 * g_var * centred / x.size

    return (x.mean(), (centred**2).mean()), vjp


@case(broadcast(2, values="smooth"), ("fit(-g_r", "fit(g_r"), ("g_angle * x / r**2", "g_angle * y / r**2"))
def polar(x, y):
    r, angle = np.hypot(x, y), np.arctan2(y, x)

    def vjp(cotangents):
        g_r, g_angle = cotangents
        return fit(g_r * x / r - g_angle * y / r**2, x), fit(-g_r * -y / r + g_angle * x / r**2, y)

    return (r, angle), vjp


@case(tensors((3, 3), values="smooth"), ("u * g @ u.T", "u.T * g @ u"))
def eigenvalues(a):
    w, u = np.linalg.eigh(0.5 * (a + a.T))
    return w, lambda g: u * g @ u.T


# Functions of Tensors, and what stands for them here has no text to slip in: their rules are the project's own.


@case(st.tuples(tensors((2, 3)), tensors((3, 3)), tensors((3, 2))))
def tensor_perceptron(x, w1, w2):
    return F.relu(x @ w1) @ w2


@case(tensors((2, 3)))
def tensor_swish_gate(x):
    return F.silu(x) * F.sigmoid(-x) + F.softplus(x).mean()


@case(tensors((2, 4)))
def tensor_entropy(x):
    return -(F.softmax(x, 1) * F.log_softmax(x, 1)).sum(1)


@case(st.tuples(tensors((1, 1, 5, 5)), tensors((2, 1, 3, 3))))
def tensor_conv_block(x, w):
    return F.max_pool2d(F.tanh(F.conv2d(x, w, padding=1)), 2)


@case(tensors((3, 4)))
def tensor_standardise(x):
    return (x - x.mean(dim=0, keepdim=True)) / (x.std(dim=0, keepdim=True) + 0.1)
