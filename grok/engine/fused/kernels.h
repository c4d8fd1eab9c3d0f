// What every fused step consists of: vectors, activations, matrix products with an epilogue, losses
// and optimizers. Before it stand the constants of one problem (see source.py):
//     real, loss_real   types of weights and activations, and of the cross-entropy
//     ARENA             reals of one replica's weights, padded; its accumulators follow, each as long
//     OPTIMIZER         ADAMW, ADAM, SGD or LION
//
// All matrices are stored by rows, which are padded with zeros to whole vectors.

#include <utility>
#if defined(__AVX512F__)
#include <immintrin.h>
constexpr int VECTOR_BYTES = 64, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32, REGISTERS = 16;
#else
constexpr int VECTOR_BYTES = 16, REGISTERS = 16;
#endif
#define INLINE static inline __attribute__((always_inline))

template <class T> struct Vector {
    typedef T type __attribute__((vector_size(VECTOR_BYTES)));
    // Half of a matrix's columns may begin within a vector.
    typedef T in_memory __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T))));
    static constexpr long size = VECTOR_BYTES / sizeof(T);
};
typedef Vector<real>::type V;
constexpr long W = Vector<real>::size;

INLINE V load(const real* at) { return *(const Vector<real>::in_memory*)at; }
INLINE void store(real* at, V value) { *(Vector<real>::in_memory*)at = value; }

// -- divisions and roots ---------------------------------------------------------------------------

#if defined(__znver3__) || defined(__znver4__) || defined(__znver5__)
#define FAST_DIVISION  // GCC 12 takes Zen 4 for a Zen 3 with AVX-512
#endif

#if defined(__AVX512F__) && !defined(FAST_DIVISION)
// A division or root of a whole vector takes as long as 16 to 32 products. Estimates with 14 bits are
// refined instead: each step doubles the bits, and the last one corrects the result. Only on AMD's
// processors are divisions and roots faster than that.
constexpr real INFINITE = real(__builtin_inf());
INLINE __m512 reciprocal_estimate(__m512 x) { return _mm512_rcp14_ps(x); }
INLINE __m512d reciprocal_estimate(__m512d x) { return _mm512_rcp14_pd(x); }
INLINE __m512 root_estimate(__m512 x) { return _mm512_rsqrt14_ps(x); }
INLINE __m512d root_estimate(__m512d x) { return _mm512_rsqrt14_pd(x); }

INLINE V quotient(V a, V b) {
    const V estimate = reciprocal_estimate(b);
    V r = estimate;
    if (sizeof(real) == 8) r += r * (1 - b * r);
    V q = a * r;
    return b < INFINITE ? q + r * (a - b * q) : a * estimate;
}
INLINE V root(V x) {
    V r = root_estimate(x);
    if (sizeof(real) == 8) r += r * (real(0.5) - real(0.5) * x * r * r);
    V s = x * r;
    s += real(0.5) * r * (x - s * s);
    return (x > 0) & (x < INFINITE) ? s : x;
}
#else
INLINE V quotient(V a, V b) { return a / b; }
INLINE V root(V x) {
#if defined(__clang__)
    return __builtin_elementwise_sqrt(x);
#else
    V result;
    for (long lane = 0; lane < W; lane++) result[lane] = __builtin_sqrt(x[lane]);
    return result;
#endif
}
#endif

// -- exponential function and activations ---------------------------------------------------------

template <class T> struct Exponent;
template <> struct Exponent<float> {
    typedef int bits __attribute__((vector_size(VECTOR_BYTES)));
    static constexpr int mantissa = 23, bias = 127, terms = 7;
    static constexpr float least = -87.f, most = 88.f, round = 12582912.f;
    static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
};
template <> struct Exponent<double> {
    typedef long long bits __attribute__((vector_size(VECTOR_BYTES)));
    static constexpr int mantissa = 52, bias = 1023, terms = 13;
    static constexpr double least = -708., most = 709., round = 6755399441055744.;
    static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
};

