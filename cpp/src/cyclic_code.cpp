#include "cgc/cyclic_code.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cgc/householder.hpp"

namespace cgc {

void cyclic_coefficients(Matrix<const double> h, Matrix<double> coefficients) {
    const Index workers = h.columns;
    const Index redundancy = h.rows;
    const Index width = redundancy + 1;
    if (width == workers) {
        // The null space of h is the line of the all-ones row: said exactly.
        for (Index w = 0; w < workers; ++w)
            std::fill_n(coefficients.row(w), width, 1.0 / std::sqrt(static_cast<double>(workers)));
        return;
    }
    std::vector<double> values(static_cast<std::size_t>(redundancy * width));
    std::vector<double> scales(static_cast<std::size_t>(redundancy));
    const Matrix<double> columns{values.data(), redundancy, width, width};
    const Matrix<const double> factors{values.data(), redundancy, width, width};
    for (Index w = 0; w < workers; ++w) {
        for (Index i = 0; i < redundancy; ++i)
            for (Index j = 0; j < width; ++j) columns(i, j) = h(i, (w + j) % workers);
        lq_factorise(columns, scales);
        const View<double> row = coefficients.row_view(w);
        std::fill(row.begin(), row.end(), 0.0);
        row[redundancy] = 1.0;
        lq_rotate(factors, scales, row);
        const double factor = std::copysign(1.0, row[0]) / std::sqrt(dot(row.data(), row.data(), width));
        for (double& value : row) value *= factor;
    }
}

}  // namespace cgc
