"""The second set of unseen rules, other functions than the first.

This file is long because it is a list.
"""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special

import tinygrad_lite.functional as F
from experiments.unseen import fit, table
from tinygrad_lite.fuzz import broadcast, reduced, tensors

SECOND, case = table()
ROWS = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)
ALONG = reduced(axis="axis", keepdims=None, several=False, min_side=1, min_dims=1, optional=False)


def both(*shapes, **options):
    """Arrays of these shapes."""
    return st.tuples(*(tensors(shape, **options) for shape in shapes))


@case(tensors(low=-1.0, high=1.0), ("np.exp(y * y)", "np.exp(-y * y)"), ("np.sqrt(np.pi) / 2", "2 / np.sqrt(np.pi)"))
def erfinv(x):
    y = special.erfinv(x)
    return y, lambda g: g * np.sqrt(np.pi) / 2 * np.exp(y * y)


@case(tensors(), ("- np.sign(x) * y", "- y"), ("special.i1e(x) - np.sign(x) * y", "special.i1e(x)"))
def scaled_bessel(x):
    y = special.i0e(x)
    return y, lambda g: g * (special.i1e(x) - np.sign(x) * y)


@case(broadcast(2, low=0.0), ("special.digamma(b) - special.digamma(a + b)", "special.digamma(b)"),
      ("fit(g * (special.digamma(a) - ", "fit(g * (special.digamma(b) - "))  # fmt: skip
def betaln(a, b):
    return special.betaln(a, b), lambda g: (
        fit(g * (special.digamma(a) - special.digamma(a + b)), a),
        fit(g * (special.digamma(b) - special.digamma(a + b)), b))  # fmt: skip


@case(st.tuples(tensors((3,)), tensors((3,), low=0.0)), ("g * x / y", "g / y"), ("(g * np.log(y)", "(g * np.log(y) + g"))
def xlogy(x, y):
    return x * np.log(y), lambda g: (g * np.log(y), g * x / y)


@case(st.tuples(tensors((3,)), tensors((3,), low=0.0)), ("-g * np.floor(x / y)", "-g * x / y"), ("np.floor", "np.round"))
def remainder(x, y):
    return np.remainder(x, y), lambda g: (g, -g * np.floor(x / y))


@case(tensors(), ("(x > 0) & (x < 6)", "x > 0"), ("(x > 0) & (x < 6)", "(x > 0) | (x < 6)"))
def relu6(x):
    return np.clip(x, 0, 6), lambda g: g * ((x > 0) & (x < 6))


@case(st.tuples(tensors((4,)).map(lambda a: (a,)), st.fixed_dictionaries({"alpha": st.sampled_from((0.5, 1.0, 2.0))})),
      ("np.exp(np.minimum(x, 0) / alpha))", "alpha * np.exp(np.minimum(x, 0) / alpha))"))  # fmt: skip
def celu(x, alpha):
    y = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))
    return y, lambda g: g * np.where(x > 0, 1, np.exp(np.minimum(x, 0) / alpha))


@case(tensors(), ("np.tanh(x) ** 2", "(1 - np.tanh(x) ** 2)"))
def tanh_shrink(x):
    return x - np.tanh(x), lambda g: g * np.tanh(x) ** 2


@case(tensors(), ("x / np.sqrt(x * x + 4)", "1 / np.sqrt(x * x + 4)"), ("0.5 * g", "g"))
def squareplus(x):
    return 0.5 * (x + np.sqrt(x * x + 4)), lambda g: 0.5 * g * (1 + x / np.sqrt(x * x + 4))


@case(tensors(), ("special.expit(-x)", "special.expit(x)"))
def log_sigmoid(x):
    return -np.logaddexp(0, -x), lambda g: g * special.expit(-x)


@case(tensors(), ("1.5 * np.sqrt(np.abs(x))", "1.5 * np.sqrt(np.abs(x)) * np.sign(x)"))
def signed_power(x):
    return np.sign(x) * np.abs(x) ** 1.5, lambda g: g * 1.5 * np.sqrt(np.abs(x))


@case(tensors(low=-1.0, high=1.0), ("-g / ", "g / "))
def arccos(x):
    return np.arccos(x), lambda g: -g / np.sqrt((1 - x) * (1 + x))


