#include "cgc/decoding.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <thread>

#include "cgc/householder.hpp"
#include "cgc/lu.hpp"

namespace cgc {

namespace {

std::size_t size(Index n) { return static_cast<std::size_t>(n); }

// The parts w, ..., w + width - 1 (mod n) are at most two runs: visit(first part, first entry of the row,
// length).
template <class Visit>
void visit_runs(Index w, Index width, Index n, Visit visit) {
    const Index before_end = std::min(width, n - w);
    visit(w, Index{0}, before_end);
    visit(Index{0}, before_end, width - before_end);
}

}  // namespace

CyclicDecoder::Workspace::Workspace(Index workers)
    : system(size(workers * workers)),
      scales(size(workers)),
      right(size(workers)),
      unknowns(size(workers)),
      residual(size(workers)),
      projected(size(workers)),
      full(size(workers)),
      squares(size(workers)),
      partial_squares(size(workers)),
      set_vector(size(workers)),
      missing(size(workers)),
      set_rows(size(workers)),
      pivots(size(workers)),
      present(size(workers)) {}

CyclicDecoder::CyclicDecoder(Matrix<const double> h, Matrix<const double> coefficients)
    : workers_(h.columns),
      redundancy_(h.rows),
      rank_(h.columns - h.rows),
      coefficients_(coefficients.data, coefficients.data + coefficients.rows * coefficients.columns),
      solution_map_(size(rank_ * workers_), 0.0),
      vector_map_(size(workers_ * workers_), 0.0),
      solution_(size(rank_), 0.0),
      full_vector_(size(workers_), 0.0),
      range_(size(rank_ * workers_), 0.0),
      complement_(size(workers_ * redundancy_)) {
    const Index n = workers_;
    std::vector<double> scales(size(n));

    double* row_space = solution_map_.data();  // Q' first, solved for in place below
    std::vector<double> triangle(size(rank_ * n), 0.0);
    std::vector<double> factors(h.data, h.data + h.rows * h.columns);
    lq_factorise({factors.data(), redundancy_, n, n}, scales);
    for (Index i = 0; i < rank_; ++i) {
        const View<double> column(row_space + i * n, size(n));
        column[redundancy_ + i] = 1.0;
        lq_rotate({factors.data(), redundancy_, n, n}, scales, column);
    }

    // (B Q)' = R' [U Z]', factorised in place.
    for (Index i = 0; i < rank_; ++i)
        for (Index w = 0; w < n; ++w) {
            const double* row = coefficients_.data() + w * (redundancy_ + 1);
            const double* direction = row_space + i * n;
            visit_runs(w, redundancy_ + 1, n, [&](Index part, Index entry, Index length) {
                triangle[size(i * n + w)] += dot(row + entry, direction + part, length);
            });
        }
    lq_factorise({triangle.data(), rank_, n, n}, scales);
    std::vector<double> column(size(n));
    for (Index i = 0; i < n; ++i) {
        std::fill(column.begin(), column.end(), 0.0);
        column[size(i)] = 1.0;
        lq_rotate({triangle.data(), rank_, n, n}, scales, column);
        if (i < rank_)
            std::copy(column.begin(), column.end(), range_.begin() + i * n);
        else
            for (Index w = 0; w < n; ++w) complement_[size(w * redundancy_ + i - rank_)] = column[size(w)];
    }

    const std::vector<double> ones(size(n), 1.0);
    for (Index i = 0; i < rank_; ++i) {
        const double* row = triangle.data() + i * n;
        double* map = solution_map_.data() + i * n;
        solution_[size(i)] = (dot(map, ones.data(), n) - dot(row, solution_.data(), i)) / row[i];
        for (Index j = 0; j < i; ++j) add_scaled(-row[j], solution_map_.data() + j * n, map, n);
        for (Index part = 0; part < n; ++part) map[part] /= row[i];
        const double* direction = range_.data() + i * n;
        add_scaled(solution_[size(i)], direction, full_vector_.data(), n);
        for (Index w = 0; w < n; ++w) add_scaled(direction[w], map, vector_map_.data() + w * n, n);
    }
}

void CyclicDecoder::decoding_vector(View<const Index> rows, View<double> vector, Workspace& workspace) const {
    const Index n = workers_;
    const Index present = static_cast<Index>(rows.size());
    const Index absent = n - present;
    const Index width = redundancy_ + 1;
    const bool by_missing = absent < rank_;

    // The smaller system, one equation a row, and its factors.
    Matrix<double> system;
    if (by_missing) {
        std::fill(workspace.present.begin(), workspace.present.end(), char{0});
        for (const Index w : rows) workspace.present[size(w)] = 1;
        system = {workspace.system.data(), absent, redundancy_, redundancy_};
        Index equation = 0;
        for (Index w = 0; w < n; ++w)
            if (!workspace.present[size(w)]) {
                workspace.missing[size(equation)] = w;
                std::copy_n(complement_.data() + w * redundancy_, redundancy_, system.row(equation));
                ++equation;
            }
    } else {
        system = {workspace.system.data(), rank_, present, present};
        for (Index i = 0; i < rank_; ++i)
            for (Index j = 0; j < present; ++j) system(i, j) = range_[size(i * n + rows[size(j)])];
    }
    const bool square = system.rows == system.columns;
    if (square)
        lu_factorise(system, workspace.pivots);
    else
        lq_factorise(system, workspace.scales);
    const Matrix<const double> factors{system.data, system.rows, system.columns, system.row_stride};
    const auto solve = [&](View<double> right, View<double> solution) {
        if (square)
            lu_solve(factors, workspace.pivots, right, solution);
        else
            lq_least_norm(factors, workspace.scales, right, solution);
    };

    const View<double> residual(workspace.residual);
    const View<double> projected(workspace.projected.data(), size(rank_));
    const View<double> unknowns(workspace.unknowns.data(), size(system.columns));
    std::fill(vector.begin(), vector.end(), 0.0);
    std::fill(residual.begin(), residual.end(), 1.0);
    for (int pass = 0; pass < 2; ++pass) {
        if (pass > 0)
            for (Index j = 0; j < present; ++j) {
                const double* row = coefficients_.data() + rows[size(j)] * width;
                visit_runs(rows[size(j)], width, n, [&](Index part, Index entry, Index length) {
                    add_scaled(-vector[size(j)], row + entry, residual.data() + part, length);
                });
            }
        if (!by_missing) {
            if (pass == 0)
                std::copy(solution_.begin(), solution_.end(), projected.begin());
            else
                for (Index i = 0; i < rank_; ++i)
                    projected[size(i)] = dot(solution_map_.data() + i * n, residual.data(), n);
            solve(projected, unknowns);
            for (Index j = 0; j < present; ++j) vector[size(j)] += unknowns[size(j)];
            continue;
        }
        if (pass == 0)
            std::copy(full_vector_.begin(), full_vector_.end(), workspace.full.begin());
        else
            for (Index w = 0; w < n; ++w)
                workspace.full[size(w)] = dot(vector_map_.data() + w * n, residual.data(), n);
        for (Index i = 0; i < absent; ++i)
            workspace.right[size(i)] = -workspace.full[size(workspace.missing[size(i)])];
        solve(View<double>(workspace.right.data(), size(absent)), unknowns);
        for (Index j = 0; j < present; ++j)
            vector[size(j)] +=
                workspace.full[size(rows[size(j)])] +
                dot(complement_.data() + rows[size(j)] * redundancy_, unknowns.data(), redundancy_);
    }
}

void CyclicDecoder::decode_in_order(View<const CyclicDecoder* const> codes, View<const Index> order,
                                    View<Index> rows, View<double> vectors, View<double> errors) {
    if (codes.empty()) return;
    const Index n = codes.front()->workers_;
    Workspace workspace(n);
    std::vector<Index> arrival(size(n), n);  // of each row
    for (std::size_t i = 0; i < order.size(); ++i) arrival[size(order[i])] = static_cast<Index>(i);
    std::size_t offset = 0;
    for (std::size_t c = 0; c < codes.size(); ++c) {
        const std::size_t count = size(codes[c]->rank_);
        const View<Index> present = rows.subspan(offset, count);
        const View<double> vector = vectors.subspan(offset, count);
        std::size_t next = 0;
        for (Index w = 0; w < n; ++w)
            if (arrival[size(w)] < codes[c]->rank_) present[next++] = w;
        codes[c]->decoding_vector(present, vector, workspace);
        errors[c] = codes[c]->predicted_error(present, vector, workspace);
        offset += count;
    }
}

// Let d_j be the partial derivative summed over part j, the same bits in every worker that holds j, so that
// its own error is no matter of decoding; sum_j |d_j| = 1. With u = 2^-53, to first order in u, rounding adds
// these terms delta c, |delta| <= u, to the decoded sum_r a_r p_r, p_r = sum_j B_rj d_j:
//   payload r     s + 1 products and s additions: c = a_r times a product or a partial sum; the products
//   together,
//                 and every partial sum, are at most q_r = sum_j |B_rj| |d_j|
//                                                            sum c^2 <= (s + 1) sum_r a_r^2 q_r^2
//   decoding      the products a_r p_r                       sum c^2 <= sum_r a_r^2 q_r^2
//                 the partial sums, added in the order of the rows: c = sum_j d_j P_mj, P_mj = sum_{r<=m} a_r
//                 B_rj
//                                                            sum c^2  = sum_{m>=2} (sum_j d_j P_mj)^2
// By convexity of the square, (sum_j |d_j| y_j)^2 <= sum_j |d_j| y_j^2 <= max_j y_j^2, so for all d together
//   sum c^2 <= max_j [ (s + 2) sum_r a_r^2 B_rj^2 + sum_{m>=2} P_mj^2 ].
// The residual a'B - 1 is evaluated here with the products and partial sums of the decoding, once more: hence
// s + 3 and 2 below. The deltas are taken as independent with mean zero (Higham & Mary, SIAM J. Sci. Comput.
// 41, 2019): by Hoeffding's inequality |sum delta c| > 6 u sqrt(sum c^2) has probability below 2 exp(-18) =
// 3e-8, and below 2 exp(-54) if rounding errors are spread evenly over their range. For up to 36 terms it is
// no matter of chance: sum |c| <= sqrt(36 sum c^2).
//   float32 payloads are these float64 sums, each rounded once more on its way, with v = 2^-24, and widened
//   before they are multiplied and added: c = a_r p_r, sum c^2 <= max_j sum_r a_r^2 B_rj^2, comes on top.
double CyclicDecoder::predicted_error(View<const Index> rows, View<const double> vector, Workspace& workspace,
                                      bool single) const {
    const Index n = workers_;
    const Index width = redundancy_ + 1;
    double* sums = workspace.full.data();
    double* squares = workspace.squares.data();
    double* partial_squares = workspace.partial_squares.data();
    std::fill_n(sums, n, 0.0);
    std::fill_n(squares, n, 0.0);
    std::fill_n(partial_squares, n, 0.0);
    for (std::size_t m = 0; m < rows.size(); ++m) {
        const Index w = rows[m];
        const double* row = coefficients_.data() + w * width;
        visit_runs(w, width, n, [&](Index part, Index entry, Index length) {
            for (Index i = 0; i < length; ++i) {
                const double term = vector[m] * row[entry + i];
                sums[part + i] += term;
                squares[part + i] += term * term;
            }
        });
        if (m > 0)
            for (Index part = 0; part < n; ++part) partial_squares[part] += sums[part] * sums[part];
    }
    const auto product_terms = static_cast<double>(redundancy_ + 3);
    double residual = 0.0;
    double variance = 0.0;
    double payload_variance = 0.0;
    for (Index part = 0; part < n; ++part) {
        const double deviation = std::fabs(sums[part] - 1.0);
        if (!std::isfinite(deviation)) return std::numeric_limits<double>::infinity();
        residual = std::max(residual, deviation);
        variance = std::max(variance, product_terms * squares[part] + 2.0 * partial_squares[part]);
        payload_variance = std::max(payload_variance, squares[part]);
    }
    constexpr double deviations = 6.0;
    constexpr double unit_roundoff = std::numeric_limits<double>::epsilon() / 2;
    constexpr double payload_roundoff = std::numeric_limits<float>::epsilon() / 2;
    const double error = residual + deviations * unit_roundoff * std::sqrt(variance);
    return single ? error + deviations * payload_roundoff * std::sqrt(payload_variance) : error;
}

void CyclicDecoder::profile(Matrix<const Index> stragglers, View<double> errors, int threads,
                            bool single) const {
    const Index half = threads < 2 ? 0 : stragglers.rows / 2;
    if (half == 0) {
        Workspace workspace(workers_);
        profile_range(stragglers, errors, 0, stragglers.rows, single, workspace);
        return;
    }
    // Memory for both first: nothing can throw once the other thread runs.
    Workspace here(workers_), beside(workers_);
    std::thread other([&] { profile_range(stragglers, errors, 0, half, single, beside); });
    profile_range(stragglers, errors, half, stragglers.rows, single, here);
    other.join();
}

void CyclicDecoder::profile_range(Matrix<const Index> stragglers, View<double> errors, Index begin, Index end,
                                  bool single, Workspace& workspace) const {
    const View<Index> rows(workspace.set_rows.data(), size(workers_ - stragglers.columns));
    const View<double> vector(workspace.set_vector.data(), rows.size());
    for (Index set = begin; set < end; ++set) {
        std::fill(workspace.present.begin(), workspace.present.end(), char{1});
        for (const Index w : stragglers.row_view(set)) workspace.present[size(w)] = 0;
        std::size_t count = 0;
        for (Index w = 0; w < workers_; ++w)
            if (workspace.present[size(w)]) rows[count++] = w;
        decoding_vector(rows, vector, workspace);
        errors[size(set)] = predicted_error(rows, vector, workspace, single);
    }
}

}  // namespace cgc
