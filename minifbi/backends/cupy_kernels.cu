// The kernels of the cupy backend: see cupy_backend.py for who calls what.
//
// T is float or double.  I is the type of an index: int, or long long where an array has more
// elements than an int can count; the backend compiles this file once for each pair that it needs.
// Maps lie in memory as (C, N, H, W), the channel first and the sample second, because that is
// the order in which a matrix product of weights and windows leaves them.
//
// Each kernel is a loop over the elements of its result, and each element is computed by one
// thread alone: nothing is shared, no atomics, and the same input gives the same bits.
// Whole numbers come as long long and others as double, as CuPy passes Python's.

#pragma nv_diag_suppress 177  // not every kernel needs every one of SIZES

#define EACH(i, total) \
    for (I i = (I)blockIdx.x * blockDim.x + threadIdx.x; i < (total); i += (I)gridDim.x * blockDim.x)

// a map's size, the size of what the windows give, and the windows: kernel, stride, padding
#define WINDOWS long long channels, long long samples, long long height, long long width, long long out_height, long long out_width, long long kh, long long kw, long long sh, long long sw, long long ph, long long pw
#define SIZES const I C = channels, N = samples, H = height, W = width, OH = out_height, \
    OW = out_width, KH = kh, KW = kw, SH = sh, SW = sw, PH = ph, PW = pw

// The first and the last window (along one axis) that reach place p of the padded map.
__device__ inline I first_window(I p, I kernel, I stride)
{
    return p < kernel ? 0 : (p - kernel) / stride + 1;
}

__device__ inline I last_window(I p, I stride, I windows)
{
    return p / stride < windows ? p / stride : windows - 1;
}

__device__ inline T rectify(T value)
{
    return value <= 0 ? 0 : value;  // NaN stays NaN
}