@case(both((2, 3), (3,), low=0.0), ("((x - y[:, None]) / total * g[:, None]).sum(0)", "((x - y[:, None]) / total * g[:, None])[0]"),
      ("(x - y[:, None]) / total", "x / total"))  # fmt: skip
def weighted_mean(x, w):
    total = w.sum()
    y = x @ w / total
    return y, lambda g: (g[:, None] * w / total, ((x - y[:, None]) / total * g[:, None]).sum(0))


@case(tensors(ROWS, low=0.0), ("y * y /", "y /"), ("x.shape[-1]", "x.size"))
def harmonic_mean(x):
    y = 1 / (1 / x).mean(-1, keepdims=True)

    def vjp(g):
        return g[..., None] * y * y / (x * x) / x.shape[-1]

    return y[..., 0], vjp


@case(ALONG, ("np.exp(x - y)", "np.exp(x)"), ("/ x.shape[axis]", ""))
def logmeanexp(x, axis):
    y = special.logsumexp(x, axis, keepdims=True) - np.log(x.shape[axis])
    return y.squeeze(axis), lambda g: np.expand_dims(g, axis) * np.exp(x - y) / x.shape[axis]


@case(tensors(ROWS), ("- bottom", "+ bottom"), ("(bottom.cumsum(-1) == 1)", "True"))
def extent(x):
    top, bottom = x == x.max(-1, keepdims=True), x == x.min(-1, keepdims=True)
    top, bottom = top & (top.cumsum(-1) == 1), bottom & (bottom.cumsum(-1) == 1)
    return np.ptp(x, -1), lambda g: g[..., None] * (top * 1.0 - bottom)


@case(ALONG, ("np.expand_dims(g, axis)", "g"), ("* np.sign(x)", "* np.abs(x)"))
def norm1(x, axis):
    return np.abs(x).sum(axis), lambda g: np.expand_dims(g, axis) * np.sign(x)


@case(tensors((2, 3)), ("np.sign(x) * first", "first"), ("np.argmax(np.abs(x), -1)", "np.argmax(x, -1)"))
def norm_infinity(x):
    first = np.eye(3)[np.argmax(np.abs(x), -1)]
    return np.abs(x).max(-1), lambda g: g[:, None] * np.sign(x) * first


@case(tensors((5,)), ("- (centred**2).mean()", ""), ("3 * g", "2 * g"))
def third_moment(x):
    centred = x - x.mean()
    return (centred**3).mean(), lambda g: 3 * g * (centred**2 - (centred**2).mean()) / x.size


@case(both((4,), (4,), values="smooth"), ("- r * a / na", ""), ("b / nb - r", "b - r"))
def correlation(x, y):
    a, b = x - x.mean(), y - y.mean()
    na, nb = np.sqrt((a * a).sum()), np.sqrt((b * b).sum())
    r = a @ b / (na * nb)
    return r, lambda g: (g * (b / nb - r * a / na) / na, g * (a / na - r * b / nb) / nb)


@case(tensors((2, 5)), ("+= g * (at - low)", "= g * (at - low)"), ("g * (1 + low - at)", "g * (at - low)"))
def quantile(x):
    order = np.argsort(x, -1, kind="stable")
    at = 0.3 * (x.shape[-1] - 1)
    low = int(at)
    rows = np.arange(len(x))

    def vjp(g):
        g_x = np.zeros_like(x)
        g_x[rows, order[:, low]] += g * (1 + low - at)
        g_x[rows, order[:, low + 1]] += g * (at - low)
        return g_x

    return np.quantile(x, 0.3, axis=-1), vjp


@case(tensors((2, 4)), ("g_x[:, 1:] += g", "g_x[:, 1:] = g"), ("g_x[:, :-1] -= g", "g_x[:, :-1] += g"))
def differences(x):
    def vjp(g):
        g_x = np.zeros_like(x)
        g_x[:, 1:] += g
        g_x[:, :-1] -= g
        return g_x

    return np.diff(x), vjp


@case(
    st.integers(1, 3).flatmap(lambda n: both((n,), (n, n))),
    ("(a + a.T) @ x", "2 * a @ x"),
    ("np.outer(x, x)", "np.outer(x, a @ x)"),
)
def quadratic_form(x, a):
    return x @ a @ x, lambda g: (g * (a + a.T) @ x, g * np.outer(x, x))