// 1 / k!, a table: the compiler would compute the value of a function again for each vector.
struct InverseFactorials {
    double of[16] = {1};
    constexpr InverseFactorials() {
        for (int k = 1; k < 16; k++) of[k] = of[k - 1] / k;
    }
};
constexpr InverseFactorials INVERSE_FACTORIALS;

// exp(x) = power * (1 + rest), where power is 2^n and |rest| < 0.42.
template <class T> INLINE void split_exp(typename Vector<T>::type x, typename Vector<T>::type& power,
                                         typename Vector<T>::type& rest) {
    typedef Exponent<T> E;
    typedef typename Vector<T>::type Vec;
    x = x < E::least ? Vec{} + E::least : x;
    x = x > E::most ? Vec{} + E::most : x;
    Vec rounded = x * T(1.4426950408889634) + E::round, n = rounded - E::round;
    Vec r = (x - n * E::ln2_high) - n * E::ln2_low;
    Vec sum = Vec{} + T(INVERSE_FACTORIALS.of[E::terms]);
#pragma GCC unroll 16
    for (int k = E::terms - 1; k >= 2; k--) sum = sum * r + T(INVERSE_FACTORIALS.of[k]);
    rest = r + r * r * sum;
    power = (Vec)(((typename E::bits)rounded << E::mantissa) + ((long long)E::bias << E::mantissa));
}

template <class T> INLINE typename Vector<T>::type exponential(typename Vector<T>::type x) {
    typename Vector<T>::type power, rest;
    split_exp<T>(x, power, rest);
    return power + power * rest;
}

INLINE V tanh_of(V z) {
    constexpr real most = sizeof(real) == 4 ? 10 : 20;
    z = z > most ? V{} + most : z;
    z = z < -most ? V{} - most : z;
    V power, rest;
    split_exp<real>(z + z, power, rest);
    V minus_one = power * rest + (power - 1);  // exp(2 z) - 1
    return quotient(minus_one, minus_one + 2);
}

// An activation maps a pre-activation z to h, and gives dh/dz from h, or keeps it where it needs z.
struct Identity {
    INLINE V apply(V z, real*) { return z; }
    INLINE V slope(const real*, const real*) { return V{} + 1; }
};
struct Tanh {
    INLINE V apply(V z, real*) { return tanh_of(z); }
    INLINE V slope(const real* h, const real*) { return 1 - load(h) * load(h); }
};
struct Relu {
    INLINE V apply(V z, real*) { return z < 0 ? V{} : z; }  // keeps NaN, as torch does
    INLINE V slope(const real* h, const real*) { return load(h) > 0 ? V{} + 1 : V{}; }
};
struct Square {
    INLINE V apply(V z, real* kept) {
        store(kept, z + z);
        return z * z;
    }
    INLINE V slope(const real*, const real* kept) { return load(kept); }
};
#ifdef MILLS
// z Phi(z). Phi(-x) is the normal density times Mills' ratio, a polynomial in (x - 2) / (x + 2).
struct Gelu {
    INLINE V apply(V z, real* kept) {
        constexpr double coefficients[] = {MILLS};
        V x = z < 0 ? -z : z;
        V t = quotient(x - 2, x + 2), ratio = V{};
#pragma GCC unroll 32
        for (int k = sizeof(coefficients) / sizeof(double) - 1; k >= 0; k--)
            ratio = ratio * t + real(coefficients[k]);
        V density = exponential<real>(z * z * real(-0.5)) * real(0.3989422804014327);
        V below = density * ratio, phi = z < 0 ? below : 1 - below;
        store(kept, phi + z * density);
        return z * phi;
    }
    INLINE V slope(const real*, const real* kept) { return load(kept); }
};
#endif

// -- optimizers -----------------------------------------------------------------------------------

struct Scalars {  // grok.engine.optimizers.StepScalars
    real lr, step_size, lr_times_decay, weight_decay, one_minus_beta1, beta2, one_minus_beta2, eps,
        momentum, t;
};

