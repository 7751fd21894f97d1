// The order of operations on every element is written out, whatever the instruction set. Multiply and add are
// fused where the instruction set can, in all places alike: of registers by the compiler, which has leave to
// do so in this file; of single values, whose loops it might vectorise and then not fuse, by `add_product`.
#include "linear_model_kernels.hpp"

#include "dispatch.hpp"

namespace cgc::kernels {

namespace {

template <int Bytes>
CGC_INLINE void add_product(double& sum, double a, double b) {
    if constexpr (fuses<Bytes>)
        sum = __builtin_fma(a, b, sum);
    else
        sum += a * b;
}

// Four partial sums of a dot product: lane j holds the terms j, j+4, j+8, ...
constexpr Index lanes = 4;
constexpr int lanes_bytes = lanes * sizeof(double);

// Dot products of S samples with C classes; every loaded value serves S or C of them.
template <int Bytes, Index S, Index C>
CGC_INLINE void dots(const double* features, Index stride, const double* theta, Index length, double* out,
                     Index out_stride) {
    using Lanes = Register<double, lanes_bytes>;
    Lanes sums[S][C] = {};
    Index j = 0;
    for (; j + lanes <= length; j += lanes) {
        Lanes t[C];
#pragma GCC unroll 4
        for (Index c = 0; c < C; ++c) load<double, lanes_bytes>(t[c], theta + c * length + j);
#pragma GCC unroll 4
        for (Index s = 0; s < S; ++s) {
            Lanes x;
            load<double, lanes_bytes>(x, features + s * stride + j);
#pragma GCC unroll 4
            for (Index c = 0; c < C; ++c) sums[s][c] += x * t[c];
        }
    }
    for (Index s = 0; s < S; ++s)
        for (Index c = 0; c < C; ++c) {
            const Lanes& sum = sums[s][c];
            double dot = (sum[0] + sum[1]) + (sum[2] + sum[3]);
            for (Index i = j; i < length; ++i)
                add_product<Bytes>(dot, features[s * stride + i], theta[c * length + i]);
            out[s * out_stride + c] = dot;
        }
}

template <int Bytes, Index S>
CGC_INLINE void logits_of(const double* features, Index stride, const double* theta, Index length,
                          Index classes, double* out) {
    Index c = 0;
    if constexpr (Bytes >= 32)  // 4 x 3 sums, 3 values and one more are the 16 registers that there are
        for (; c + 3 <= classes && classes - c != 4; c += 3)
            dots<Bytes, S, 3>(features, stride, theta + c * length, length, out + c, classes);
    for (; c + 2 <= classes; c += 2)
        dots<Bytes, S, 2>(features, stride, theta + c * length, length, out + c, classes);
    if (c < classes) dots<Bytes, S, 1>(features, stride, theta + c * length, length, out + c, classes);
}

struct Logits {
    template <int Bytes>
    CGC_INLINE static void run(const Matrix<const double>& features, const double* theta, Index classes,
                               double* out) {
        constexpr Index samples = Bytes < 32 ? 2 : 4;  // as the sums of so many fit the registers
        Index i = 0;
        for (; i + samples <= features.rows; i += samples)
            logits_of<Bytes, samples>(features.row(i), features.row_stride, theta, features.columns, classes,
                                      out + i * classes);
        for (; i < features.rows; ++i)
            logits_of<Bytes, 1>(features.row(i), features.row_stride, theta, features.columns, classes,
                                out + i * classes);
    }
};

// S samples a pass and V registers at once, so that a sum is loaded and stored once for S of its terms; the
// rows of the features are read from end to end. For one class, where memory is the limit.
template <int Bytes, Index S, Index V>
CGC_INLINE void accumulate_registers(const double* features, Index stride, const double* residuals,
                                     Index residual_stride, double* sums) {
    constexpr Index width = Bytes / static_cast<Index>(sizeof(double));
    Register<double, Bytes> sum[V], x;
#pragma GCC unroll 2
    for (Index v = 0; v < V; ++v) load<double, Bytes>(sum[v], sums + v * width);
#pragma GCC unroll 4
    for (Index s = 0; s < S; ++s)
#pragma GCC unroll 2
        for (Index v = 0; v < V; ++v) {
            load<double, Bytes>(x, features + s * stride + v * width);
            sum[v] += residuals[s * residual_stride] * x;
        }
#pragma GCC unroll 2
    for (Index v = 0; v < V; ++v) store<Bytes>(sums + v * width, sum[v]);
}

template <int Bytes, Index S>
CGC_INLINE void accumulate_rows(const double* features, Index stride, const double* residuals,
                                Index residual_stride, double* sums, Index n) {
    constexpr Index width = Bytes / static_cast<Index>(sizeof(double));
    Index j = 0;
    for (; j + 2 * width <= n; j += 2 * width)
        accumulate_registers<Bytes, S, 2>(features + j, stride, residuals, residual_stride, sums + j);
    for (; j + width <= n; j += width)
        accumulate_registers<Bytes, S, 1>(features + j, stride, residuals, residual_stride, sums + j);
    for (; j < n; ++j)
        for (Index s = 0; s < S; ++s)
            add_product<Bytes>(sums[j], residuals[s * residual_stride], features[s * stride + j]);
}

// The rest of the classes: the sums of C classes x V registers stay in registers while `samples` pass by.
template <int Bytes, Index C, Index V>
CGC_INLINE void accumulate_block(const double* features, Index stride, const double* residuals,
                                 Index residual_stride, Index samples, double* sums, Index sum_stride) {
    constexpr Index width = Bytes / static_cast<Index>(sizeof(double));
    Register<double, Bytes> block[C][V], x[V];
#pragma GCC unroll 6
    for (Index c = 0; c < C; ++c)
#pragma GCC unroll 6
        for (Index v = 0; v < V; ++v) load<double, Bytes>(block[c][v], sums + c * sum_stride + v * width);
    for (Index s = 0; s < samples; ++s) {
#pragma GCC unroll 6
        for (Index v = 0; v < V; ++v) load<double, Bytes>(x[v], features + s * stride + v * width);
#pragma GCC unroll 6
        for (Index c = 0; c < C; ++c) {
            const double r = residuals[s * residual_stride + c];
#pragma GCC unroll 6
            for (Index v = 0; v < V; ++v) block[c][v] += r * x[v];
        }
    }
#pragma GCC unroll 6
    for (Index c = 0; c < C; ++c)
#pragma GCC unroll 6
        for (Index v = 0; v < V; ++v) store<Bytes>(sums + c * sum_stride + v * width, block[c][v]);
}

template <int Bytes, Index V>
CGC_INLINE void accumulate_column(const double* features, Index stride, const Matrix<const double>& residuals,
                                  Index first, Index samples, double* sums, Index sum_stride, Index classes) {
    Index c = 0;  // 6 x 2 sums, 2 values, a residual and a product are the 16 registers that there are
    for (; c + 6 <= classes; c += 6)
        accumulate_block<Bytes, 6, V>(features, stride, residuals.row(first) + c, residuals.row_stride,
                                      samples, sums + c * sum_stride, sum_stride);
    for (; c + 4 <= classes; c += 4)
        accumulate_block<Bytes, 4, V>(features, stride, residuals.row(first) + c, residuals.row_stride,
                                      samples, sums + c * sum_stride, sum_stride);
    for (; c + 2 <= classes; c += 2)
        accumulate_block<Bytes, 2, V>(features, stride, residuals.row(first) + c, residuals.row_stride,
                                      samples, sums + c * sum_stride, sum_stride);
    if (c < classes)
        accumulate_block<Bytes, 1, V>(features, stride, residuals.row(first) + c, residuals.row_stride,
                                      samples, sums + c * sum_stride, sum_stride);
}

struct Accumulate {
    template <int Bytes>
    CGC_INLINE static void run(const Matrix<const double>& features, const Matrix<const double>& residuals,
                               const Matrix<double>& sums) {
        const Index n = sums.columns, stride = features.row_stride;
        if (sums.rows == 1) {
            Index i = 0;
            for (; i + 4 <= features.rows; i += 4)
                accumulate_rows<Bytes, 4>(features.row(i), stride, residuals.row(i), residuals.row_stride,
                                          sums.data, n);
            for (; i < features.rows; ++i)
                accumulate_rows<Bytes, 1>(features.row(i), stride, residuals.row(i), residuals.row_stride,
                                          sums.data, n);
            return;
        }
        // A pass of samples stays in the second-level cache while its columns are visited, and fetches the
        // next one: rows are far apart, and so many pieces of them are too short for hardware prefetching.
        constexpr Index width = Bytes / static_cast<Index>(sizeof(double)), pass = 16, line = 8;
        for (Index i = 0; i < features.rows; i += pass) {
            const Index samples = features.rows - i < pass ? features.rows - i : pass;
            const double* x = features.row(i);
            Index j = 0;
            const Index next = features.rows - i - samples < pass ? features.rows - i - samples : pass;
            for (; j + 2 * width <= n; j += 2 * width) {
                for (Index s = 0; s < next; ++s)
                    for (Index l = 0; l < 2 * width; l += line)
                        __builtin_prefetch(x + (samples + s) * stride + j + l);
                accumulate_column<Bytes, 2>(x + j, stride, residuals, i, samples, sums.data + j,
                                            sums.row_stride, sums.rows);
            }
            for (; j + width <= n; j += width)
                accumulate_column<Bytes, 1>(x + j, stride, residuals, i, samples, sums.data + j,
                                            sums.row_stride, sums.rows);
            for (; j < n; ++j)
                for (Index k = 0; k < sums.rows; ++k) {
                    double sum = sums(k, j);
                    for (Index s = 0; s < samples; ++s)
                        add_product<Bytes>(sum, residuals(i + s, k), x[s * stride + j]);
                    sums(k, j) = sum;
                }
        }
    }
};

// Many classes: what a pass reads is copied first, to where the loops above read it from end to end.
struct AccumulatePacked {
    // Columns [0, n), in panels of two registers, each with its samples one behind the other.
    template <int Bytes>
    CGC_INLINE static void pack_features(const double* from, Index stride, Index samples, Index n,
                                         double* to) {
        constexpr Index width = Bytes / static_cast<Index>(sizeof(double)), panel = 2 * width;
        constexpr Index ahead = 8, line = 8;
        for (Index s = 0; s < samples; ++s) {
            const double* x = from + s * stride;
            if (s + ahead < samples)
                for (Index j = 0; j < n; j += line) __builtin_prefetch(x + ahead * stride + j);
            for (Index j = 0; j < n; j += panel) {
                double* place = to + j * samples + s * panel;
                Register<double, Bytes> low, high;
                load<double, Bytes>(low, x + j);
                load<double, Bytes>(high, x + j + width);
                store<Bytes>(place, low);
                store<Bytes>(place + width, high);
            }
        }
    }