@case(tensors((2, 2), values="smooth"), ("-y.T @ g @ y.T", "-y @ g @ y"), ("-y.T", "y.T"))
def inverse_of_gram(a):
    m = a.T @ a + np.eye(2, dtype=a.dtype)
    y = np.linalg.inv(m)

    def vjp(g):
        g_m = -y.T @ g @ y.T
        return a @ (g_m + g_m.T)

    return y, vjp


@case(tensors((2, 2)), ("t @ g @ t", "g @ t @ t"), ("t @ t @ g", "t @ g"), ("t = a.T", "t = a"))
def cube_of_matrix(a):
    def vjp(g):
        t = a.T
        return t @ t @ g + t @ g @ t + g @ t @ t

    return a @ a @ a, vjp


@case(
    both((2, 2), (2, 3)), ('"ikjl,kl->ij", t, b', '"ikjl,kl->ji", t, b'), ('"ikjl,ij->kl", t, a', '"ikjl,ij->kl", t, np.abs(a)')
)
def kronecker(a, b):
    def vjp(g):
        t = g.reshape(2, 2, 2, 3)
        return np.einsum("ikjl,kl->ij", t, b), np.einsum("ikjl,ij->kl", t, a)

    return np.kron(a, b), vjp


@case(both((4, 2), (4,), values="smooth"), ("np.outer(r, z) - ", ""), ("- np.outer(x @ z, y)", "+ np.outer(x @ z, y)"))
def ridge(x, t):
    m = x.T @ x + np.eye(2, dtype=x.dtype)
    y = np.linalg.solve(m, x.T @ t)

    def vjp(g):
        z = np.linalg.solve(m, g)
        r = t - x @ y
        return np.outer(r, z) - np.outer(x @ z, y), x @ z

    return y, vjp


@case(tensors((2, 3), values="smooth"), ("- y * (g * y).sum()", ""), (").sum()) / n", ").sum())"))
def frobenius_unit(a):
    n = np.sqrt((a * a).sum())
    y = a / n
    return y, lambda g: (g - y * (g * y).sum()) / n


@case(both((3,), (3,), values="smooth"), ("+ 4 * (v @ x) * (v @ g) * v / n**2", ""), ("g @ v * x + (v @ x) * g", "g @ v * x"))
def householder(x, v):
    n = v @ v
    y = x - 2 * (v @ x) / n * v

    def vjp(g):
        by_v = -2 / n * (g @ v * x + (v @ x) * g) + 4 * (v @ x) * (v @ g) * v / n**2
        return g - 2 * (v @ g) / n * v, by_v

    return y, vjp


@case(tensors((3, 2)), ("(g + g.T)", "2 * g"), ("+ g.T", ""))
def gram_rows(x):
    return x @ x.T, lambda g: (g + g.T) @ x


@case(both((5,), (3,)), ("g[(np.arange(5) + k) % 5]", "g[(np.arange(5) - k) % 5]"), ("x[(np.arange(5) - k) % 5]", "x"))
def circular_convolution(x, w):
    y = sum(w[k] * np.roll(x, k) for k in range(3))

    def vjp(g):
        g_x = sum(w[k] * g[(np.arange(5) + k) % 5] for k in range(3))
        return g_x, np.array([(g * x[(np.arange(5) - k) % 5]).sum() for k in range(3)])

    return y, vjp


@case(both((5,), (3,)), ('np.convolve(g, w[::-1], "valid")', 'np.convolve(g, w, "valid")'), ('"valid")[::-1]', '"valid")'))
def true_convolution(x, w):
    return np.convolve(x, w), lambda g: (np.convolve(g, w[::-1], "valid"), np.convolve(x, g[::-1], "valid")[::-1])


@case(
    tensors((2, 6)),
    ("np.add.at(g_x, (rows, where), g)", "g_x[rows, where] = g"),
    ("where = best + 2 * np.arange(best.shape[1])", "where = best + np.arange(best.shape[1])"),
)
def max_pool1d(x):
    windows = np.lib.stride_tricks.sliding_window_view(x, 3, 1)[:, ::2]
    best = windows.argmax(-1)
    rows = np.arange(2)[:, None]
    where = best + 2 * np.arange(best.shape[1])

    def vjp(g):
        g_x = np.zeros_like(x)
        np.add.at(g_x, (rows, where), g)
        return g_x

    return windows.max(-1), vjp