// Change weights by their gradient, and their accumulators, which lie ARENA and 2 ARENA behind them.
// `target` is where weight decay pulls to: DECAY_TARGET behind them, or zero.
INLINE void update(real* at, V gradient, const Scalars& s) {
    V value = load(at);
#ifdef DECAY_TARGET
    V excess = value - load(at + DECAY_TARGET);
#else
    V excess = value;
#endif
    if (OPTIMIZER == SGD) {
        V velocity = s.momentum * load(at + ARENA) + gradient + s.weight_decay * excess;
        store(at + ARENA, velocity);
        store(at, value - s.lr * velocity);
        return;
    }
    if (OPTIMIZER == LION) {
        V mean = load(at + ARENA), difference = gradient - mean;
        V direction = mean + difference * s.one_minus_beta1;
        V sign = direction > 0 ? V{} + 1 : direction < 0 ? V{} - 1 : V{};
        store(at + ARENA, mean + difference * s.one_minus_beta2);
        store(at, value - s.lr_times_decay * excess - s.lr * sign);
        return;
    }
    if (OPTIMIZER == ADAMW) value -= s.lr_times_decay * excess;
    else gradient += s.weight_decay * value;
    V mean = load(at + ARENA), square = load(at + 2 * ARENA);
    mean += (gradient - mean) * s.one_minus_beta1;
    square = square * s.beta2 + gradient * gradient * s.one_minus_beta2;
    V direction = quotient(mean, root(square) + s.eps);
    store(at, value - s.step_size * direction);
    store(at + ARENA, mean);
    store(at + 2 * ARENA, square);
}

INLINE void prefetch_state(const real* at) {
    __builtin_prefetch(at, 1);
    __builtin_prefetch(at + ARENA, 1);
    if (OPTIMIZER == ADAMW || OPTIMIZER == ADAM) __builtin_prefetch(at + 2 * ARENA, 1);
}

// Update `count` weights, a multiple of W, from gradients that lie GRADIENT behind them.
static void update_all(real* at, long count, const Scalars& s) {
    for (long i = 0; i < count; i += W) update(at + i, load(at + i + GRADIENT), s);
}

// Scale `count` weights, a multiple of W, to a norm, unless it is 0.
static void rescale(real* at, long count, double norm) {
    if (norm <= 0) return;
    double sums[W] = {};
    for (long i = 0; i < count; i += W)
        for (long lane = 0; lane < W; lane++) sums[lane] += double(at[i + lane]) * at[i + lane];
    double sum = 0;
    for (long lane = 0; lane < W; lane++) sum += sums[lane];
    const real factor = real(norm / __builtin_sqrt(sum));
    for (long i = 0; i < count; i += W) store(at + i, load(at + i) * factor);
}

// -- matrix products ------------------------------------------------------------------------------

constexpr long up(long a, long b) { return (a + b - 1) / b * b; }

// Rows and vectors of the tiles that a product is computed in; each is kept in registers.
struct Tile { long rows, vectors; };

// Half cycles of one term of a tile's sums: two FMAs or loads start in each, an FMA takes four.
constexpr long tile_cost(long rows, long vectors) {
    long fma = rows * vectors, loads = rows + vectors;
    long cost = fma > loads ? fma : loads;
    return cost > 8 ? cost : 8;
}
constexpr long columns_cost(long M, long rows, long vectors) {
    return M / rows * tile_cost(rows, vectors) + (M % rows ? tile_cost(M % rows, vectors) : 0);
}
constexpr long best_rows(long M, long vectors) {
    long best = 1;
    for (long rows = 1; rows <= M && rows * vectors + vectors + 1 <= REGISTERS; rows++)
        if (columns_cost(M, rows, vectors) <= columns_cost(M, best, vectors)) best = rows;
    return best;
}
constexpr long product_cost(long M, long NV, long vectors) {
    long rest = NV % vectors;
    long cost = NV / vectors * columns_cost(M, best_rows(M, vectors), vectors);
    return cost + (rest ? columns_cost(M, best_rows(M, rest), rest) : 0);
}
constexpr long best_vectors(long M, long NV) {
    long best = 1;
    for (long vectors = 1; vectors <= NV && vectors <= REGISTERS / 4; vectors++)
        if (product_cost(M, NV, vectors) < product_cost(M, NV, best)) best = vectors;
    return best;
}

