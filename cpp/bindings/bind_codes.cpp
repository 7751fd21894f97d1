#include <pybind11/stl.h>

#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "array.hpp"
#include "cgc/cyclic_code.hpp"
#include "cgc/decoding.hpp"

namespace cgc::bindings {

namespace {

Array<double> coefficients_of(const Array<double>& h_array) {
    const Matrix<const double> h = matrix(h_array, "h");
    if (h.rows >= h.columns)
        throw std::invalid_argument("h: expected fewer rows than columns, got shape (" +
                                    std::to_string(h.rows) + ", " + std::to_string(h.columns) + ")");
    Array<double> coefficients({h.columns, h.rows + 1});
    const Matrix<double> out = writable_matrix(coefficients, "coefficients");
    {
        py::gil_scoped_release release;
        cyclic_coefficients(h, out);
    }
    return coefficients;
}

std::unique_ptr<CyclicDecoder> make_decoder(const Array<double>& h_array,
                                            const Array<double>& coefficients_array) {
    const Matrix<const double> h = matrix(h_array, "h");
    const Matrix<const double> coefficients = matrix(coefficients_array, "coefficients");
    if (h.rows >= h.columns)
        throw std::invalid_argument("h: expected fewer rows than columns, got shape (" +
                                    std::to_string(h.rows) + ", " + std::to_string(h.columns) + ")");
    require_length(coefficients.rows, h.columns, "coefficients, first dimension");
    require_length(coefficients.columns, h.rows + 1, "coefficients, second dimension");
    py::gil_scoped_release release;
    return std::make_unique<CyclicDecoder>(h, coefficients);
}

// Distinct and in range, or an error; indices into a matrix are not taken on trust.
void require_distinct(View<const Index> rows, Index workers, std::vector<char>& seen, const char* name) {
    seen.assign(static_cast<std::size_t>(workers), 0);
    for (const Index row : rows) {
        if (row < 0 || row >= workers)
            throw std::invalid_argument(std::string(name) + ": expected indices in [0, " +
                                        std::to_string(workers) + "), got " + std::to_string(row));
        if (seen[static_cast<std::size_t>(row)]++)
            throw std::invalid_argument(std::string(name) + ": expected distinct indices, got " +
                                        std::to_string(row) + " twice");
    }
}

View<const Index> decodable_rows(const CyclicDecoder& decoder, const Array<Index>& array) {
    const View<const Index> rows = vector(array, "rows");
    std::vector<char> seen;
    require_distinct(rows, decoder.workers(), seen, "rows");
    if (static_cast<Index>(rows.size()) < decoder.workers() - decoder.redundancy())
        throw std::invalid_argument("rows: expected at least " +
                                    std::to_string(decoder.workers() - decoder.redundancy()) + ", got " +
                                    std::to_string(rows.size()));
    return rows;
}

std::tuple<Array<Index>, Array<double>, Array<double>> decode_in_order(
    const std::vector<const CyclicDecoder*>& codes, const Array<Index>& order_array) {
    const View<const Index> order = vector(order_array, "order");
    Index total = 0;
    for (std::size_t c = 0; c < codes.size(); ++c) {
        if (!codes[c]) throw std::invalid_argument("codes: expected decoders, got None");
        require_length(codes[c]->workers(), codes.front()->workers(), "codes: workers of each");
        const Index rows = codes[c]->workers() - codes[c]->redundancy();
        if (static_cast<Index>(order.size()) < rows)
            throw std::invalid_argument("order: expected at least " + std::to_string(rows) + " rows, got " +
                                        std::to_string(order.size()));
        total += rows;
    }
    std::vector<char> seen;
    if (!codes.empty()) require_distinct(order, codes.front()->workers(), seen, "order");
    Array<Index> rows(total);
    Array<double> vectors(total), errors(static_cast<Index>(codes.size()));
    const View<Index> rows_out = writable_vector(rows, "rows");
    const View<double> vectors_out = writable_vector(vectors, "vectors");
    const View<double> errors_out = writable_vector(errors, "errors");
    {
        py::gil_scoped_release release;
        CyclicDecoder::decode_in_order(codes, order, rows_out, vectors_out, errors_out);
    }
    return {std::move(rows), std::move(vectors), std::move(errors)};
}

}  // namespace

void bind_codes(py::module_& module) {
    module.def(
        "cyclic_coefficients", &coefficients_of, py::arg("h").noconvert(),
        "Encoding coefficients (N, s + 1) of the cyclic code that h (s, N) determines: row w on the parts "
        "w, ..., w + s (mod N).");

    py::class_<CyclicDecoder>(module, "CyclicDecoder",
                              "Decoding vectors of one cyclic code; safe to share between threads.")
        .def(py::init(&make_decoder), py::arg("h").noconvert(), py::arg("coefficients").noconvert())
        .def(
            "decode",
            [](const CyclicDecoder& decoder, const Array<Index>& rows_array) {
                const View<const Index> rows = decodable_rows(decoder, rows_array);
                Array<double> result(static_cast<py::ssize_t>(rows.size()));
                const View<double> out = writable_vector(result, "vector");
                double error = 0.0;
                {
                    py::gil_scoped_release release;
                    CyclicDecoder::Workspace workspace(decoder.workers());
                    decoder.decoding_vector(rows, out, workspace);
                    error = decoder.predicted_error(rows, out, workspace);
                }
                return py::make_tuple(result, error);
            },
            py::arg("rows").noconvert(),
            "The least-norm decoding vector of distinct rows and its predicted error.")
        .def(
            "predicted_error",
            [](const CyclicDecoder& decoder, const Array<Index>& rows_array, const Array<double>& a,
               bool single) {
                const View<const Index> rows = vector(rows_array, "rows");
                const View<const double> coefficients = vector(a, "vector");
                std::vector<char> seen;
                require_distinct(rows, decoder.workers(), seen, "rows");
                require_length(static_cast<Index>(coefficients.size()), static_cast<Index>(rows.size()),
                               "vector");
                py::gil_scoped_release release;
                CyclicDecoder::Workspace workspace(decoder.workers());
                return decoder.predicted_error(rows, coefficients, workspace, single);
            },
            py::arg("rows").noconvert(), py::arg("vector").noconvert(), py::arg("single") = false,
            "Predicted error of decoding float64 payloads of these rows with this vector; single: payloads "
            "that "
            "are rounded to float32 once.")
        .def(
            "profile",
            [](const CyclicDecoder& decoder, const Array<Index>& straggler_array, int threads, bool single) {
                const Matrix<const Index> stragglers = matrix(straggler_array, "stragglers");
                if (stragglers.columns > decoder.redundancy())
                    throw std::invalid_argument("stragglers: expected at most " +
                                                std::to_string(decoder.redundancy()) + " a set, got " +
                                                std::to_string(stragglers.columns));
                std::vector<char> seen;
                for (Index set = 0; set < stragglers.rows; ++set)
                    require_distinct(stragglers.row_view(set), decoder.workers(), seen, "stragglers");
                Array<double> result(stragglers.rows);
                const View<double> errors = writable_vector(result, "errors");
                {
                    py::gil_scoped_release release;
                    decoder.profile(stragglers, errors, threads, single);
                }
                return result;
            },
            py::arg("stragglers").noconvert(), py::arg("threads") = 1, py::arg("single") = false,
            "Predicted error of the decoding vector of all rows but those of each straggler set.");

    module.def(
        "decode_in_order", &decode_in_order, py::arg("codes"), py::arg("order").noconvert(),
        "Decoding vectors of many decoders for one order of arrival: sorted rows and vectors, one code "
        "after the other, and predicted errors.");
}

}  // namespace cgc::bindings