@case(tensors((1, 2, 2, 3)), (".sum((3, 5))", ".mean((3, 5))"))
def upsample_nearest(x):
    y = x.repeat(2, 2).repeat(2, 3)
    return y, lambda g: g.reshape(1, 2, 2, 2, 3, 2).sum((3, 5))


@case(tensors((2, 4)), ("g_x[:, 2:0:-1] += g[:, :2]", "g_x[:, 2:0:-1] = g[:, :2]"), ("g_x[:, 2:0:-1]", "g_x[:, 1:3]"),
      ("g_x[:, -2] += g[:, -1]", "g_x[:, -1] += g[:, -1]"))  # fmt: skip
def reflect_pad(x):
    def vjp(g):
        g_x = g[:, 2:6].copy()
        g_x[:, 2:0:-1] += g[:, :2]
        g_x[:, -2] += g[:, -1]
        return g_x

    return np.pad(x, ((0, 0), (2, 1)), mode="reflect"), vjp


@case(st.tuples(tensors((3, 3)), tensors((2, 2), low=0.0, high=2.0)), ("np.add.at(g_image", "np.subtract.at(g_image"),
      ("g * ((1 - s) * (c - a) + s * (d - b))", "g * ((1 - s) * (b - a) + s * (d - c))"))  # fmt: skip
def sample_bilinear(image, at):
    corner = np.minimum(np.floor(at).astype(int), 1)
    t, s = (at - corner).T
    i, j = corner.T
    a, b, c, d = image[i, j], image[i, j + 1], image[i + 1, j], image[i + 1, j + 1]
    y = (1 - t) * ((1 - s) * a + s * b) + t * ((1 - s) * c + s * d)

    def vjp(g):
        g_image = np.zeros_like(image)
        for di, dj, w in ((0, 0, (1 - t) * (1 - s)), (0, 1, (1 - t) * s), (1, 0, t * (1 - s)), (1, 1, t * s)):
            np.add.at(g_image, (i + di, j + dj), g * w)
        by_t, by_s = g * ((1 - s) * (c - a) + s * (d - b)), g * ((1 - t) * (b - a) + t * (d - c))
        return g_image, np.stack([by_t, by_s], 1)

    return y, vjp


@case(both((3, 2), (3,), values="smooth"), ("- u * (g_w * u).sum(1, keepdims=True)", ""), ("(g * u).sum(1)", "(g * v).sum(1)"))
def weight_norm(v, gain):
    n = np.sqrt((v * v).sum(1, keepdims=True))
    u = v / n

    def vjp(g):
        g_w = g * gain[:, None]
        return (g_w - u * (g_w * u).sum(1, keepdims=True)) / n, (g * u).sum(1)

    return u * gain[:, None], vjp


@case(tensors((2, 5)), ("- 2 * 0.1 * 0.75 * x * near(g * x * s**-1.75)", ""), ("near(g * x * s**-1.75)", "g * x * s**-1.75"))
def local_response_norm(x):
    def near(z):
        padded = np.pad(z, ((0, 0), (1, 1)))
        return padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]

    s = 1 + 0.1 * near(x * x)
    return x * s**-0.75, lambda g: g * s**-0.75 - 2 * 0.1 * 0.75 * x * near(g * x * s**-1.75)


@case(
    both((4,), (), ()),
    ("back = back * w", "back = back"),
    ("g_w += back * (h[t - 1]", "g_w += g[t] * (h[t - 1]"),
    ("1 - h[t] ** 2", "1 - h[t]"),
)
def tanh_recurrence(x, w, u):
    h = np.zeros_like(x)
    for t in range(len(x)):
        h[t] = np.tanh(u * x[t] + (w * h[t - 1] if t else 0))

    def vjp(g):
        g_x, g_w, g_u, back = np.zeros_like(x), np.zeros_like(w), np.zeros_like(u), 0.0
        for t in range(len(x) - 1, -1, -1):
            back = (g[t] + back) * (1 - h[t] ** 2)
            g_x[t] = back * u
            g_u += back * x[t]
            g_w += back * (h[t - 1] if t else 0)
            back = back * w
        return g_x, g_w, g_u

    return h, vjp