// epilogue(i, j, sum of A[i, :] B[:, j...]) for the vectors of one tile.
template <long MR, long NR, long K, class E>
INLINE void tile(const real* A, long a_row, long a_column, const real* B, long ldb, long i, long j, E& epilogue) {
    V sum[MR][NR];
#pragma GCC unroll 32
    for (long r = 0; r < MR; r++)
#pragma GCC unroll 32
        for (long v = 0; v < NR; v++) sum[r][v] = V{};
    A += i * a_row;
    for (long k = 0; k < K; k++) {
        V b[NR];
#pragma GCC unroll 32
        for (long v = 0; v < NR; v++) b[v] = load(B + k * ldb + v * W);
#pragma GCC unroll 32
        for (long r = 0; r < MR; r++)
#pragma GCC unroll 32
            for (long v = 0; v < NR; v++) sum[r][v] += A[r * a_row + k * a_column] * b[v];
    }
    V done[MR * NR];  // a copy, so that the sums themselves stay in registers
#pragma GCC unroll 32
    for (long r = 0; r < MR; r++)
#pragma GCC unroll 32
        for (long v = 0; v < NR; v++) done[r * NR + v] = sum[r][v];
    for (long r = 0; r < MR; r++)
        for (long v = 0; v < NR; v++) epilogue(i + r, j + v * W, done[r * NR + v]);
}

// Rows and columns of a square of vectors exchanged: blocks of S lanes, then of 2 S, and so on.
template <long S, long... LANES> INLINE void exchange(V& a, V& b, std::integer_sequence<long, LANES...>) {
#if defined(__clang__)
    V first = __builtin_shufflevector(a, b, (LANES & S ? W + LANES - S : LANES)...);
    b = __builtin_shufflevector(a, b, (LANES & S ? W + LANES : LANES + S)...);
#else
    typedef Exponent<real>::bits Lanes;
    V first = __builtin_shuffle(a, b, Lanes{(LANES & S ? W + LANES - S : LANES)...});
    b = __builtin_shuffle(a, b, Lanes{(LANES & S ? W + LANES : LANES + S)...});
#endif
    a = first;
}
template <long S = 1> INLINE void transpose(V (&rows)[W]) {
    if constexpr (S < W) {
#pragma GCC unroll 16
        for (long i = 0; i < W; i++)
            if (!(i & S)) exchange<S>(rows[i], rows[i + S], std::make_integer_sequence<long, W>());
        transpose<2 * S>(rows);
    }
}

// Columns j to j + NR W of the transpose of B, which has N rows of K reals; zeros beyond N.
template <long NR, long K> static void copy_transposed(const real* B, long ldb, long j, long N, real* panel) {
    constexpr long WHOLE = K / W * W;
    for (long v = 0; v < NR; v++)
        for (long k = 0; k < WHOLE; k += W) {
            V rows[W];
#pragma GCC unroll 16
            for (long lane = 0; lane < W; lane++) {
                const long row = j + v * W + lane;
                rows[lane] = row < N ? load(B + row * ldb + k) : V{};
            }
            transpose(rows);
#pragma GCC unroll 16
            for (long lane = 0; lane < W; lane++) store(panel + (k + lane) * NR * W + v * W, rows[lane]);
        }
    for (long k = WHOLE; k < K; k++)
        for (long column = 0; column < NR * W; column++)
            panel[k * NR * W + column] = j + column < N ? B[(j + column) * ldb + k] : 0;
}

// One group of NR vectors of columns, for all rows.
template <long M, long NR, long K, bool TRANSPOSED, class E>
static void columns(const real* A, long a_row, long a_column, const real* B, long ldb, long j, long N, E& epilogue) {
    constexpr long MR = best_rows(M, NR);
    alignas(64) real panel[TRANSPOSED ? K * NR * W : 1];
    const real* rows = B + j;
    if (TRANSPOSED) {
        copy_transposed<NR, K>(B, ldb, j, N, panel);
        rows = panel, ldb = NR * W;
    }
    long i = 0;
    for (; i + MR <= M; i += MR) tile<MR, NR, K>(A, a_row, a_column, rows, ldb, i, j, epilogue);
    if constexpr (M % MR != 0) tile<M % MR, NR, K>(A, a_row, a_column, rows, ldb, i, j, epilogue);
}

