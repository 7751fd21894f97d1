// The one text of the kernels of combine.hpp. It is included inside a namespace, so that it can be compiled
// once for each instruction set; it uses no function from outside that namespace.

// y[0..n) (+)= a[0] x[0] + ... + a[R-1] x[R-1], left to right.
template <int R, bool Add, class T>
void add_rows(const T* const* x, const T* a, T* __restrict y, Index n) {
    const T* rows[R];
    T factors[R];
    for (int r = 0; r < R; ++r) rows[r] = x[r], factors[r] = a[r];
    for (Index i = 0; i < n; ++i) {
        T sum = Add ? y[i] + factors[0] * rows[0][i] : factors[0] * rows[0][i];
#pragma GCC unroll 8  // before the outer loop is vectorised
        for (int r = 1; r < R; ++r) sum += factors[r] * rows[r][i];
        y[i] = sum;
    }
}

constexpr int group = 8;

template <bool Add, class T>
void add_group(int count, const T* const* x, const T* a, T* y, Index n) {
    switch (count) {
        case 1:
            return add_rows<1, Add>(x, a, y, n);
        case 2:
            return add_rows<2, Add>(x, a, y, n);
        case 3:
            return add_rows<3, Add>(x, a, y, n);
        case 4:
            return add_rows<4, Add>(x, a, y, n);
        case 5:
            return add_rows<5, Add>(x, a, y, n);
        case 6:
            return add_rows<6, Add>(x, a, y, n);
        case 7:
            return add_rows<7, Add>(x, a, y, n);
        default:
            return add_rows<group, Add>(x, a, y, n);
    }
}

template <class T>
void weighted_sum(const T* const* rows, const T* coefficients, Index count, T* out, Index length,
                  bool accumulate) {
    if (count == 0 && !accumulate)
        for (Index i = 0; i < length; ++i) out[i] = T(0);
    // A chunk of the output stays in the second-level cache while the rows stream past it, eight at a time.
    // Shorter chunks would fit the first level, but break the rows into runs too short for hardware
    // prefetching.
    constexpr Index chunk = 65536 / sizeof(T);
    for (Index begin = 0; begin < length; begin += chunk) {
        const Index n = length - begin < chunk ? length - begin : chunk;
        for (Index first = 0; first < count; first += group) {
            const int present = static_cast<int>(count - first < group ? count - first : group);
            const T* x[group] = {};
            for (int r = 0; r < present; ++r) x[r] = rows[first + r] + begin;
            if (first > 0 || accumulate)
                add_group<true>(present, x, coefficients + first, out + begin, n);
            else
                add_group<false>(present, x, coefficients, out + begin, n);
        }
    }
}

template <class T>
bool all_finite(const T* values, Index length) {
    // 0 * x is a zero, or NaN for NaN and infinity, which no sum loses.
    constexpr Index lanes = 64 / sizeof(T), chunk = 4096;
    for (Index begin = 0; begin < length; begin += chunk) {
        const Index end = length - begin < chunk ? length : begin + chunk;
        T sums[lanes] = {};
        Index i = begin;
        for (; i + lanes <= end; i += lanes)
            for (Index lane = 0; lane < lanes; ++lane) sums[lane] += T(0) * values[i + lane];
        T total = 0;
        for (; i < end; ++i) total += T(0) * values[i];
        for (Index lane = 0; lane < lanes; ++lane) total += sums[lane];
        if (!(total == T(0))) return false;
    }
    return true;
}