@case(
    both((3, 2), (2, 2)), ("g_trans += ", "g_trans = "), ("back = (share * back[None, :]).sum(1)", "back = share.sum(1) * back")
)
def forward_algorithm(emit, trans):
    alphas = [emit[0]]
    for row in emit[1:]:
        alphas.append(special.logsumexp(alphas[-1][:, None] + trans, 0) + row)

    def vjp(g):
        back, g_emit, g_trans = g, np.zeros_like(emit), np.zeros_like(trans)
        for t in range(len(emit) - 1, 0, -1):
            g_emit[t] = back
            share = special.softmax(alphas[t - 1][:, None] + trans, 0)
            g_trans += share * back[None, :]
            back = (share * back[None, :]).sum(1)
        g_emit[0] = back
        return g_emit, g_trans

    return alphas[-1], vjp


IDS = hnp.arrays(np.int64, (4,), elements=st.integers(0, 2))


@case(st.tuples(tensors((4,)), IDS), ("x[here].argmax()", "x[here].argmin()"), ("if winner[s] >= 0", "if winner[s] > 0"))
def segment_max(x, ids):
    y, winner = np.zeros(3, x.dtype), np.full(3, -1)
    for s in range(3):
        here = np.flatnonzero(ids == s)
        if len(here):
            y[s], winner[s] = x[here].max(), here[x[here].argmax()]

    def vjp(g):
        g_x = np.zeros_like(x)
        for s in range(3):
            if winner[s] >= 0:
                g_x[winner[s]] += g[s]
        return g_x, None

    return y, vjp


@case(
    st.tuples(tensors((3, 2)), IDS, tensors((4, 2))),
    ("g[ids]", "g[ids] / 2"),
    ("np.add.at(y, ids, rows)", "y[ids] = y[ids] + rows"),
)
def scatter_add(base, ids, rows):
    y = base.copy()
    np.add.at(y, ids, rows)
    return y, lambda g: (g, None, g[ids])


@case(st.tuples(tensors((2, 3)), hnp.arrays(np.int64, (2, 2), elements=st.integers(0, 2))),
      ("np.add.at(g_x, (rows, index), g)", "np.put_along_axis(g_x, index, g, 1)"))  # fmt: skip
def take_along(x, index):
    rows = np.arange(2)[:, None]

    def vjp(g):
        g_x = np.zeros_like(x)
        np.add.at(g_x, (rows, index), g)
        return g_x, None

    return np.take_along_axis(x, index, 1), vjp


@case(tensors((3,)), ("np.diag(g)", "g.sum(0)"))
def diagonal_matrix(x):
    return np.diag(x), lambda g: np.diag(g).copy()


@case(both((4,), (2, 4)), ("g[1] = 0", "pass"), ("g[1].copy()", "g.sum(0)"))
def put_row(row, table):
    y = table.copy()
    y[1] = row

    def vjp(g):
        g_row, g = g[1].copy(), g.copy()
        g[1] = 0
        return g_row, g

    return y, vjp


@case(
    st.tuples(tensors((5,)), hnp.arrays(np.bool_, 5)),
    ("2 * (1 - p) * log_p * p", "(1 - p) * log_p * p"),
    ("sign * (1 - p)", "(1 - p)"),
)
def focal_loss(x, target):
    sign = np.where(target, 1, -1)
    p = special.expit(sign * x)
    log_p = -np.logaddexp(0, -sign * x)

    def vjp(g):
        return g * sign * (1 - p) * (2 * (1 - p) * log_p * p - (1 - p) ** 2)

    return -((1 - p) ** 2) * log_p, vjp


@case(
    st.tuples(tensors((4,), low=0.0, high=1.0), hnp.arrays(np.bool_, 4)),
    ("- y / total", ""),
    ("2 * target / total", "target / total"),
)
def dice(p, target):
    total = p.sum() + target.sum() + 1
    y = (2 * (p * target).sum() + 1) / total
    return 1 - y, lambda g: -g * (2 * target / total - y / total)


@case(both((2, 3), (2, 3), (2, 3)), ("2 * (n - p)", "2 * (p - n)"), ("-2 * (a - p)", "2 * (a - p)"))
def triplet(a, p, n):
    loss = ((a - p) ** 2).sum(1) - ((a - n) ** 2).sum(1) + 1
    on = (loss > 0)[:, None] * 1.0

    def vjp(g):
        on_g = on * g[:, None]
        return on_g * 2 * (n - p), on_g * -2 * (a - p), on_g * 2 * (a - n)

    return np.maximum(loss, 0), vjp


@case(st.tuples(tensors((2, 3)), hnp.arrays(np.int64, (2,), elements=st.integers(0, 2))),
      ("-= over.sum(1)", "= -1"), ("x - right + 1", "x - right"))  # fmt: skip
