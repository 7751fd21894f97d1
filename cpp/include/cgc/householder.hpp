// Householder factorisation of a wide matrix M (q x p, q <= p): M = [L 0] Q', L lower triangular (q x q).
//
// The rows of M are contiguous, so every inner loop runs along memory; the same few routines give null
// vectors, orthonormal bases and least-norm solutions. Q is kept as reflectors in the rows of M.
#pragma once

#include "cgc/types.hpp"

namespace cgc {

// Factorises m in place: L on and below the diagonal, reflectors to its right. scales: (q,).
// 2 q^2 (p - q/3) operations.
void lq_factorise(Matrix<double> m, View<double> scales);

// x <- Q x, x: (p,). Column i of Q for x = e_i; the columns i >= q span the null space of M.
void lq_rotate(Matrix<const double> m, View<const double> scales, View<double> x);

// y <- L^-1 y, y: (q,). Infinite or NaN where M has not full rank.
void lq_solve_lower(Matrix<const double> m, View<double> y);

// The x of least norm with M x = b. b: (q,), overwritten; x: (p,).
void lq_least_norm(Matrix<const double> m, View<const double> scales, View<double> b, View<double> x);

// Dot product over eight partial sums: the order of summation is fixed in the text, and compilers can
// vectorise it.
double dot(const double* x, const double* y, Index n);

// y += a x.
void add_scaled(double a, const double* x, double* y, Index n);

}  // namespace cgc
