// The one text of the kernels of combine.hpp. It is included inside a namespace, so that it can be compiled
// once for each instruction set; it uses no function from outside that namespace.

// y[0..n) (+)= a[0] x[0] + ... + a[R-1] x[R-1], left to right.
template <int R, bool Add, class T>
void add_rows(const T* const* x, const T* a, T* __restrict y, Index n) {
    const T* __restrict x0 = x[0];
    const T* __restrict x1 = R > 1 ? x[1] : x0;
    const T* __restrict x2 = R > 2 ? x[2] : x0;
    const T* __restrict x3 = R > 3 ? x[3] : x0;
    const T a0 = a[0], a1 = R > 1 ? a[1] : T(0), a2 = R > 2 ? a[2] : T(0), a3 = R > 3 ? a[3] : T(0);
    for (Index i = 0; i < n; ++i) {
        T sum = Add ? y[i] + a0 * x0[i] : a0 * x0[i];
        if constexpr (R > 1) sum += a1 * x1[i];
        if constexpr (R > 2) sum += a2 * x2[i];
        if constexpr (R > 3) sum += a3 * x3[i];
        y[i] = sum;
    }
}

template <bool Add, class T>
void add_up_to_four(int count, const T* const* x, const T* a, T* y, Index n) {
    switch (count) {
        case 1:
            return add_rows<1, Add>(x, a, y, n);
        case 2:
            return add_rows<2, Add>(x, a, y, n);
        case 3:
            return add_rows<3, Add>(x, a, y, n);
        default:
            return add_rows<4, Add>(x, a, y, n);
    }
}

template <class T>
void weighted_sum(const T* const* rows, const T* coefficients, Index count, T* out, Index length,
                  bool accumulate) {
    // A chunk of the output stays in the first-level cache while the rows stream past it, four at a time.
    constexpr Index chunk = 8192 / sizeof(T);
    for (Index begin = 0; begin < length; begin += chunk) {
        const Index n = length - begin < chunk ? length - begin : chunk;
        T* y = out + begin;
        if (count == 0 && !accumulate)
            for (Index i = 0; i < n; ++i) y[i] = T(0);
        for (Index first = 0; first < count; first += 4) {
            const int group = static_cast<int>(count - first < 4 ? count - first : 4);
            const T* x[4] = {};
            for (int r = 0; r < group; ++r) x[r] = rows[first + r] + begin;
            if (first > 0 || accumulate)
                add_up_to_four<true>(group, x, coefficients + first, y, n);
            else
                add_up_to_four<false>(group, x, coefficients, y, n);
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