def multiclass_hinge(x, label):
    rows = np.arange(2)
    right = x[rows, label][:, None]
    margin = np.maximum(0, x - right + 1)
    margin[rows, label] = 0

    def vjp(g):
        over = (margin > 0) * g[:, None]
        over[rows, label] -= over.sum(1)
        return over

    return margin.sum(1), vjp


@case(both((3, 2), (3, 2), values="smooth"), ("p - np.eye(3)", "p - 1"), ("t.T @ a", "t @ a"))
def info_nce(a, b):
    s = a @ b.T
    p = special.softmax(s, 1)
    loss = (special.logsumexp(s, 1) - np.diag(s)).mean()

    def vjp(g):
        t = g * (p - np.eye(3)) / 3
        return t @ b, t.T @ a

    return loss, vjp


@case(both((4,), (4,)), ("1 - d * d * np.exp(-log_var)", "1 - d * np.exp(-log_var)"), ("-g * d", "g * d"))
def gaussian_nll(mean, log_var):
    d = 0.5 - mean
    y = 0.5 * (log_var + d * d * np.exp(-log_var))
    return y, lambda g: (-g * d * np.exp(-log_var), 0.5 * g * (1 - d * d * np.exp(-log_var)))


@case(both((3,), (3,)), ("0.5 * g * (np.exp(log_var) - 1)", "0.5 * g * np.exp(log_var)"), ("g * mean", "2 * g * mean"))
def kl_to_normal(mean, log_var):
    return 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).sum(), lambda g: (g * mean, 0.5 * g * (np.exp(log_var) - 1))


@case(both((4,), (4,)), ("(g * s[np.argsort(i)]", "(g * s"), ("-g * s[np.argsort(j)]", "-g * s[np.argsort(i)]"))
def wasserstein(x, y):
    i, j = np.argsort(x, kind="stable"), np.argsort(y, kind="stable")
    s = np.sign(x[i] - y[j]) / len(x)
    return np.abs(x[i] - y[j]).mean(), lambda g: (g * s[np.argsort(i)], -g * s[np.argsort(j)])


@case(tensors((2, 3)), ("+ g_l[:, None] * p", ""), ("g_p - (g_p * p).sum(1, keepdims=True)", "g_p - (g_p * p).sum()"))
def softmax_and_logsumexp(x):
    p, total = special.softmax(x, 1), special.logsumexp(x, 1)

    def vjp(cotangents):
        g_p, g_l = cotangents
        return p * (g_p - (g_p * p).sum(1, keepdims=True)) + g_l[:, None] * p

    return (p, total), vjp


@case(
    both((2,), (2,), (2,), (2,)), ("g_c = g_c + g_h * o", "g_c = g_h * o"), ("g_h * tanh_c * o * (1 - o)", "g_h * tanh_c * o")
)
def lstm_gates(i, f, o, c):
    i, f, o = (special.expit(z) for z in (i, f, o))
    tanh_c = np.tanh(f * c + i)

    def vjp(cotangents):
        g_h, g_c = cotangents
        g_c = g_c + g_h * o * (1 - tanh_c**2)
        return g_c * i * (1 - i), g_c * c * f * (1 - f), g_h * tanh_c * o * (1 - o), g_c * f

    return (o * tanh_c, f * c + i), vjp


# Functions of Tensors


@case(both((2, 3), (4, 3), (4, 2)))
def tensor_attention(q, k, v):
    return F.softmax(q @ k.transpose(0, 1) * 0.5, 1) @ v


@case(both((3, 4), (4, 4), (4,)))
def tensor_residual(x, w, b):
    return x + F.gelu(F.layer_norm(x, (4,)) @ w + b)


@case(both((2, 4)))
def tensor_margin(x):
    return F.relu(x - x.max(dim=1, keepdim=True) + 1).sum(dim=1)


@case(both((2, 1, 4, 4), (2, 1, 2, 2), (2,)))
def tensor_conv_pool(x, w, b):
    return F.avg_pool2d(F.leaky_relu(F.conv2d(x, w, b, stride=1)), 2, stride=1)


@case(both((3,), (3,)))
def tensor_cosine(a, b):
    return (a * b).sum() / ((a * a).sum() + 1).sqrt() / ((b * b).sum() + 1).sqrt()