extern "C" {

// ---- windows as columns, and back ---------------------------------------------------------

// Each window as one column of a matrix (C * kh * kw, N * OH * OW).
__global__ void im2col(const T* x, T* columns, WINDOWS)
{
    SIZES;
    EACH(i, C * KH * KW * N * OH * OW) {
        I rest = i;
        const I ox = rest % OW; rest /= OW;
        const I oy = rest % OH; rest /= OH;
        const I n = rest % N; rest /= N;
        const I column = rest % KW; rest /= KW;
        const I row = rest % KH;
        const I c = rest / KH;
        const I y = oy * SH - PH + row, z = ox * SW - PW + column;
        const bool inside = y >= 0 && y < H && z >= 0 && z < W;
        columns[i] = inside ? x[((c * N + n) * H + y) * W + z] : 0;
    }
}

// Its transpose: what the windows have at one place of the map is added up.
__global__ void col2im(const T* columns, T* x, WINDOWS)
{
    SIZES;
    EACH(i, C * N * H * W) {
        const I z = i % W + PW, y = i / W % H + PH, n = i / (W * H) % N, c = i / (W * H * N);
        const I y0 = first_window(y, KH, SH), y1 = last_window(y, SH, OH);
        const I x0 = first_window(z, KW, SW), x1 = last_window(z, SW, OW);
        T sum = 0;
        for (I oy = y0; oy <= y1; ++oy)
            for (I ox = x0; ox <= x1; ++ox) {
                const I row = y - oy * SH, column = z - ox * SW;
                sum += columns[((((c * KH + row) * KW + column) * N + n) * OH + oy) * OW + ox];
            }
        x[i] = sum;
    }
}

// ---- pooling --------------------------------------------------------------------------------

// Maximum of each window and its place there.  With `rectified`, of relu(x + bias).
__global__ void max_pool(const T* x, const T* bias, T* out, unsigned* winners,
                         long long has_bias, long long rectified, WINDOWS)
{
    SIZES;
    EACH(i, C * N * OH * OW) {
        const I ox = i % OW, oy = i / OW % OH, plane = i / (OW * OH);
        const T shift = has_bias ? bias[plane / N] : 0;
        T best = 0;
        I winner = -1;
        for (I row = 0; row < KH; ++row)
            for (I column = 0; column < KW; ++column) {
                const I y = oy * SH - PH + row, z = ox * SW - PW + column;
                if (y < 0 || y >= H || z < 0 || z >= W) continue;  // the padding never wins
                T value = x[(plane * H + y) * W + z] + shift;
                if (rectified) value = rectify(value);
                // the first of equals wins, and NaN wins over everything
                if (winner < 0 || (best == best && (value > best || value != value))) {
                    best = value;
                    winner = row * KW + column;
                }
            }
        out[i] = best;
        winners[i] = (unsigned)winner;
    }
}

// What belongs to a window goes to its winner; with `gated`, only where a > 0.
__global__ void max_scatter(const T* g, const T* a, const unsigned* winners, T* out,
                            long long gated, WINDOWS)
{
    SIZES;
    EACH(i, C * N * H * W) {
        const I z = i % W + PW, y = i / W % H + PH, plane = i / (W * H);
        const I y0 = first_window(y, KH, SH), y1 = last_window(y, SH, OH);
        const I x0 = first_window(z, KW, SW), x1 = last_window(z, SW, OW);
        T sum = 0;
        for (I oy = y0; oy <= y1; ++oy)
            for (I ox = x0; ox <= x1; ++ox) {
                const I window = (plane * OH + oy) * OW + ox;
                const I place = (y - oy * SH) * KW + (z - ox * SW);
                if ((I)winners[window] == place && (!gated || a[window] > 0)) sum += g[window];
            }
        out[i] = sum;
    }
}

// The transpose: each window reads its winner.
__global__ void max_gather(const T* x, const T* a, const unsigned* winners, T* out,
                           long long gated, WINDOWS)
{
    SIZES;
    EACH(i, C * N * OH * OW) {
        const I ox = i % OW, oy = i / OW % OH, plane = i / (OW * OH);
        const I y = oy * SH - PH + (I)winners[i] / KW, z = ox * SW - PW + (I)winners[i] % KW;
        out[i] = gated && !(a[i] > 0) ? 0 : x[(plane * H + y) * W + z];
    }
}

// Mean of each window, the zeros of the padding counted.
__global__ void avg_pool(const T* x, T* out, WINDOWS)
{
    SIZES;
    EACH(i, C * N * OH * OW) {
        const I ox = i % OW, oy = i / OW % OH, plane = i / (OW * OH);
        T sum = 0;
        for (I row = 0; row < KH; ++row)
            for (I column = 0; column < KW; ++column) {
                const I y = oy * SH - PH + row, z = ox * SW - PW + column;
                if (y >= 0 && y < H && z >= 0 && z < W) sum += x[(plane * H + y) * W + z];
            }
        out[i] = sum / (T)(KH * KW);
    }
}

// Its transpose: every window hands an equal share to each of its places.
__global__ void avg_unpool(const T* g, T* x, WINDOWS)
{
    SIZES;
    EACH(i, C * N * H * W) {
        const I z = i % W + PW, y = i / W % H + PH, plane = i / (W * H);
        const I y0 = first_window(y, KH, SH), y1 = last_window(y, SH, OH);
        const I x0 = first_window(z, KW, SW), x1 = last_window(z, SW, OW);
        T sum = 0;
        for (I oy = y0; oy <= y1; ++oy)
            for (I ox = x0; ox <= x1; ++ox) sum += g[(plane * OH + oy) * OW + ox];
        x[i] = sum / (T)(KH * KW);
    }
}

// ---- activations, element by element ----------------------------------------------------------

// z = relu(z + bias) in place; a channel has `each` elements.
__global__ void bias_relu(T* z, const T* bias, long long has_bias, long long each, long long total)
{
    EACH(i, (I)total) z[i] = rectify(has_bias ? z[i] + bias[i / (I)each] : z[i]);
}

// g where a > 0, else 0.
__global__ void gate(const T* g, const T* a, T* out, long long total)
{
    EACH(i, (I)total) out[i] = a[i] > 0 ? g[i] : 0;
}

// Sums of `g` where a > 0, `parts` of them a channel; who calls adds these up.
__global__ void open_sums(const T* g, const T* a, T* sums, long long channels, long long each,
                          long long parts)
{
    EACH(i, (I)(channels * parts)) {
        const I c = i / (I)parts;
        T sum = 0;
        for (I k = i % (I)parts; k < (I)each; k += (I)parts) {
            const I place = c * (I)each + k;
            if (a[place] > 0) sum += g[place];
        }
        sums[i] = sum;
    }
}

// Sums of |x - x * ratio|, Eq. (3), `parts` of them; who calls adds these up.
__global__ void l1_sums(const T* x, const T* ratio, T* sums, long long total, long long parts)
{
    EACH(i, (I)parts) {
        T sum = 0;
        for (I k = i; k < (I)total; k += (I)parts) {
            const T difference = x[k] - x[k] * ratio[k];
            sum += difference < 0 ? -difference : difference;
        }
        sums[i] = sum;
    }
}

// Its gradients, times `scale`: sigma * (1 - ratio) at x, -sigma * x at the ratio.
__global__ void l1_gradients(const T* x, const T* ratio, const T* scale, T* grad_x, T* grad_ratio,
                             long long total)
{
    EACH(i, (I)total) {
        const T difference = x[i] - x[i] * ratio[i];
        T sigma = difference > 0 ? 1 : difference < 0 ? -1 : difference;  // NaN stays NaN
        sigma *= *scale;
        grad_x[i] = sigma * (1 - ratio[i]);
        grad_ratio[i] = -sigma * x[i];
    }
}

// ---- the optimiser ----------------------------------------------------------------------------

// Adam (Kingma and Ba 2015, Algorithm 1); mean and square change in place, p goes to `out`.
__global__ void adam(const T* p, const T* g, T* mean, T* square, T* out, double beta1, double beta2,
                     double size, double correction, double eps, long long total)
{
    EACH(i, (I)total) {
        const T m = mean[i] * (T)beta1 + (T)(1 - beta1) * g[i];
        const T s = square[i] * (T)beta2 + (T)(1 - beta2) * g[i] * g[i];
        mean[i] = m;
        square[i] = s;
        out[i] = p[i] - (T)size * m / (sqrt(s / (T)correction) + (T)eps);
    }
}

}  // extern "C"