// The product of A (M, K), with any strides, and B (K, N), or B (N, K) transposed. The epilogue is
// called with each row, each first column of a vector, and the vector of results.
template <long M, long N, long K, bool TRANSPOSED, class E>
static void product(const real* A, long a_row, long a_column, const real* B, long ldb, E epilogue) {
    constexpr long NV = up(N, W) / W, NR = best_vectors(M, NV);
    long j = 0;
    for (; j + NR * W <= NV * W; j += NR * W)
        columns<M, NR, K, TRANSPOSED>(A, a_row, a_column, B, ldb, j, N, epilogue);
    if constexpr (NV % NR != 0)
        columns<M, NV % NR, K, TRANSPOSED>(A, a_row, a_column, B, ldb, j, N, epilogue);
}

// Sums of the columns of d (M, N).
template <long M, long N, class E> static void column_sums(const real* d, long ld, E epilogue) {
    for (long j = 0; j < N; j += W) {
        V sum = V{};
        for (long i = 0; i < M; i++) sum += load(d + i * ld + j);
        epilogue(0, j, sum);
    }
}

INLINE void add_to(real* at, V value) { store(at, load(at) + value); }

static void clear(real* at, long count) {
    for (long i = 0; i < count; i++) at[i] = 0;
}

// to[index(n)] += d[n], for the first `rows` rows.
template <long N, class I> static void scatter(const real* d, long ld, long rows, real* to, long ldt, I index) {
    for (long n = 0; n < rows; n++)
        for (long j = 0; j < N; j += W) add_to(to + index(n) * ldt + j, load(d + n * ld + j));
}

// -- losses: the gradient of the mean at the outputs (M, N), of which `rows` rows count -------------

template <long M, long N, class F>
static void squared_error(const real* y, real* d, long ld, long rows, long all_rows, double* loss, F target) {
    const real scale = real(2. / (double(all_rows) * N));
    for (long n = 0; n < M; n++)
        for (long c = 0; c < N; c++) {
            real gap = n < rows ? y[n * ld + c] - target(n, c) : 0;
            d[n * ld + c] = scale * gap;
            if (loss) *loss += double(gap) * gap / (double(all_rows) * N);
        }
}

template <long M, long N, class I>
static void cross_entropy(const real* y, real* d, long ld, long rows, long all_rows, double* loss, I label) {
    typedef Vector<loss_real>::type L;
    constexpr long LW = Vector<loss_real>::size, NP = up(N, LW);
    constexpr loss_real lowest = sizeof(loss_real) == 4 ? -3e38 : -1e308;
    for (long n = 0; n < M; n++) {
        if (n >= rows) {
            for (long c = 0; c < N; c++) d[n * ld + c] = 0;
            continue;
        }
        alignas(64) loss_real e[NP];
        loss_real most = y[n * ld];
        for (long c = 0; c < N; c++) {
            e[c] = y[n * ld + c];
            most = e[c] > most ? e[c] : most;
        }
        for (long c = N; c < NP; c++) e[c] = lowest;
        L sums = L{};
        for (long c = 0; c < NP; c += LW) {
            L value = exponential<loss_real>(*(L*)(e + c) - most);
            *(L*)(e + c) = value;
            if (c + LW <= N) sums += value;
            else
                for (long lane = 0; c + lane < N; lane++) sums[lane] += value[lane];
        }
        loss_real sum = 0;
        for (long lane = 0; lane < LW; lane++) sum += sums[lane];
        const loss_real scale = loss_real(1) / (sum * loss_real(all_rows));
        const long answer = label(n);
        if (loss) *loss += (__builtin_log(double(sum)) + most - y[n * ld + answer]) / all_rows;
        for (long c = 0; c < N; c++) d[n * ld + c] = real(e[c] * scale);
        d[n * ld + answer] = real(e[answer] * scale - loss_real(1) / loss_real(all_rows));
    }
}
