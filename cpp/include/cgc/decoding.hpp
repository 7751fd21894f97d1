// Decoding vectors of a cyclic code, and the error that decoding with them must be expected to make.
#pragma once

#include <vector>

#include "cgc/types.hpp"

namespace cgc {

// Solves a' B_F = 1' for sets F of rows of one encoding matrix B (N x N, rank r = N - s).
//
// Once: B = U R Q', with Q (N x r) an orthonormal basis of the row space of B, which is the null space of h,
// and [U Z] orthogonal (N x N). For every F, k = |F| >= r, the vector of least norm comes from the smaller of
// two systems, of the same conditioning (U_F and Z_F' are complementary blocks of an orthogonal matrix):
//   rows present   U_F' a = t,                r equations in k unknowns, where R' t = Q' 1;
//   rows missing   a = U t + Z c, Z_S c = -U_S t,   m = N - k equations in s unknowns, S the missing rows.
// With exactly r rows both are square and solved by L U factors, else by Householder reflectors. A second
// pass solves for the residual of the first with the same factors; what it needs of all rows, t and U t as
// linear maps of the residual, is made once.
class CyclicDecoder {
  public:
    // Scratch memory of one thread; nothing else is allocated by the calls that take it.
    class Workspace {
      public:
        explicit Workspace(Index workers);

      private:
        friend class CyclicDecoder;
        std::vector<double> system, scales, right, unknowns, residual, projected, full, squares,
            partial_squares, set_vector;
        std::vector<Index> missing, set_rows, pivots;
        std::vector<char> present;
    };

    // h: (s, N) and coefficients: (N, s + 1) as in cyclic_coefficients. O(N^3) operations.
    CyclicDecoder(Matrix<const double> h, Matrix<const double> coefficients);

    Index workers() const { return workers_; }
    Index redundancy() const { return redundancy_; }

    // The vector of least norm with vector' B[rows] = 1'. rows: (k,), distinct, in [0, N), k >= N - s, any
    // order; vector: (k,). Not finite if the rows do not span the all-ones row.
    // O(N min(r, N - k)^2 + N^2) operations.
    void decoding_vector(View<const Index> rows, View<double> vector, Workspace& workspace) const;

    // Decoding vectors of many codes of the same workers for one order of arrival: code c decodes from the
    // first r_c of order, sorted. rows and vectors: the r_c entries of every code, one code after the other;
    // errors: (codes,), predicted_error. order: (n,), distinct, n >= every r_c.
    static void decode_in_order(View<const CyclicDecoder* const> codes, View<const Index> order,
                                View<Index> rows, View<double> vectors, View<double> errors);

    // What decoding payloads with this vector may be off by, relative to the sum over the parts of the
    // magnitudes of their derivatives; derived in the source. Infinity if the vector is not finite.
    // single: payloads are rounded to float32 once, and widened before anything is done with them.
    // O(k N) operations.
    double predicted_error(View<const Index> rows, View<const double> vector, Workspace& workspace,
                           bool single = false) const;

    // predicted_error of the decoding vector of all rows but those of each straggler set.
    // stragglers: (sets, m), distinct in each row, m <= s; errors: (sets,). One thread, or two.
    void profile(Matrix<const Index> stragglers, View<double> errors, int threads, bool single = false) const;

  private:
    void profile_range(Matrix<const Index> stragglers, View<double> errors, Index begin, Index end,
                       bool single, Workspace& workspace) const;

    Index workers_, redundancy_, rank_;
    std::vector<double> coefficients_;  // (N, s + 1), as given
    std::vector<double> solution_map_;  // R'^-1 Q', (r, N): residual to t
    std::vector<double> vector_map_;    // U R'^-1 Q', (N, N): residual to U t
    std::vector<double> solution_;      // t for the all-ones row, (r,)
    std::vector<double> full_vector_;   // U t, (N,)
    std::vector<double> range_;         // U', (r, N)
    std::vector<double> complement_;    // Z, (N, s)
};

}  // namespace cgc
