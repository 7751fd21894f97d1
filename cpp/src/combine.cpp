#include "cgc/combine.hpp"

#include <cstdint>
#include <limits>

#include "cgc/parallel.hpp"
#include "dispatch.hpp"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace cgc {

namespace {

// The rows are added to a chunk of the output, which stays in the second-level cache, a group after the
// other. Shorter chunks would fit the first level, but break the rows into runs too short for hardware
// prefetching. More rows at once are slower: large buffers begin at the same place of a page, so that all of
// them and the output want the same 8 ways of a set of the cache.
constexpr Index kChunkBytes = 65536;
constexpr Index kGroup = 6;

// A sum that is larger than the caches, in one pass, is written past them: that saves reading the output
// first, and 8 rows are no longer in the way of an output that takes no place.
constexpr Index kStreamBytes = Index{32} << 20;
constexpr Index kStreamGroup = 8;

// y[i] (+)= a[0] x[0][i] + a[1] x[1][i] + ..., left to right, for i in [begin, end): what no register fills.
template <bool Add, class X, class Y>
CGC_INLINE void add_singly(int count, const X* const* x, const Y* a, Y* y, Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
        Y sum = a[0] * static_cast<Y>(x[0][i]);
        if (Add) sum = y[i] + sum;
        for (int r = 1; r < count; ++r) sum += a[r] * static_cast<Y>(x[r][i]);
        y[i] = sum;
    }
}

// The same for R rows and i in [0, n). No coefficients: all 1. Stream: past the caches, where there is a way.
template <int Bytes, int R, bool Add, bool Stream, class X, class Y>
CGC_INLINE void add_rows(const X* const* x, const Y* a, Y* y, Index n) {
    constexpr Index lanes = Bytes / static_cast<Index>(sizeof(Y));
    const X* rows[R];
    Y factors[R];
    for (int r = 0; r < R; ++r) rows[r] = x[r], factors[r] = a != nullptr ? a[r] : Y(1);
    Index i = 0;
    if constexpr (Stream) {
        const auto beyond = static_cast<Index>(reinterpret_cast<std::uintptr_t>(y) % Bytes);
        if (beyond > 0) i = std::min(n, (Bytes - beyond) / static_cast<Index>(sizeof(Y)));
        add_singly<Add>(R, rows, factors, y, 0, i);
    }
    for (; i + lanes <= n; i += lanes) {
        Register<Y, Bytes> sum, value;
        load<Y, Bytes>(value, rows[0] + i);
        value = factors[0] * value;
        sum = value;
        if constexpr (Add) {
            load<Y, Bytes>(sum, y + i);
            sum += value;
        }
#pragma GCC unroll 8
        for (int r = 1; r < R; ++r) {
            load<Y, Bytes>(value, rows[r] + i);
            sum += factors[r] * value;
        }
#if defined(__x86_64__)
        if constexpr (Stream) {
            for (int piece = 0; piece < Bytes; piece += 16) {
                __m128i bits;
                std::memcpy(&bits, reinterpret_cast<const char*>(&sum) + piece, 16);
                _mm_stream_si128(reinterpret_cast<__m128i*>(reinterpret_cast<char*>(y + i) + piece), bits);
            }
            continue;
        }
#endif
        store<Bytes>(y + i, sum);
    }
    add_singly<Add>(R, rows, factors, y, i, n);
}

template <int Bytes, bool Add, bool Stream, class X, class Y>
CGC_INLINE void add_group(Index count, const X* const* x, const Y* a, Y* y, Index n) {
    switch (count) {
        case 1:
            return add_rows<Bytes, 1, Add, Stream>(x, a, y, n);
        case 2:
            return add_rows<Bytes, 2, Add, Stream>(x, a, y, n);
        case 3:
            return add_rows<Bytes, 3, Add, Stream>(x, a, y, n);
        case 4:
            return add_rows<Bytes, 4, Add, Stream>(x, a, y, n);
        case 5:
            return add_rows<Bytes, 5, Add, Stream>(x, a, y, n);
        case 6:
            return add_rows<Bytes, 6, Add, Stream>(x, a, y, n);
    }
    if constexpr (Stream) {
        if (count == 7) return add_rows<Bytes, 7, Add, Stream>(x, a, y, n);
        add_rows<Bytes, 8, Add, Stream>(x, a, y, n);
    }
}

// The values [begin, end) of the sum.
template <class X, class Y>
struct Sum {
    template <int Bytes>
    CGC_INLINE static void run(const X* const* rows, const Y* a, Index count, Y* out, Index begin, Index end,
                               bool accumulate, bool stream) {
        if (count == 0) {
            for (Index i = begin; !accumulate && i < end; ++i) out[i] = Y(0);
            return;
        }
        const X* x[kStreamGroup] = {};
#if defined(__x86_64__)
        if (stream) {
            for (Index r = 0; r < count; ++r) x[r] = rows[r] + begin;
            add_group<Bytes, false, true>(count, x, a, out + begin, end - begin);
            _mm_sfence();  // what passed the caches is seen by whoever sees what is written next
            return;
        }
#else
        (void)stream;
#endif
        constexpr Index chunk = kChunkBytes / static_cast<Index>(sizeof(Y));
        const Index groups = (count + kGroup - 1) / kGroup;
        for (; begin < end; begin += chunk) {
            const Index n = end - begin < chunk ? end - begin : chunk;
            for (Index g = 0; g < groups; ++g) {  // of sizes that differ by one at most
                const Index first = g * count / groups, present = (g + 1) * count / groups - first;
                for (Index r = 0; r < present; ++r) x[r] = rows[first + r] + begin;
                const Y* factors = a != nullptr ? a + first : nullptr;
                if (g > 0 || accumulate)
                    add_group<Bytes, true, false>(present, x, factors, out + begin, n);
                else
                    add_group<Bytes, false, false>(present, x, factors, out + begin, n);
            }
        }
    }
};