    // Classes [first, first + C * count), in panels of C.
    template <Index C>
    CGC_INLINE static double* pack_classes(const double* from, Index stride, Index samples, Index count,
                                           double* to) {
        for (Index panel = 0; panel < count; ++panel, from += C)
            for (Index s = 0; s < samples; ++s, to += C)
                for (Index c = 0; c < C; ++c) to[c] = from[s * stride + c];
        return to;
    }

    template <int Bytes, Index C>
    CGC_INLINE static void add_panels(const double* features, const double*& residuals, Index samples,
                                      Index count, double*& sums, Index sum_stride) {
        constexpr Index panel = 2 * Bytes / static_cast<Index>(sizeof(double));
        for (Index p = 0; p < count; ++p) {
            accumulate_block<Bytes, C, 2>(features, panel, residuals, C, samples, sums, sum_stride);
            residuals += C * samples;
            sums += C * sum_stride;
        }
    }

    template <int Bytes>
    CGC_INLINE static void run(const Matrix<const double>& features, const Matrix<const double>& residuals,
                               const Matrix<double>& sums, double* scratch) {
        constexpr Index panel = 2 * Bytes / static_cast<Index>(sizeof(double));
        const Index classes = sums.rows, packed = sums.columns / panel * panel;
        // As many sixes as can be, but two fours in the place of six and two.
        const Index sixes = classes % 6 == 2 && classes > 6 ? classes / 6 - 1 : classes / 6;
        const Index left = classes - 6 * sixes, fours = left / 4, twos = left % 4 / 2, one = left % 2;
        double* const x = scratch;
        double* const r = scratch + packed_samples * packed_columns;
        for (Index i = 0; i < features.rows; i += packed_samples) {
            const Index samples = features.rows - i < packed_samples ? features.rows - i : packed_samples;
            const double* from = residuals.row(i);
            double* to = pack_classes<6>(from, residuals.row_stride, samples, sixes, r);
            to = pack_classes<4>(from + 6 * sixes, residuals.row_stride, samples, fours, to);
            to = pack_classes<2>(from + 6 * sixes + 4 * fours, residuals.row_stride, samples, twos, to);
            pack_classes<1>(from + classes - one, residuals.row_stride, samples, one, to);
            for (Index first = 0; first < packed; first += packed_columns) {
                const Index n = packed - first < packed_columns ? packed - first : packed_columns;
                pack_features<Bytes>(features.row(i) + first, features.row_stride, samples, n, x);
                for (Index j = 0; j < n; j += panel) {
                    const double* next = r;
                    double* sum = sums.data + first + j;
                    add_panels<Bytes, 6>(x + j * samples, next, samples, sixes, sum, sums.row_stride);
                    add_panels<Bytes, 4>(x + j * samples, next, samples, fours, sum, sums.row_stride);
                    add_panels<Bytes, 2>(x + j * samples, next, samples, twos, sum, sums.row_stride);
                    add_panels<Bytes, 1>(x + j * samples, next, samples, one, sum, sums.row_stride);
                }
            }
        }
        if (packed < sums.columns)
            Accumulate::run<Bytes>(
                {features.data + packed, features.rows, sums.columns - packed, features.row_stride},
                residuals, {sums.data + packed, classes, sums.columns - packed, sums.row_stride});
    }
};

}  // namespace

void logits(Matrix<const double> features, const double* theta, Index classes, double* out) {
    Versions<Logits, void(const Matrix<const double>&, const double*, Index, double*)>::run(features, theta,
                                                                                            classes, out);
}

void accumulate(Matrix<const double> features, Matrix<const double> residuals, Matrix<double> sums,
                double* scratch) {
    if (is_packed(features.row_stride, sums.rows))
        Versions<AccumulatePacked, void(const Matrix<const double>&, const Matrix<const double>&,
                                        const Matrix<double>&, double*)>::run(features, residuals, sums,
                                                                              scratch);
    else
        Versions<Accumulate, void(const Matrix<const double>&, const Matrix<const double>&,
                                  const Matrix<double>&)>::run(features, residuals, sums);
}

}  // namespace cgc::kernels