template <class X, class Y>
void sum_over_threads(View<const X* const> rows, const Y* a, View<Y> out, bool accumulate, int threads) {
    const auto count = static_cast<Index>(rows.size()), length = static_cast<Index>(out.size());
    const Index moved = length * (count * static_cast<Index>(sizeof(X)) + static_cast<Index>(sizeof(Y)));
    const bool stream = !accumulate && count > 0 && count <= kStreamGroup && moved >= kStreamBytes;
    constexpr Index grain = 16384;  // below, starting a thread takes longer than the sum
    in_parallel(length, threads, grain, [&](Index begin, Index end) {
        Versions<Sum<X, Y>, void(const X* const*, const Y*, Index, Y*, Index, Index, bool, bool)>::run(
            rows.data(), a, count, out.data(), begin, end, accumulate, stream);
    });
}

template <class T>
struct AllFinite {
    template <int Bytes>
    CGC_INLINE static bool run(const T* values, Index length) {
        // 0 * x is a zero, or NaN for NaN and infinity, which no sum loses.
        constexpr Index lanes = Bytes / static_cast<Index>(sizeof(T)), chunk = 4096;
        for (Index begin = 0; begin < length; begin += chunk) {
            const Index end = length - begin < chunk ? length : begin + chunk;
            Register<T, Bytes> sums[4] = {}, value;
            Index i = begin;
            for (; i + 4 * lanes <= end; i += 4 * lanes)
                for (int s = 0; s < 4; ++s) {
                    load<T, Bytes>(value, values + i + s * lanes);
                    sums[s] += T(0) * value;
                }
            T total = 0;
            for (; i < end; ++i) total += T(0) * values[i];
            for (const auto& sum : sums)
                for (Index lane = 0; lane < lanes; ++lane) total += sum[lane];
            if (!(total == T(0))) return false;
        }
        return true;
    }
};

template <class T>
struct LargestDeviation {
    template <int Bytes>
    CGC_INLINE static T run(const T* values, Index length, T expected) {
        constexpr Index lanes = Bytes / static_cast<Index>(sizeof(T));
        T largest[lanes] = {}, sums[lanes] = {};  // a comparison loses NaN, a sum does not
        for (Index i = 0; i < length; i += lanes) {
            const Index present = length - i < lanes ? length - i : lanes;
            for (Index lane = 0; lane < present; ++lane) {
                const T difference = values[i + lane] - expected;
                const T size = difference < 0 ? -difference : difference;
                largest[lane] = size > largest[lane] ? size : largest[lane];
                sums[lane] += T(0) * difference;
            }
        }
        T result = 0, sum = 0;
        for (Index lane = 0; lane < lanes; ++lane) {
            result = largest[lane] > result ? largest[lane] : result;
            sum += sums[lane];
        }
        return sum == T(0) ? result : std::numeric_limits<T>::infinity();
    }
};

}  // namespace

template <class X, class Y>
void weighted_sum(View<const X* const> rows, View<const Y> coefficients, View<Y> out, bool accumulate,
                  int threads) {
    sum_over_threads<X, Y>(rows, coefficients.data(), out, accumulate, threads);
}

template <class X, class Y>
void plain_sum(View<const X* const> rows, View<Y> out, bool accumulate, int threads) {
    sum_over_threads<X, Y>(rows, nullptr, out, accumulate, threads);
}

template <class T>
bool all_finite(View<const T> values) {
    return Versions<AllFinite<T>, bool(const T*, Index)>::run(values.data(),
                                                              static_cast<Index>(values.size()));
}

template <class T>
T largest_deviation(View<const T> values, T expected) {
    return Versions<LargestDeviation<T>, T(const T*, Index, T)>::run(
        values.data(), static_cast<Index>(values.size()), expected);
}

template void weighted_sum(View<const double* const>, View<const double>, View<double>, bool, int);
template void weighted_sum(View<const float* const>, View<const float>, View<float>, bool, int);
template void weighted_sum(View<const float* const>, View<const double>, View<double>, bool, int);
template void plain_sum(View<const double* const>, View<double>, bool, int);
template void plain_sum(View<const float* const>, View<float>, bool, int);
template void plain_sum(View<const float* const>, View<double>, bool, int);
template bool all_finite(View<const double>);
template bool all_finite(View<const float>);
template double largest_deviation(View<const double>, double);
template float largest_deviation(View<const float>, float);

}  // namespace cgc
